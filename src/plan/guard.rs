//! What a class that may not see everything must not reach: text run as SQL, files, statistics, other people's code.
//!
//! In: tokens. Out: a refusal. Lenses will make PostgreSQL itself refuse these; until then the list is closed here.

use std::collections::HashSet;

use super::refuse;
use crate::error::Refusal;
use crate::sql::lexer::{Token, TokenKind};
use crate::sql::name::{ident, is_ident};

/// Relations of pg_catalog that show values or texts of others.
pub(super) fn relation_denied(name: &str) -> bool {
    matches!(
        name,
        "pg_stats"
            | "pg_statistic"
            | "pg_statistic_ext_data"
            | "pg_stats_ext"
            | "pg_stats_ext_exprs"
            | "pg_stat_activity"
            | "pg_stat_statements"
            | "pg_largeobject"
            | "pg_largeobject_metadata"
            | "pg_hba_file_rules"
            | "pg_authid"
            | "pg_shadow"
            | "pg_user_mapping"
            | "pg_user_mappings"
            | "pg_subscription"
    )
}

/// Functions of pg_catalog and common extensions that run SQL text, read files or show others' texts.
fn function_denied(name: &str) -> bool {
    const PREFIXES: &[&str] = &[
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
        "gin_",
        "gist_page_",
        "hash_page_",
        "brin_page_",
    ];
    const NAMES: &[&str] = &[
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
    ];
    PREFIXES.iter().any(|prefix| name.starts_with(prefix)) || NAMES.contains(&name)
}

/// Names that are called in the text: every identifier before a parenthesis.
fn calls<'a>(sql: &'a str, tokens: &'a [Token]) -> impl Iterator<Item = std::borrow::Cow<'a, str>> {
    tokens.windows(2).filter(|pair| is_ident(&pair[0]) && pair[1].is_punct(b'(')).map(move |pair| ident(sql, &pair[0]))
}

/// A function or operator that a restricted class may not call. `user`: names of users' functions, symbols of their
/// operators.
pub(super) fn check_calls(sql: &str, tokens: &[Token], user: &HashSet<String>) -> Result<(), Refusal> {
    for name in calls(sql, tokens) {
        if function_denied(&name) || user.contains(&*name) {
            return Err(refuse::function(&format!("function {name}()")));
        }
    }
    // `(row).f` calls f(row) without a parenthesis.
    let attributes = tokens.windows(2).filter(|pair| pair[0].is_punct(b'.') && is_ident(&pair[1]));
    for pair in attributes {
        let name = ident(sql, &pair[1]);
        if user.contains(&*name) {
            return Err(refuse::function(&format!("function {name}()")));
        }
    }
    let symbols = tokens.iter().filter(|token| token.kind == TokenKind::Operator).map(|token| token.text(sql));
    for symbol in symbols {
        if user.contains(symbol) {
            return Err(refuse::function(&format!("operator {symbol}, which users have defined,")));
        }
    }
    let operator = tokens.windows(3).any(|three| {
        three[0].is_word(sql, "operator") && three[1].is_punct(b'(') && *ident(sql, &three[2]) != *"pg_catalog"
    });
    if operator { Err(refuse::function("OPERATOR()")) } else { Ok(()) }
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
