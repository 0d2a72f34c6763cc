//! What kind of statement it is, from its first words; and whether it mentions a name.
//!
//! In: tokens. Out: a [`Kind`], the statement inside another, names of cursors and prepared statements. Never: a tree; this
//! works for statements that sqlparser cannot read.

use std::collections::HashSet;
use std::ops::Range;

use super::cursor::Cursor;
use super::lexer::{NAME_BYTES_MAX, Token, TokenKind};
use super::name::ident;

/// Kinds of statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "PostgreSQL's own words")]
pub enum Kind {
    /// SELECT, VALUES, TABLE, or one of them in parentheses.
    Query,
    /// WITH: a query, or a data change.
    With,
    Insert,
    Update,
    Delete,
    Merge,
    Copy,
    Begin,
    Commit,
    Rollback,
    Savepoint,
    Release,
    RollbackTo,
    PrepareTransaction,
    CommitPrepared,
    RollbackPrepared,
    /// SET, without SET TRANSACTION, SET SESSION CHARACTERISTICS and SET CONSTRAINTS.
    Set,
    SetTransaction,
    SetConstraints,
    Reset,
    Discard,
    Show,
    Do,
    Call,
    Listen,
    Notify,
    Unlisten,
    Declare,
    Fetch,
    Move,
    Close,
    Prepare,
    Execute,
    Deallocate,
    Explain,
    Truncate,
    Lock,
    Vacuum,
    Analyze,
    Cluster,
    Reindex,
    Checkpoint,
    Load,
    /// REFRESH MATERIALIZED VIEW.
    Refresh,
    Create,
    Alter,
    Drop,
    Grant,
    Revoke,
    Comment,
    SecurityLabel,
    ImportForeignSchema,
    ReassignOwned,
    /// No statement of PostgreSQL starts like this.
    Unknown,
}

impl Kind {
    /// BEGIN to ROLLBACK PREPARED.
    pub fn is_transaction(self) -> bool {
        matches!(
            self,
            Kind::Begin
                | Kind::Commit
                | Kind::Rollback
                | Kind::Savepoint
                | Kind::Release
                | Kind::RollbackTo
                | Kind::PrepareTransaction
                | Kind::CommitPrepared
                | Kind::RollbackPrepared
        )
    }

    /// Settings made in the transaction may be taken back.
    pub fn restores_settings(self) -> bool {
        matches!(self, Kind::Commit | Kind::Rollback | Kind::RollbackTo | Kind::PrepareTransaction)
    }

    /// The transaction is over.
    pub fn ends_transaction(self) -> bool {
        matches!(self, Kind::Commit | Kind::Rollback | Kind::PrepareTransaction)
    }

    /// The catalog may differ afterwards.
    pub fn is_ddl(self) -> bool {
        matches!(
            self,
            Kind::Create
                | Kind::Alter
                | Kind::Drop
                | Kind::Grant
                | Kind::Revoke
                | Kind::Comment
                | Kind::SecurityLabel
                | Kind::ImportForeignSchema
                | Kind::ReassignOwned
        )
    }
}

/// Whether a definition only matters to statements that name what it defines: later decisions about other relations
/// stay right. Not so: routines and operators (called by their bare names), roles, schemas, views and queries (what
/// they show is another relation's), and whatever is not listed here.
pub fn is_local(sql: &str, tokens: &[Token], range: Range<usize>) -> bool {
    const TABLES: &[&str] = &["table", "index", "sequence", "type", "domain", "foreign"];
    const OTHERS: &[&str] = &[
        "statistics",
        "collation",
        "conversion",
        "tablespace",
        "publication",
        "subscription",
        "text",
        "trigger",
        "policy",
        "access",
        "server",
    ];
    const DROPPED: &[&str] = &[
        "view",
        "materialized",
        "function",
        "procedure",
        "routine",
        "aggregate",
        "operator",
        "cast",
        "transform",
        "rule",
        "role",
        "user",
        "group",
    ];
    let own = &tokens[range.clone()];
    let word = |token: &Token, words: &[&str]| words.iter().any(|word| token.is_word(sql, word));
    let any = |words: &[&str]| own.iter().any(|token| word(token, words));
    let modifier = |token: &&Token| {
        word(token, &["or", "replace", "temp", "temporary", "local", "global", "unlogged", "unique", "constraint"])
    };
    let Some(object) = own.iter().skip(1).find(|token| !modifier(token)) else { return false };
    let kind = kind(sql, tokens, range);
    match kind {
        Kind::Comment | Kind::SecurityLabel | Kind::Refresh => true,
        Kind::Grant | Kind::Revoke => any(&["on"]),
        Kind::Create if object.is_word(sql, "table") => !has_query(sql, own),
        Kind::Create => word(object, TABLES) || word(object, OTHERS),
        Kind::Alter => {
            word(object, TABLES) || word(object, OTHERS) || word(object, &["view", "materialized", "default"])
        }
        Kind::Drop => word(object, TABLES) || word(object, OTHERS) || word(object, DROPPED),
        _ => false,
    }
}

