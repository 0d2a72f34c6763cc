//! PostgreSQL's parse trees as JSON: `{"node": {"SelectStmt": {…}}}` and so on, protobuf's defaults filled in.

use serde_json::{Map, Value};

/// A node's fields.
pub type Fields = Map<String, Value>;

/// One statement.
pub struct Statement {
    /// `SelectStmt`, …
    pub node: String,
    /// What the node holds.
    pub fields: Fields,
    /// Byte offset where it begins, white space included.
    pub start: usize,
    /// Byte offset behind it, without the semicolon.
    pub end: usize,
}

/// The statements of a text; `Err`: PostgreSQL's parser refuses it, or the tree is too deep to be handed over.
pub fn parse(sql: &str) -> Result<Vec<Statement>, String> {
    let parsed = pg_query::parse(sql).map_err(|error| error.to_string())?;
    let statement = |raw: &pg_query::protobuf::RawStmt| {
        let start = usize::try_from(raw.stmt_location).unwrap_or(0);
        let length = usize::try_from(raw.stmt_len).unwrap_or(0);
        let end = if length == 0 { sql.len() } else { start + length };
        let tree = serde_json::to_value(&raw.stmt).unwrap_or_default();
        let (node, fields) = node(&tree)?;
        Some(Statement { node: node.to_owned(), fields: fields.clone(), start, end })
    };
    Ok(parsed.protobuf.stmts.iter().filter_map(statement).collect())
}

/// Whether PostgreSQL's parser accepts the text.
pub fn accepted(sql: &str) -> bool {
    pg_query::parse(sql).is_ok()
}

/// A wrapped node's name and fields.
pub fn node(value: &Value) -> Option<(&str, &Fields)> {
    let (name, fields) = value.get("node")?.as_object()?.iter().next()?;
    Some((name, fields.as_object()?))
}

/// A node's fields, if it is of that kind.
pub fn of<'v>(value: &'v Value, kind: &str) -> Option<&'v Fields> {
    node(value).filter(|(name, _)| *name == kind).map(|(_, fields)| fields)
}

/// A string field, or "".
pub fn text<'v>(fields: &'v Fields, name: &str) -> &'v str {
    fields.get(name).and_then(Value::as_str).unwrap_or("")
}

/// A field's items, or none.
pub fn list<'v>(fields: &'v Fields, name: &str) -> &'v [Value] {
    fields.get(name).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// A number field, or 0.
pub fn number(fields: &Fields, name: &str) -> i64 {
    fields.get(name).and_then(Value::as_i64).unwrap_or(0)
}

/// A boolean field, or false.
pub fn flag(fields: &Fields, name: &str) -> bool {
    fields.get(name).and_then(Value::as_bool).unwrap_or(false)
}

/// A `String` node's value.
pub fn string(value: &Value) -> Option<&str> {
    of(value, "String").map(|fields| text(fields, "sval"))
}

/// Calls `f` for every node and every bare struct (a `RangeVar` need not be wrapped) below.
pub fn walk(value: &Value, f: &mut impl FnMut(&str, &Fields)) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| walk(item, f)),
        Value::Object(fields) => {
            for (name, inner) in fields {
                if let Value::Object(inner) = inner
                    && name != "node"
                {
                    f(name, inner);
                }
                walk(inner, f);
            }
        }
        _ => {}
    }
}

/// Without anything that says where something stood.
pub fn without_places(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(without_places),
        Value::Object(fields) => {
            fields.retain(|name, _| !is_place(name));
            fields.values_mut().for_each(without_places);
        }
        _ => {}
    }
}

/// Whether the field says where something stands.
pub fn is_place(field: &str) -> bool {
    field.ends_with("location") || field == "stmt_len"
}
