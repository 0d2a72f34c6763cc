//! What a class that may not see everything must not reach: text run as SQL, files, statistics, other people's code.
//!
//! In: tokens. Out: a refusal. Never: protection of a class with a lens; PostgreSQL itself holds that one.

use std::collections::HashSet;

use super::refuse;
use crate::error::Refusal;
use crate::policy::code::{Reached, UsersCode};
use crate::policy::functions::{Functions, Sort};
use crate::sql::lexer::{Token, TokenKind};
use crate::sql::name::{ident, is_ident};
use crate::sql::schema::Schema;

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

/// See [`RELATIONS_DENIED`].
pub(super) fn relation_denied(name: &str) -> bool {
    RELATIONS_DENIED.contains(&name)
}

/// Names that are called in the text: every identifier before a parenthesis.
fn calls<'a>(sql: &'a str, tokens: &'a [Token]) -> impl Iterator<Item = std::borrow::Cow<'a, str>> {
    tokens.windows(2).filter(|pair| is_ident(&pair[0]) && pair[1].is_punct(b'(')).map(move |pair| ident(sql, &pair[0]))
}

/// A function or operator that a restricted class may not call.
pub(super) fn check_calls(sql: &str, tokens: &[Token], code: &UsersCode, functions: &Functions) -> Result<(), Refusal> {
    let denied = |name: &str| functions.sort(name).is_some();
    for name in calls(sql, tokens) {
        if denied(&name) {
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
        if (denied(&name) && !name.starts_with("lo_")) || name == "lo_get" {
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
    /// SQL that nobody has read runs.
    pub(super) sql: bool,
    /// It reaches files of the server.
    pub(super) files: bool,
}

/// See [`Calls`].
pub(super) fn calls_of(sql: &str, tokens: &[Token], schema: &Schema) -> Calls {
    let (mut found, functions) = (Calls::default(), Functions::of(schema.server_version));
    for name in calls(sql, tokens) {
        let sort = functions.sort(&name);
        found.user |= schema.user_functions.contains(&*name);
        found.settings |= name == "set_config";
        found.sql |= sort == Some(Sort::Sql);
        found.files |= sort.is_some_and(Sort::reaches_files);
    }
    found
}