/// CREATE TABLE … AS query: AS outside parentheses, which a plain definition never has.
pub fn has_query(sql: &str, own: &[Token]) -> bool {
    outer_as(sql, own).is_some()
}

/// The first AS outside parentheses.
fn outer_as(sql: &str, own: &[Token]) -> Option<usize> {
    let mut depth = 0usize;
    own.iter().position(|token| {
        match token.kind {
            TokenKind::Punct(b'(') => depth += 1,
            TokenKind::Punct(b')') => depth = depth.saturating_sub(1),
            _ => {}
        }
        depth == 0 && token.is_word(sql, "as")
    })
}

/// The query of CREATE TABLE … AS, CREATE VIEW and CREATE MATERIALIZED VIEW, as tokens. `None` for a recursive view, whose
/// query is not the one written, and where there is none.
pub fn defining_query(sql: &str, tokens: &[Token], range: Range<usize>) -> Option<Range<usize>> {
    const TAILS: &[&[&str]] = &[
        &["with", "no", "data"],
        &["with", "data"],
        &["with", "check", "option"],
        &["with", "local", "check", "option"],
        &["with", "cascaded", "check", "option"],
    ];
    let own = tokens.get(range.clone())?;
    let found = outer_as(sql, own)?;
    if own[..found].iter().any(|token| token.is_word(sql, "recursive")) {
        return None;
    }
    let query = &own[found + 1..];
    let ends = |tail: &&&[&str]| {
        let last = query.len().checked_sub(tail.len()).and_then(|from| query.get(from..));
        last.is_some_and(|last| last.iter().zip(tail.iter()).all(|(token, word)| token.is_word(sql, word)))
    };
    let tail = TAILS.iter().find(ends).map_or(0, |tail| tail.len());
    let query = range.start + found + 1..range.end - tail;
    (!query.is_empty()).then_some(query)
}

