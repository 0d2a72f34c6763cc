//! Any text: a decision, never a panic; edits ascend and stay inside the text; nothing sealed leaves a constant plain.

use proptest::prelude::*;

use super::{ANALYST, APP, decide, shown};
use crate::plan::Decision;

const WORDS: &[&str] = &[
    "select",
    "from",
    "where",
    "users",
    "u",
    "email",
    "full_name",
    "id",
    "note",
    "orders",
    "o",
    "on",
    "join",
    "left",
    "using",
    "natural",
    "(",
    ")",
    "(",
    ")",
    ",",
    ".",
    "=",
    "<>",
    "in",
    "not",
    "and",
    "or",
    "is",
    "null",
    "'a'",
    "$1",
    "$2",
    "::",
    "varchar",
    "text",
    "[]",
    "any",
    "array",
    "[",
    "]",
    "1",
    "-",
    "insert",
    "into",
    "values",
    "update",
    "set",
    "delete",
    "returning",
    "*",
    "with",
    "as",
    "recursive",
    "union",
    "all",
    "group",
    "by",
    "order",
    "limit",
    "distinct",
    "case",
    "when",
    "then",
    "else",
    "end",
    "coalesce",
    "nullif",
    "unnest",
    "lateral",
    "exists",
    "default",
    "conflict",
    "do",
    "nothing",
    "excluded",
    "only",
    "table",
    "copy",
    "to",
    "stdout",
    "stdin",
    "csv",
    "merge",
    "matched",
    "explain",
    "declare",
    "cursor",
    "for",
    "current",
    "of",
    "overriding",
    "value",
    ";",
    "cast",
    "date",
    "interval",
    "true",
    "between",
    "like",
    "row",
    "count",
    "over",
    "partition",
    "create",
    "view",
    "alter",
    "column",
    "type",
    "index",
    "\"Mixed Case\"",
    "\"Email\"",
    "U&\"us\\0065rs\"",
    "$$x$$",
    "E'\\''",
    "--\n",
    "/* */",
];

fn soup() -> impl Strategy<Value = String> {
    proptest::collection::vec(proptest::sample::select(WORDS), 0..40).prop_map(|words| words.join(" "))
}

/// Statements that are likely to be read: a frame with random expressions.
fn framed() -> impl Strategy<Value = String> {
    let leaf = proptest::sample::select(vec![
        "email",
        "u.email",
        "full_name",
        "id",
        "nickname",
        "'a'",
        "$1",
        "$2",
        "null",
        "1",
        "-1",
        "code",
        "'a'::text",
        "$1::varchar",
        "(select email from users limit 1)",
        "array['a', 'b']",
        "default",
        "u",
    ]);
    let expr = leaf.prop_map(str::to_owned).prop_recursive(4, 24, 3, |inner| {
        prop_oneof![
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a} = {b})")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a} in ({b}, 'z'))")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a} = any({b}))")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("coalesce({a}, {b})")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("nullif({a}, {b})")),
            (inner.clone(), inner.clone(), inner.clone())
                .prop_map(|(a, b, c)| format!("case when {a} then {b} else {c} end")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("(({a}, {b}) = ($1, 'q'))")),
            inner.clone().prop_map(|a| format!("({a} is null)")),
            inner.clone().prop_map(|a| format!("{a}::text")),
            inner.prop_map(|a| format!("lower({a})")),
        ]
    });
    (expr.clone(), expr.clone(), expr, 0..6u8).prop_map(|(a, b, c, frame)| match frame {
        0 => format!("select {a}, {b} from users u, orders o where {c}"),
        1 => format!("insert into users (email, full_name, nickname) values ({a}, {b}, {c})"),
        2 => format!("update users u set email = {a}, full_name = {b} where {c}"),
        3 => format!("with x as (select {a} as p from users u) select {b} from x, users u where x.p = {c}"),
        4 => format!("select v.e from (values ({a}), ({b})) v(e), users u, orders o where {c} = v.e"),
        _ => format!("select {a} from users u union all select {b} from users u, orders o where {c}"),
    })
}

fn holds(sql: &str) {
    for class in [APP, ANALYST] {
        match decide(class, sql) {
            // Asserts that edits ascend, and slices at their bounds.
            Decision::Pass(plan) | Decision::Act(plan) | Decision::Unknown(plan) => drop(shown(sql, &plan)),
            Decision::Refuse(refused) => assert!(!refused.refusal.message.is_empty()),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_words_are_decided(sql in soup()) {
        holds(&sql);
    }

    #[test]
    fn any_expressions_are_decided(sql in framed()) {
        holds(&sql);
    }

    #[test]
    fn any_text_is_decided(sql in "\\PC{0,60}") {
        holds(&sql);
        holds(&format!("select email from users where {sql}"));
    }
}
