//! Statements: how many, where they end, and what the token readings of `sql` say of each (kind, statement inside, names
//! of cursors and prepared statements, relations made, settings, COPY) against PostgreSQL's parse tree.

use std::ops::Range;

use pgveil::sql::copy_stmt::{self, Direction, Source, Target};
use pgveil::sql::kind::{self, Kind};
use pgveil::sql::lexer::Token;
use pgveil::sql::setting::{self, Change};
use pgveil::sql::{mentions, statements};
use serde_json::Value;

use super::lexing::Seen;
use super::tree::{self, Fields, Statement, flag, list, node, number, of, string, text};

/// Statement boundaries; `Err` says what differs.
pub fn split(sql: &str, tokens: &[Token], theirs: &[Statement]) -> Result<Vec<Range<usize>>, String> {
    let places: Vec<Seen> =
        tokens.iter().map(|token| (token.span.start as usize, token.span.end as usize, "")).collect();
    let (ours, expected) = (statements(tokens, sql), ranges(&places, theirs));
    if ours == expected { Ok(ours) } else { Err(format!("statements of tokens {ours:?} here, {expected:?} there")) }
}

/// The tokens of each of PostgreSQL's statements.
pub fn ranges(tokens: &[Seen], theirs: &[Statement]) -> Vec<Range<usize>> {
    let before = |place: usize| tokens.partition_point(|token| token.0 < place);
    theirs.iter().map(|statement| before(statement.start)..before(statement.end)).collect()
}

/// Kinds that a node may have here.
fn kinds(node: &str, fields: &Fields) -> Option<&'static [Kind]> {
    Some(match node {
        "SelectStmt" => &[Kind::Query, Kind::With],
        "InsertStmt" => &[Kind::Insert, Kind::With],
        "UpdateStmt" => &[Kind::Update, Kind::With],
        "DeleteStmt" => &[Kind::Delete, Kind::With],
        "MergeStmt" => &[Kind::Merge, Kind::With],
        "CopyStmt" => &[Kind::Copy],
        "TransactionStmt" => match number(fields, "kind") {
            1 | 2 => &[Kind::Begin],
            3 => &[Kind::Commit],
            4 => &[Kind::Rollback],
            5 => &[Kind::Savepoint],
            6 => &[Kind::Release],
            7 => &[Kind::RollbackTo],
            8 => &[Kind::PrepareTransaction],
            9 => &[Kind::CommitPrepared],
            _ => &[Kind::RollbackPrepared],
        },
        "VariableSetStmt" => match (number(fields, "kind"), text(fields, "name")) {
            (4, _) => &[Kind::SetTransaction],
            (5 | 6, _) => &[Kind::Reset],
            _ => &[Kind::Set],
        },
        "VariableShowStmt" => &[Kind::Show],
        "ConstraintsSetStmt" => &[Kind::SetConstraints],
        "DiscardStmt" => &[Kind::Discard],
        "ExplainStmt" => &[Kind::Explain],
        "PrepareStmt" => &[Kind::Prepare],
        "ExecuteStmt" => &[Kind::Execute],
        "DeallocateStmt" => &[Kind::Deallocate],
        "DeclareCursorStmt" => &[Kind::Declare],
        "FetchStmt" if flag(fields, "ismove") => &[Kind::Move],
        "FetchStmt" => &[Kind::Fetch],
        "ClosePortalStmt" => &[Kind::Close],
        "DoStmt" => &[Kind::Do],
        "CallStmt" => &[Kind::Call],
        "ListenStmt" => &[Kind::Listen],
        "NotifyStmt" => &[Kind::Notify],
        "UnlistenStmt" => &[Kind::Unlisten],
        "TruncateStmt" => &[Kind::Truncate],
        "LockStmt" => &[Kind::Lock],
        "VacuumStmt" => &[Kind::Vacuum, Kind::Analyze],
        "ClusterStmt" => &[Kind::Cluster],
        "ReindexStmt" => &[Kind::Reindex],
        "CheckPointStmt" => &[Kind::Checkpoint],
        "LoadStmt" => &[Kind::Load],
        "RefreshMatViewStmt" => &[Kind::Refresh],
        "CommentStmt" => &[Kind::Comment],
        "SecLabelStmt" => &[Kind::SecurityLabel],
        "ImportForeignSchemaStmt" => &[Kind::ImportForeignSchema],
        "ReassignOwnedStmt" => &[Kind::ReassignOwned],
        "GrantStmt" | "GrantRoleStmt" => &[Kind::Grant, Kind::Revoke],
        // Whatever is left is a definition.
        _ => return None,
    })
}