/// The kind of the statement `tokens[range]`, as [`super::statements`] gave it.
pub fn kind(sql: &str, tokens: &[Token], range: Range<usize>) -> Kind {
    let mut cursor = Cursor::new(sql, tokens, range);
    while cursor.punct(b'(') {}
    let Some(first) = cursor.next().filter(|token| token.kind == TokenKind::Ident) else { return Kind::Unknown };
    let two = |word| cursor.is(0, word);
    match first.text(sql).to_ascii_lowercase().as_str() {
        "select" | "values" | "table" => Kind::Query,
        "with" => Kind::With,
        "insert" => Kind::Insert,
        "update" => Kind::Update,
        "delete" => Kind::Delete,
        "merge" => Kind::Merge,
        "copy" => Kind::Copy,
        "begin" | "start" => Kind::Begin,
        "commit" if two("prepared") => Kind::CommitPrepared,
        "commit" | "end" => Kind::Commit,
        "rollback" if two("prepared") => Kind::RollbackPrepared,
        // ROLLBACK [WORK | TRANSACTION] TO [SAVEPOINT] name.
        "rollback" if two("to") || cursor.is(1, "to") => Kind::RollbackTo,
        "rollback" | "abort" => Kind::Rollback,
        "savepoint" => Kind::Savepoint,
        "release" => Kind::Release,
        "prepare" if two("transaction") && cursor.end - cursor.at == 2 => Kind::PrepareTransaction,
        "prepare" => Kind::Prepare,
        "set" => kind_of_set(cursor),
        "reset" => Kind::Reset,
        "discard" => Kind::Discard,
        "show" => Kind::Show,
        "do" => Kind::Do,
        "call" => Kind::Call,
        "listen" => Kind::Listen,
        "notify" => Kind::Notify,
        "unlisten" => Kind::Unlisten,
        "declare" => Kind::Declare,
        "fetch" => Kind::Fetch,
        "move" => Kind::Move,
        "close" => Kind::Close,
        "execute" => Kind::Execute,
        "deallocate" => Kind::Deallocate,
        "explain" => Kind::Explain,
        "truncate" => Kind::Truncate,
        "lock" => Kind::Lock,
        "vacuum" => Kind::Vacuum,
        "analyze" | "analyse" => Kind::Analyze,
        "cluster" => Kind::Cluster,
        "reindex" => Kind::Reindex,
        "checkpoint" => Kind::Checkpoint,
        "load" => Kind::Load,
        "refresh" => Kind::Refresh,
        "create" => Kind::Create,
        "alter" => Kind::Alter,
        "drop" => Kind::Drop,
        "grant" => Kind::Grant,
        "revoke" => Kind::Revoke,
        "comment" => Kind::Comment,
        "security" => Kind::SecurityLabel,
        "import" => Kind::ImportForeignSchema,
        "reassign" => Kind::ReassignOwned,
        _ => Kind::Unknown,
    }
}

/// After SET. A variable may be called `transaction`, `session` or `constraints`: then `=`, TO or a dot follows.
fn kind_of_set(mut cursor: Cursor<'_>) -> Kind {
    let names_variable = |cursor: &Cursor<'_>| {
        cursor.is(1, "to")
            || cursor.peek(1).is_some_and(|token| token.is_operator(cursor.sql, "=") || token.is_punct(b'.'))
    };
    if (cursor.is(0, "session") || cursor.is(0, "local")) && !names_variable(&cursor) {
        if cursor.is(0, "session") && cursor.is(1, "characteristics") && cursor.is(2, "as") {
            return Kind::SetTransaction;
        }
        cursor.at += 1;
    }
    if names_variable(&cursor) {
        Kind::Set
    } else if cursor.is(0, "transaction") || (cursor.is(0, "session") && cursor.is(1, "characteristics")) {
        Kind::SetTransaction
    } else if cursor.is(0, "constraints") {
        Kind::SetConstraints
    } else {
        Kind::Set
    }
}

/// The statement inside EXPLAIN, PREPARE … AS or DECLARE … FOR, as tokens; and whether EXPLAIN runs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inner {
    /// Its tokens.
    pub range: Range<usize>,
    /// EXPLAIN ANALYZE executes it. PREPARE and DECLARE: true.
    pub runs: bool,
}

/// See [`Inner`]. `None` for other kinds, and if there is none.
pub fn inner(sql: &str, tokens: &[Token], range: Range<usize>) -> Option<Inner> {
    let kind = kind(sql, tokens, range.clone());
    let mut cursor = Cursor::new(sql, tokens, range);
    cursor.at += 1;
    let mut runs = true;
    match kind {
        Kind::Explain => runs = explain_options(&mut cursor)?,
        Kind::Prepare => {
            cursor.name()?;
            if cursor.peek(0)?.is_punct(b'(') {
                cursor.group()?;
            }
            if !cursor.word(&["as"]) {
                return None;
            }
        }
        Kind::Declare => {
            cursor.name()?;
            while !cursor.word(&["for"]) {
                cursor.next()?;
            }
        }
        _ => return None,
    }
    (!cursor.done()).then_some(Inner { range: cursor.at..cursor.end, runs })
}

