//! What a class that may not see everything must not reach: text run as SQL, files, statistics, other people's code.
//!
//! In: tokens. Out: a refusal. Lenses will make PostgreSQL itself refuse these; until then the list is closed here.

use std::collections::HashSet;

use super::refuse;
use crate::error::Refusal;
use crate::policy::code::{Reached, UsersCode};
use crate::sql::lexer::{Token, TokenKind};
use crate::sql::name::{ident, is_ident};

/// Relations of pg_catalog that show values or texts of others.
pub const RELATIONS_DENIED: &[&str] = &[
    "pg_stats",
    "pg_statistic",
    "pg_statistic_ext_data",
    "pg_stats_ext",
    "pg_stats_ext_exprs",
    "pg_stat_activity",
    "pg_stat_statements",
    "pg_largeobject",
    "pg_largeobject_metadata",
    "pg_hba_file_rules",
    "pg_authid",
    "pg_shadow",
    "pg_user_mapping",
    "pg_user_mappings",
    "pg_subscription",
];

/// Functions of pg_catalog and common extensions that run SQL text, read files or show others' texts, by how they begin.
pub const FUNCTIONS_DENIED_PREFIXES: &[&str] = &[
    "query_to_xml",
    "table_to_xml",
    "schema_to_xml",
    "database_to_xml",
    "cursor_to_xml",
    "dblink",
    "pg_read_",
    "pg_ls_",
    "lo_",
    "pg_logical_",
    "pg_stat_get_backend_",
    "pg_stat_get_activity",
    "pg_file_",
    "pg_walinspect",
    "crosstab",
    "bt_page_",
    "bt_multi_page_",
    "gin_page_",
    "gin_metapage_",
    "gin_leafpage_",
    "gist_page_",
    "hash_page_",
    "brin_page_",
];

/// The same, by their whole name; and those that take a type or table as a number or text and then run its users' code.
pub const FUNCTIONS_DENIED: &[&str] = &[
    "ts_stat",
    "ts_rewrite",
    "pg_stat_file",
    "loread",
    "lowrite",
    "currtid2",
    "get_raw_page",
    "heap_page_items",
    "heap_page_item_attrs",
    "page_header",
    "pgrowlocks",
    "pg_get_wal_record_info",
    "pg_get_wal_records_info",
    "pg_get_wal_block_info",
    "connectby",
    "xpath_table",
    "domain_in",
    "domain_recv",
    "array_in",
    "array_recv",
    "record_in",
    "record_recv",
    "range_in",
    "range_recv",
    "multirange_in",
    "multirange_recv",
    "pg_input_is_valid",
    "pg_input_error_info",
    "satisfies_hash_partition",
];

/// See [`RELATIONS_DENIED`].
pub(super) fn relation_denied(name: &str) -> bool {
    RELATIONS_DENIED.contains(&name)
}

fn function_denied(name: &str) -> bool {
    FUNCTIONS_DENIED_PREFIXES.iter().any(|prefix| name.starts_with(prefix)) || FUNCTIONS_DENIED.contains(&name)
}

/// Names that are called in the text: every identifier before a parenthesis.
fn calls<'a>(sql: &'a str, tokens: &'a [Token]) -> impl Iterator<Item = std::borrow::Cow<'a, str>> {
    tokens.windows(2).filter(|pair| is_ident(&pair[0]) && pair[1].is_punct(b'(')).map(move |pair| ident(sql, &pair[0]))
}

/// A function or operator that a restricted class may not call.
pub(super) fn check_calls(sql: &str, tokens: &[Token], code: &UsersCode) -> Result<(), Refusal> {
    for name in calls(sql, tokens) {
        if function_denied(&name) {
            return Err(refuse::function(&format!("function {name}()")));
        }
        if let Some(reached) = code.called.get(&name.to_lowercase()) {
            return Err(refuse::users_code(reached));
        }
    }
    // `(row).f` calls f(row) without a parenthesis.
    let attributes = tokens.windows(2).filter(|pair| pair[0].is_punct(b'.') && is_ident(&pair[1]));
    for pair in attributes {
        let name = ident(sql, &pair[1]);
        // Columns do begin with `lo_`; of those functions only one shows something.
        if (function_denied(&name) && !name.starts_with("lo_")) || name == "lo_get" {
            return Err(refuse::function(&format!("function {name}()")));
        }
        if let Some(reached) = code.called.get(&name.to_lowercase()) {
            return Err(refuse::users_code(reached));
        }
    }
    if !code.operators.is_empty()
        && let Some(reached) = tokens.iter().find_map(|token| operator_of(sql, token, code))
    {
        return Err(refuse::users_code(reached));
    }
    let operator = tokens.windows(3).any(|three| {
        three[0].is_word(sql, "operator") && three[1].is_punct(b'(') && *ident(sql, &three[2]) != *"pg_catalog"
    });
    if operator { Err(refuse::function("OPERATOR()")) } else { Ok(()) }
}