/// What the readings of `tokens[range]` say differently.
pub fn differs(
    sql: &str,
    tokens: &[Token],
    range: &Range<usize>,
    statement: &Statement,
) -> Option<(&'static str, String)> {
    let (node, fields) = (statement.node.as_str(), &statement.fields);
    let own = kind::kind(sql, tokens, range.clone());
    let fits = kinds(node, fields).map_or(own.is_ddl(), |kinds| kinds.contains(&own));
    if !fits {
        return Some(("kind", format!("{own:?} here, {node} there")));
    }
    if let Some(name) = unmentioned(sql, &tokens[range.clone()], fields) {
        return Some(("mention", format!("no token is the relation {name}")));
    }
    let range = range.clone();
    match node {
        "ExplainStmt" | "PrepareStmt" | "DeclareCursorStmt" => inner(sql, tokens, range, statement),
        "ExecuteStmt" | "DeallocateStmt" | "ClosePortalStmt" | "FetchStmt" => handle(sql, tokens, range, fields),
        "VariableSetStmt" | "DiscardStmt" => setting(sql, tokens, range, statement).map(|what| ("setting", what)),
        "CopyStmt" => copy(sql, tokens, range, fields).map(|what| ("copy", what)),
        _ => created(sql, tokens, range, statement).map(|what| ("created", what)),
    }
}

/// A relation whose name no token is.
fn unmentioned(sql: &str, own: &[Token], fields: &Fields) -> Option<String> {
    let mut found = None;
    let mut look = |kind: &str, fields: &Fields| {
        let relation = kind == "RangeVar" || (fields.contains_key("relname") && fields.contains_key("relpersistence"));
        let name = text(fields, "relname");
        if relation && !mentions(sql, own, &[name.to_lowercase()].into()) {
            found = Some(name.to_owned());
        }
    };
    tree::walk(&Value::Object(fields.clone()), &mut look);
    found
}

fn inner(sql: &str, tokens: &[Token], range: Range<usize>, statement: &Statement) -> Option<(&'static str, String)> {
    let fields = &statement.fields;
    let Some(inner) = kind::inner(sql, tokens, range.clone()) else {
        return Some(("inner", "none found".to_owned()));
    };
    // No option of EXPLAIN is called like the beginning of a query; the server refuses it.
    let options = || list(&statement.fields, "options").iter().filter_map(|option| of(option, "DefElem"));
    if options().any(|option| matches!(text(option, "defname"), "values" | "select" | "table" | "with")) {
        return None;
    }
    let span = tokens[inner.range.start].span.start as usize..tokens[inner.range.end - 1].span.end as usize;
    let mut expected = fields.get("query").cloned().unwrap_or_default();
    let found = pg_query::parse(&sql[span]).ok().and_then(|parsed| parsed.protobuf.stmts.into_iter().next());
    let mut found = found.and_then(|raw| serde_json::to_value(raw.stmt).ok()).unwrap_or_default();
    tree::without_places(&mut expected);
    tree::without_places(&mut found);
    if found != expected {
        return Some(("inner", "the statement inside is another one".to_owned()));
    }
    if statement.node == "ExplainStmt" {
        let last = options().filter(|option| text(option, "defname") == "analyze").last();
        let runs = last.is_some_and(boolean);
        return (runs && !inner.runs).then(|| ("explain", "it runs the statement".to_owned()));
    }
    handle(sql, tokens, range, fields)
}

/// `defGetBoolean`; what is no boolean is an error there.
fn boolean(option: &Fields) -> bool {
    let Some(arg) = option.get("arg").filter(|arg| !arg.is_null()) else { return true };
    let word = string(arg).map(str::to_ascii_lowercase);
    let number = of(arg, "Integer").map(|fields| number(fields, "ival"));
    matches!(word.as_deref(), Some("true" | "on")) || number == Some(1)
}

fn handle(sql: &str, tokens: &[Token], range: Range<usize>, fields: &Fields) -> Option<(&'static str, String)> {
    let own = kind::handle(sql, tokens, range);
    let named = [text(fields, "name"), text(fields, "portalname")].into_iter().find(|name| !name.is_empty());
    (own.as_deref() != named).then(|| ("handle", format!("{own:?} here, {named:?} there")))
}

/// What CREATE and SELECT INTO make.
fn created(sql: &str, tokens: &[Token], range: Range<usize>, statement: &Statement) -> Option<String> {
    let fields = &statement.fields;
    let made = |value: Option<&Value>| value.and_then(Value::as_object).cloned();
    let into =
        |fields: &Fields| made(fields.get("into_clause").or(fields.get("into")).and_then(|into| into.get("rel")));
    let relation = match statement.node.as_str() {
        "CreateStmt" => made(fields.get("relation")),
        "ViewStmt" => made(fields.get("view")),
        "CreateSeqStmt" => made(fields.get("sequence")),
        "CreateTableAsStmt" => into(fields),
        // Of a set operation the first SELECT says where to.
        "SelectStmt" => {
            let mut first = fields;
            while let Some(left) = first.get("larg").and_then(Value::as_object) {
                first = left;
            }
            into(first)
        }
        _ => return None,
    };
    let there = relation.map(|relation| {
        let schema = text(&relation, "schemaname");
        let temporary =
            text(&relation, "relpersistence") == "t" || schema == "pg_temp" || schema.starts_with("pg_temp_");
        (text(&relation, "relname").to_owned(), temporary)
    });
    let here = kind::created(sql, tokens, range).map(|made| (made.name, made.temporary));
    // INTO in a subquery: the server refuses it after parsing.
    let mut misplaced = false;
    tree::walk(&Value::Object(fields.clone()), &mut |name, _| misplaced |= name == "into_clause");
    if there.is_none() && misplaced {
        return None;
    }
    (here != there).then(|| format!("{here:?} here, {there:?} there"))
}