/// Takes EXPLAIN's options; whether ANALYZE is on.
fn explain_options(cursor: &mut Cursor<'_>) -> Option<bool> {
    let mut runs = false;
    // `EXPLAIN (SELECT 1)` has no options: an option list does not begin like a query.
    let query = ["select", "values", "table", "with"].iter().any(|word| cursor.is(1, word));
    let nested = cursor.peek(1).is_some_and(|token| token.is_punct(b'('));
    if cursor.peek(0)?.is_punct(b'(') && !query && !nested {
        let options = cursor.group()?;
        let mut option = Cursor::new(cursor.sql, cursor.tokens, options);
        while !option.done() {
            // `"analyze"` is the same option; the keyword may be spelt ANALYSE.
            let name = option.name();
            let value = option.peek(0).filter(|token| !token.is_punct(b','));
            if matches!(name.as_deref(), Some("analyze" | "analyse")) {
                let text = value.map_or("", |token| token.text(option.sql)).to_ascii_lowercase();
                runs = !matches!(text.trim_matches('\''), "off" | "false" | "0");
            }
            while option.next().is_some_and(|token| !token.is_punct(b',')) {}
        }
        return Some(runs);
    }
    runs |= cursor.word(&["analyze"]) || cursor.word(&["analyse"]);
    cursor.word(&["verbose"]);
    Some(runs)
}

/// The cursor or prepared statement that DECLARE, FETCH, MOVE, CLOSE, PREPARE, EXECUTE or DEALLOCATE names; `None` for
/// ALL and for other kinds.
pub fn handle(sql: &str, tokens: &[Token], range: Range<usize>) -> Option<String> {
    let kind = kind(sql, tokens, range.clone());
    let mut cursor = Cursor::new(sql, tokens, range);
    cursor.at += 1;
    match kind {
        // The cursor's name is always the last word.
        Kind::Fetch | Kind::Move => cursor.at = cursor.end.checked_sub(1)?.max(cursor.at),
        Kind::Deallocate if cursor.is(0, "prepare") && cursor.peek(1).is_some() => cursor.at += 1,
        Kind::Declare | Kind::Prepare | Kind::Execute | Kind::Deallocate | Kind::Close => {}
        _ => return None,
    }
    if cursor.is(0, "all") && matches!(kind, Kind::Close | Kind::Deallocate) {
        return None;
    }
    cursor.name()
}

/// A prepared statement that SQL runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Executed {
    /// Its name.
    pub name: String,
    /// All that is given to it is the word NULL, or nothing.
    pub null: bool,
}

/// The prepared statement that the statement runs: EXECUTE, CREATE TABLE … AS EXECUTE, and EXPLAIN of either.
pub fn executed(sql: &str, tokens: &[Token], mut range: Range<usize>) -> Option<Executed> {
    if kind(sql, tokens, range.clone()) == Kind::Explain {
        range = inner(sql, tokens, range)?.range;
    }
    let first = kind(sql, tokens, range.clone());
    let mut cursor = Cursor::new(sql, tokens, range);
    match first {
        Kind::Execute => cursor.at += 1,
        Kind::Create => {
            while !(cursor.is(0, "as") && cursor.is(1, "execute")) {
                cursor.next()?;
            }
            cursor.at += 2;
        }
        _ => return None,
    }
    let name = cursor.name()?;
    let mut null = true;
    if cursor.punct(b'(') {
        while null && !cursor.punct(b')') {
            null = cursor.word(&["null"]) && (cursor.punct(b',') || cursor.peek(0).is_some_and(|t| t.is_punct(b')')));
        }
    }
    Some(Executed { name, null })
}

/// What a statement creates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Created {
    /// Without its schema.
    pub name: String,
    /// By TEMP, or in schema pg_temp.
    pub temporary: bool,
}

/// The table, view, materialised view or sequence that CREATE or SELECT INTO makes.
pub fn created(sql: &str, tokens: &[Token], range: Range<usize>) -> Option<Created> {
    let first = kind(sql, tokens, range.clone());
    let mut cursor = Cursor::new(sql, tokens, range);
    match first {
        Kind::Create => {
            cursor.at += 1;
            cursor.word(&["or", "replace"]);
            let word = created_temporary(&mut cursor);
            for word in ["unlogged", "recursive", "materialized"] {
                cursor.word(&[word]);
            }
            if !(cursor.word(&["table"]) || cursor.word(&["view"]) || cursor.word(&["sequence"])) {
                return None;
            }
            cursor.word(&["if", "not", "exists"]);
            named(&mut cursor, word)
        }
        Kind::Query | Kind::With => select_into(cursor),
        _ => None,
    }
}

