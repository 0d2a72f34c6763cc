//! Statements and what becomes of them, by table.

mod acts;
mod allowed;
mod copies;
mod drift;
pub(crate) mod fixture;
mod keys;
mod observe;
mod passes;
mod random;
mod refusals;
mod shapes;
mod steps;

use std::collections::HashSet;
use std::fmt::Write as _;
use std::sync::Arc;

use super::{Cache, Decision, Parameter, Plan, Replacement, Request, Target};
use crate::policy::rules::{ClassId, Rules};

pub(super) const DEFAULT: ClassId = ClassId(0);
pub(super) const APP: ClassId = ClassId(1);
pub(super) const ANALYST: ClassId = ClassId(2);
pub(super) const WRITER: ClassId = ClassId(3);
pub(super) const DENIED: ClassId = ClassId(4);
pub(super) const MASKED: ClassId = ClassId(5);

pub(super) fn decide_with(rules: &Rules, class: ClassId, sql: &str, temporary: &[&str], path: &[&str]) -> Decision {
    let temporary: HashSet<String> = temporary.iter().map(|name| (*name).to_owned()).collect();
    let path: Vec<Arc<str>> = path.iter().map(|schema| Arc::from(*schema)).collect();
    let request = Request {
        sql,
        parameter_oids: &[],
        extended: true,
        class,
        role: "app",
        keys: 0,
        search_path: &path,
        temporary: &temporary,
        rules,
    };
    super::decide::decide(&request, super::Limits::default())
}

pub(super) fn decide(class: ClassId, sql: &str) -> Decision {
    decide_with(fixture::rules(), class, sql, &[], &["public"])
}

fn target(target: &Target) -> String {
    let array = if target.array { "[]" } else { "" };
    format!("{}{array}", target.column.column)
}

/// The spliced text, cells as `{column literal}`, then the parameters' places.
pub(super) fn shown(sql: &str, plan: &Plan) -> String {
    let mut out = String::new();
    let mut at = 0usize;
    for edit in &plan.edits {
        let (start, end) = (edit.span.start as usize, edit.span.end as usize);
        assert!(at <= start && start <= end, "edits overlap or descend in {sql}");
        out.push_str(&sql[at..start]);
        match &edit.with {
            Replacement::Text(text) => out.push_str(text),
            Replacement::Cell { target: column, literal, negative } => {
                let sign = if *negative { "-" } else { "" };
                let literal = &sql[literal.start as usize..literal.end as usize];
                write!(out, "{{{} {sign}{literal}}}", target(column)).unwrap();
            }
        }
        at = end;
    }
    out.push_str(&sql[at..]);
    for (index, parameter) in plan.parameters.iter().enumerate() {
        let place = match parameter {
            Parameter::Plain => "-".to_owned(),
            Parameter::Typed(oid) => format!("-{oid}"),
            Parameter::Sealed(column) => target(column),
        };
        let bar = if index == 0 { " |" } else { "" };
        write!(out, "{bar} ${}={place}", index + 1).unwrap();
    }
    for hidden in &plan.hidden {
        write!(out, " +{}:{}", hidden.source + 1, target(&hidden.target)).unwrap();
    }
    out
}

/// `pass`, `act: …`, `unknown: …` or `refuse PV0nn message`.
pub(super) fn outcome(class: ClassId, sql: &str) -> String {
    outcome_of(sql, decide(class, sql))
}

pub(super) fn outcome_of(sql: &str, decision: Decision) -> String {
    match decision {
        Decision::Pass(plan) => {
            assert!(plan.edits.is_empty(), "{sql}");
            "pass".to_owned()
        }
        Decision::Act(plan) => format!("act: {}", shown(sql, &plan)),
        Decision::Unknown(plan) => format!("unknown: {}", shown(sql, &plan)),
        Decision::Refuse(refused) => format!("refuse {}", refused.refusal),
    }
}

/// Collects every mismatch before failing.
pub(super) fn check(cases: impl IntoIterator<Item = (ClassId, &'static str, String)>) {
    let mut wrong = String::new();
    for (class, sql, expected) in cases {
        let found = outcome(class, sql);
        let same = if expected.starts_with("refuse") {
            let mut parts = expected.split('…');
            let head = parts.next().unwrap_or_default();
            found.starts_with(head) && parts.all(|part| found.contains(part))
        } else {
            found == expected
        };
        if !same {
            write!(wrong, "\n  {sql}\n    expected {expected}\n    found    {found}").unwrap();
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn a_cached_decision_is_found_again() {
    let cache = Cache::new(16);
    let rules = fixture::rules();
    let temporary = HashSet::new();
    let path = [Arc::from("public")];
    let ask = |sql: &str, class, oids: &[u32]| {
        let request = Request {
            sql,
            parameter_oids: oids,
            extended: true,
            class,
            role: "app",
            keys: 0,
            search_path: &path,
            temporary: &temporary,
            rules,
        };
        cache.decide(&request)
    };
    let hits = || cache.hits.load(std::sync::atomic::Ordering::Relaxed);
    let sql = "select email from users where id = $1";
    assert!(matches!(ask(sql, APP, &[]), Decision::Act(_)));
    assert_eq!(hits(), 0);
    assert!(matches!(ask(sql, APP, &[]), Decision::Act(_)));
    assert_eq!(hits(), 1);
    assert!(matches!(ask(sql, DENIED, &[]), Decision::Refuse(_)));
    assert!(matches!(ask(sql, APP, &[23]), Decision::Act(_)));
    assert_eq!(hits(), 1);
    for number in 0..200 {
        ask(&format!("select {number}"), APP, &[]);
    }
    assert!(cache.len() <= 16);
    assert!(matches!(ask("select email from no_such_users, users", APP, &[]), Decision::Unknown(_)));
    assert!(matches!(ask("select email from no_such_users, users", APP, &[]), Decision::Unknown(_)));
    assert_eq!(hits(), 1);
    assert!(matches!(ask("select * from fresh", APP, &[]), Decision::Unknown(_)));
    assert!(matches!(ask("select * from fresh", APP, &[]), Decision::Pass(_)));
    assert!(matches!(ask("select * from fresh", ANALYST, &[]), Decision::Unknown(_)));
    assert!(matches!(ask("select * from fresh", ANALYST, &[]), Decision::Unknown(_)));
}