fn setting(sql: &str, tokens: &[Token], range: Range<usize>, statement: &Statement) -> Option<String> {
    let fields = &statement.fields;
    let change = setting::change(sql, tokens, range);
    let name = text(fields, "name").to_ascii_lowercase();
    let fits = match (&change, statement.node.as_str(), number(fields, "kind")) {
        (Some(Change::DiscardAll), "DiscardStmt", _) => number(fields, "target") == 1,
        (Some(Change::Discard), "DiscardStmt", _) => number(fields, "target") != 1,
        (Some(Change::Set { name: own, local, .. }), "VariableSetStmt", 1..=3) => {
            *own == name && *local == flag(fields, "is_local") && values_fit(change.as_ref()?, fields)
        }
        (Some(Change::Transaction), _, 4) => true,
        (Some(Change::Transaction), _, 5) => name == "transaction_isolation",
        (Some(Change::Reset(own)), _, 5) => *own == name,
        (Some(Change::ResetAll), _, 6) => true,
        _ => false,
    };
    (!fits).then(|| format!("{change:?} here, {name} there"))
}

/// The items of SET, as far as they are strings.
fn values_fit(change: &Change, fields: &Fields) -> bool {
    let Change::Set { value, .. } = change else { return false };
    let constants = list(fields, "args").iter().map(|arg| of(arg, "AConst")?.get("val")?.get("Sval"));
    let strings: Option<Vec<&str>> = constants.map(|value| value?.get("sval")?.as_str()).collect();
    match (value, number(fields, "kind")) {
        (setting::Value::List(items), 1) => {
            items.len() == list(fields, "args").len() && strings.is_none_or(|strings| items.iter().eq(strings.iter()))
        }
        (setting::Value::Default, 2) | (setting::Value::Current, 3) => true,
        _ => false,
    }
}

fn copy(sql: &str, tokens: &[Token], range: Range<usize>, fields: &Fields) -> Option<String> {
    let Some(copy) = copy_stmt::copy(sql, tokens, range) else { return Some("not read".to_owned()) };
    let relation = fields.get("relation").and_then(Value::as_object);
    match (&copy.source, relation) {
        (Source::Query(range), None) => {
            let span = tokens[range.start].span.start as usize..tokens[range.end - 1].span.end as usize;
            let inside = pg_query::parse(&sql[span]).ok().map(|parsed| parsed.protobuf.stmts.len());
            if inside != Some(1) {
                return Some("the query inside is another one".to_owned());
            }
        }
        (Source::Relation { name, columns, .. }, Some(relation)) => {
            let parts = ["catalogname", "schemaname", "relname"].map(|part| text(relation, part));
            let written = parts.into_iter().filter(|part| !part.is_empty());
            if !written.eq(name.iter().map(String::as_str)) {
                return Some(format!("relation {name:?}"));
            }
            let listed: Vec<&str> = list(fields, "attlist").iter().filter_map(string).collect();
            if !listed.iter().eq(columns.iter().flatten()) {
                return Some(format!("columns {columns:?}"));
            }
        }
        _ => return Some("relation or query".to_owned()),
    }
    let file = !text(fields, "filename").is_empty();
    let target = match (flag(fields, "is_program"), file) {
        (true, _) => Target::Program,
        (false, true) => Target::File,
        (false, false) => Target::Client,
    };
    // An empty file name is a file all the same; protobuf does not tell it from none.
    if copy.target != target && !(copy.target == Target::File && target == Target::Client) {
        return Some(format!("target {:?}", copy.target));
    }
    if (copy.direction == Direction::From) != flag(fields, "is_from") {
        return Some("direction".to_owned());
    }
    if copy.filter.is_some() != fields.get("where_clause").is_some_and(|filter| node(filter).is_some()) {
        return Some("WHERE".to_owned());
    }
    options(&copy.options, list(fields, "options"))
}

/// Options with a string for a value, the last of each name; the server refuses a name that stands twice.
fn options(own: &copy_stmt::Options, theirs: &[Value]) -> Option<String> {
    for option in theirs.iter().filter_map(|option| of(option, "DefElem")) {
        let name = text(option, "defname");
        let Some(value) = option.get("arg").and_then(string) else { continue };
        let fits = match name {
            "delimiter" => own.delimiter == value,
            "null" => own.null == value,
            "quote" => own.quote == value,
            "escape" => own.escape == value,
            "encoding" => own.encoding.as_deref() == Some(value),
            "default" => own.default.as_deref() == Some(value),
            "format" => {
                format!("{:?}", own.format).eq_ignore_ascii_case(value)
                    || own.other.iter().any(|other| other == "format")
            }
            _ => true,
        };
        let twice =
            theirs.iter().filter_map(|other| of(other, "DefElem")).filter(|other| text(other, "defname") == name);
        if !fits && twice.count() == 1 {
            return Some(format!("option {name}"));
        }
    }
    None
}