/// Words that stand for operators, which are looked for along the search path like any other.
const OPERATOR_WORDS: &[(&[&str], &[&str])] = &[
    (&["like"], &["~~", "!~~"]),
    (&["ilike"], &["~~*", "!~~*"]),
    (&["similar"], &["~", "!~"]),
    (&["between"], &["<", "<=", ">", ">="]),
    (&["in", "case", "distinct", "nullif", "using", "natural"], &["=", "<>"]),
];

/// The users' operator that a token is, or may stand for.
fn operator_of<'c>(sql: &str, token: &Token, code: &'c UsersCode) -> Option<&'c Reached> {
    match token.kind {
        // The grammar takes `!=` for `<>`.
        TokenKind::Operator if token.text(sql) == "!=" => code.operators.get("<>"),
        TokenKind::Operator => code.operators.get(token.text(sql)),
        TokenKind::Ident => {
            let (_, symbols) =
                OPERATOR_WORDS.iter().find(|(words, _)| words.iter().any(|word| token.is_word(sql, word)))?;
            symbols.iter().find_map(|symbol| code.operators.get(*symbol))
        }
        _ => None,
    }
}

/// What a statement may make run beside what it calls.
#[derive(Clone, Copy, Debug)]
pub(super) struct Runs {
    /// It computes something: queries, data changes, COPY, definitions.
    pub(super) computes: bool,
    /// It may write a relation that it names, or define something on it.
    pub(super) writes: bool,
    /// It is a definition.
    pub(super) defines: bool,
}

/// Users' code behind relations and types that the text names. Every word counts, wherever it stands: which relation or
/// type a bare name means is the server's business and may change until the statement runs, and a type needs no cast in
/// sight (`'x'::t`, `t 'x'`, `t('x')`, `(x).t`, column lists of functions).
pub(super) fn check_names(sql: &str, tokens: &[Token], code: &UsersCode, runs: Runs) -> Result<(), Refusal> {
    let found = |reached: &Option<Reached>, when: bool| reached.as_ref().filter(|_| when).map(refuse::users_code);
    if let Some(refusal) = found(&code.any, runs.computes).or_else(|| found(&code.definitions, runs.defines)) {
        return Err(refusal);
    }
    if !runs.computes || (code.read.is_empty() && code.written.is_empty()) {
        return Ok(());
    }
    for token in tokens.iter().filter(|token| is_ident(token)) {
        let name = ident(sql, token).to_lowercase();
        let written = code.written.get(&name).filter(|_| runs.writes);
        if let Some(reached) = code.read.get(&name).or(written) {
            return Err(refuse::users_code(reached));
        }
    }
    Ok(())
}

/// Whether INSERT, UPDATE, DELETE, MERGE or COPY … FROM stands in the tokens of a query, COPY, EXPLAIN, …;
/// FOR [NO KEY] UPDATE only locks.
pub(super) fn changes(sql: &str, tokens: &[Token]) -> bool {
    let word = |at: usize, words: &[&str]| words.iter().any(|word| tokens[at].is_word(sql, word));
    let copy = tokens.first().is_some_and(|token| token.is_word(sql, "copy"));
    let mut depth = 0usize;
    (0..tokens.len()).any(|at| {
        match tokens[at].kind {
            TokenKind::Punct(b'(') => depth += 1,
            TokenKind::Punct(b')') => depth = depth.saturating_sub(1),
            _ => {}
        }
        let locks = at > 0 && word(at - 1, &["for", "key"]);
        word(at, &["insert", "delete", "merge"])
            || (word(at, &["update"]) && !locks)
            || (copy && depth == 0 && word(at, &["from"]))
    })
}

/// A function whose rows hold sealed columns: nobody knows which column of the result is which.
pub(super) fn check_sealed_calls(sql: &str, tokens: &[Token], sealed: &HashSet<String>) -> Result<(), Refusal> {
    match calls(sql, tokens).find(|name| sealed.contains(&**name)) {
        Some(name) => Err(refuse::sealed_function(&name)),
        None => Ok(()),
    }
}

/// What calls of the text mean for an unrestricted class.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Calls {
    /// A function made by users is called: it may do anything.
    pub(super) user: bool,
    /// `set_config` is called.
    pub(super) settings: bool,
}

/// See [`Calls`].
pub(super) fn calls_of(sql: &str, tokens: &[Token], user: &HashSet<String>) -> Calls {
    let mut found = Calls::default();
    for name in calls(sql, tokens) {
        found.user |= user.contains(&*name);
        found.settings |= name == "set_config";
    }
    found
}