/// SELECT … INTO [TEMP] name. INTO also stands in data changes of WITH and as a label; a column may be labelled `insert`.
fn select_into(mut cursor: Cursor<'_>) -> Option<Created> {
    let start = cursor.at;
    let (mut depth, mut body) = (0usize, false);
    while let Some(token) = cursor.next() {
        let word = |token: &Token, words: &[&str]| words.iter().any(|word| token.is_word(cursor.sql, word));
        match token.kind {
            TokenKind::Punct(b'(') => depth += 1,
            TokenKind::Punct(b')') => depth = depth.saturating_sub(1),
            _ => {}
        }
        body |= depth == 0 && word(token, &["select", "values", "table"]);
        if !word(token, &["into"]) {
            continue;
        }
        let before = |back: usize| cursor.at.checked_sub(back).filter(|at| *at >= start).map(|at| &cursor.tokens[at]);
        let label = before(2).is_some_and(|token| word(token, &["as"]) || token.is_punct(b'.'));
        let change = before(2).is_some_and(|token| word(token, &["insert", "merge"]))
            && before(3).is_none_or(|token| token.is_punct(b'(') || (token.is_punct(b')') && !body));
        if label || change {
            continue;
        }
        let temporary = created_temporary(&mut cursor);
        cursor.word(&["unlogged"]);
        cursor.word(&["table"]);
        if let Some(made) = named(&mut cursor, temporary) {
            return Some(made);
        }
    }
    None
}

fn created_temporary(cursor: &mut Cursor<'_>) -> bool {
    if (cursor.is(0, "global") || cursor.is(0, "local")) && (cursor.is(1, "temp") || cursor.is(1, "temporary")) {
        cursor.at += 1;
    }
    cursor.word(&["temp"]) || cursor.word(&["temporary"])
}

fn named(cursor: &mut Cursor<'_>, word: bool) -> Option<Created> {
    let mut parts = cursor.qualified_name()?;
    let schema = parts.len().checked_sub(2).map(|index| parts[index].as_str());
    let temporary = word || schema.is_some_and(|schema| schema == "pg_temp" || schema.starts_with("pg_temp_"));
    Some(Created { name: parts.pop()?, temporary })
}

/// Whether any identifier equals one of `names`, which are in lower case. Case does not count here, also for quoted
/// identifiers; the contents of string constants are not looked at.
pub fn mentions(sql: &str, tokens: &[Token], names: &HashSet<String>) -> bool {
    !names.is_empty() && tokens.iter().any(|token| mentioned(sql, token, names))
}

fn mentioned(sql: &str, token: &Token, names: &HashSet<String>) -> bool {
    let text = match token.kind {
        TokenKind::Ident => token.text(sql),
        TokenKind::QuotedIdent => {
            token.text(sql).get(1..(token.span.end - token.span.start) as usize - 1).unwrap_or("")
        }
        TokenKind::UnicodeIdent => return slowly_mentioned(sql, token, names),
        _ => return false,
    };
    let mut lower = [0u8; NAME_BYTES_MAX];
    let Some(lower) = lower.get_mut(..text.len()) else { return slowly_mentioned(sql, token, names) };
    lower.copy_from_slice(text.as_bytes());
    lower.make_ascii_lowercase();
    if !lower.is_ascii() || lower.contains(&b'"') {
        return slowly_mentioned(sql, token, names);
    }
    std::str::from_utf8(lower).is_ok_and(|lower| names.contains(lower))
}

fn slowly_mentioned(sql: &str, token: &Token, names: &HashSet<String>) -> bool {
    let name = ident(sql, token);
    names.contains(&name.to_ascii_lowercase()) || names.contains(&name.to_lowercase())
}

#[cfg(test)]
mod tests;
