//! Reports of a small policy, without and with its lenses.

use std::collections::HashSet;
use std::sync::Arc;

use super::*;
use crate::plan::{Limits, decide};
use crate::policy;
use crate::policy::rules::{Mode, Rules};
use crate::sql::schema::{Column as Attribute, RelKind, Relation, Role as Login, Schema};
use crate::wire::types::Kind;

const POLICY: &str = r#"version = 1
default_level = "internal"
[levels.confidential]
encryption_required = false
[tables."public.people"]
subject = { kind = "person", key = "id" }
[tables."public.people".columns]
email = { level = "restricted", as = "varchar(80)", encrypt = "deterministic", mask = "email" }
note = { level = "restricted", as = "text", encrypt = "randomized" }
nick = { level = "confidential", mask = "partial:1:0" }
[roles.app]
clearance = "restricted"
[roles.analyst]
clearance = "internal"
[roles.analyst.rows]
"public.people" = "born > '1950-01-01'"
"#;

fn relation(oid: u32, schema: &str, kind: RelKind, columns: &[(&str, bool)]) -> Arc<Relation> {
    let column = |(attnum, (name, sealed)): (i16, &(&str, bool))| Attribute {
        attnum,
        name: (*name).into(),
        type_oid: if *sealed { 90_000 } else { 25 },
        type_name: "text".into(),
        typmod: -1,
        not_null: false,
        has_default: false,
        generated: false,
        sealed: sealed.then_some(if *name == "email" { Kind::Varchar } else { Kind::Text }),
        sealed_array: false,
        source: None,
    };
    Arc::new(Relation {
        oid,
        schema: schema.into(),
        name: "people".into(),
        kind,
        columns: (1..).zip(columns).map(column).collect(),
        primary_key: vec![1],
        reads: if kind == RelKind::View { vec![100] } else { Vec::new() },
        children: Vec::new(),
    })
}

const COLUMNS: &[(&str, bool)] = &[("id", false), ("email", true), ("note", true), ("nick", false), ("born", false)];

fn add(schema: &mut Schema, relation: Arc<Relation>) {
    schema.by_name.insert((relation.schema.clone(), relation.name.clone()), relation.oid);
    schema.relations.insert(relation.oid, relation);
}

fn compile(schema: Schema) -> Rules {
    let policy = policy::parse(&[("policy.toml".to_owned(), POLICY.to_owned())]).expect("a policy");
    let ids = |column: &str| match column.rsplit('.').next() {
        Some("email") => Some((1, Mode::Deterministic)),
        Some("note") => Some((2, Mode::Randomized)),
        _ => None,
    };
    policy::compile(&policy, Arc::new(schema), &ids, 1).expect("rules")
}

fn rules(lens: bool) -> Rules {
    let mut schema = Schema { database: "app".to_owned(), server_version: 150_000, ..Schema::default() };
    for login in ["app", "analyst"] {
        schema.roles.insert(login.to_owned(), Login::default());
    }
    add(&mut schema, relation(100, "public", RelKind::Table, COLUMNS));
    let rules = compile(schema.clone());
    if !lens {
        return rules;
    }
    for (oid, view) in (200..).zip(&rules.views) {
        add(&mut schema, relation(oid, &view.schema, RelKind::View, COLUMNS));
        schema.lens_views.insert(oid, view.mark.as_str().into());
    }
    compile(schema)
}

fn of(rules: &Rules, role: &str, sql: &str, asker: Asker) -> (Report, Decision) {
    let class = rules.class_of(role);
    let path = [Arc::from("public")];
    let path = policy::path::through(&path, role, rules.class(class).lens.as_deref());
    let temporary = HashSet::new();
    let request = Request {
        sql,
        parameter_oids: &[],
        extended: true,
        class,
        role,
        keys: 0,
        search_path: &path,
        temporary: &temporary,
        rules,
    };
    let decision = decide::decide(&request, Limits::default());
    (Report::new(&request, &decision, asker), decision)
}

fn lines(rules: &Rules, role: &str, sql: &str) -> String {
    of(rules, role, sql, Asker::Operator).0.lines().join("\n")
}

#[test]
fn a_cleared_role_sees_what_is_sealed_and_what_is_sent() {
    let said =
        lines(&rules(false), "app", "select email, nick from people where email = 'secret' and id = 5 -- secret");
    let expected = "\
act: forwarded rewritten
role app: [roles.app] (policy.toml:11), clearance restricted, above it masked; no lens needed
search path: public
statement (read): select email, nick from people where email = ? and id = ?
  public.people.email: searched, sealed; encrypted deterministic
    because level restricted (policy.toml:8), within clearance restricted of [roles.app] (policy.toml:11)
  public.people.id: searched, clear
    because default_level internal (policy.toml:2), within clearance restricted of [roles.app] (policy.toml:11)
  public.people.email: read, clear; encrypted deterministic
    because level restricted (policy.toml:8), within clearance restricted of [roles.app] (policy.toml:11)
  public.people.nick: read, clear
    because level confidential (policy.toml:10), within clearance restricted of [roles.app] (policy.toml:11)
  subject: person, by a constant
  sent: select email, nick from people where email = '\\x…'::pg_catalog.bytea and id = ?";
    assert_eq!(said, expected);
}

#[test]
fn a_masked_role_is_told_mask_view_and_filter() {
    let rules = rules(true);
    let said = lines(&rules, "analyst", "select p.email, p.note, nick from public.people p");
    let view = "through pgveil_lens_analyst_public.people";
    for expected in [
        "role analyst: [roles.analyst] (policy.toml:13), clearance internal, above it masked; lens in force",
        "search path: pgveil_lens_analyst_public, public",
        &format!("  public.people.email: read, masked with email; encrypted deterministic; {view}"),
        &format!("  public.people.note: read, null; encrypted randomized; {view}"),
        &format!("  public.people.nick: read, masked with partial:1:0; {view}"),
        "    because level confidential (policy.toml:10), above clearance internal of [roles.analyst] (policy.toml:13)",
        "  rows of public.people: only where born > '1950-01-01' (policy.toml:16)",
        "  sent: select p.email, p.note, nick from \"pgveil_lens_analyst_public\".people p",
    ] {
        assert!(said.lines().any(|line| line == expected), "{expected}\n in\n{said}");
    }
    let counted = lines(&rules, "analyst", "select count(*) from people");
    assert!(counted.contains("rows of public.people"), "without any column: {counted}");
    let client = of(&rules, "analyst", "select nick from people", Asker::Client).0.lines().join("\n");
    assert!(client.contains("only where born > ? (policy.toml:16)") && !client.contains("1950"), "{client}");
}

#[test]
fn a_refusal_names_code_hint_and_what_was_reached() {
    let rules = rules(false);
    let (report, _) = of(&rules, "app", "select id from people where note = 'secret'", Asker::Operator);
    assert_eq!((report.decision, report.refusal.as_ref().map(|said| said.code)), (Verdict::Refused, Some("PV011")));
    let said = report.lines().join("\n");
    assert!(said.starts_with("refused: PV011 ") && said.contains("\nhint: ") && !said.contains("secret"), "{said}");
    let analyst = lines(&rules, "analyst", "select nick from people");
    assert!(analyst.starts_with("refused: PV013") && analyst.contains("its lens is not in force"), "{analyst}");
    let whole = lines(&rules, "stranger", "select * from people");
    let why = "because level confidential (policy.toml:10), above clearance public of default_role (policy.toml)";
    assert!(whole.contains(&format!("public.people.nick: named, refused\n    {why}")), "{whole}");
}

#[test]
fn roles_and_relations_that_nobody_knows_are_said_to_be_unknown() {
    let rules = rules(false);
    let said = lines(&rules, "stranger", "select 1");
    assert!(said.contains("role stranger: no entry in the policy, so default_role (policy.toml), clearance public"));
    assert!(said.contains("note: PostgreSQL has no role stranger"), "{said}");
    assert!(lines(&rules, "app", "select 1").starts_with("pass: "));
    assert!(lines(&rules, "app", "select * from nothing").starts_with("unknown: "));
    assert!(
        lines(&rules, "app", "select 1; delete from people where id = 3").contains("\nstatement 2 (delete): delete")
    );
}

#[test]
fn columns_searched_by_sealed_values_are_listed_once() {
    let sql = "select id from people where email = $1 or email = $2";
    let (report, _) = of(&rules(false), "app", sql, Asker::Operator);
    let names: Vec<String> = report.searched.iter().map(|c| format!("{}.{}", c.relation, c.column)).collect();
    assert_eq!(names, ["public.people.email"]);
    let json = serde_json::to_value(&report).expect("JSON");
    assert_eq!(json["decision"], "act");
    assert_eq!(json["statements"][0]["columns"][0]["treatment"], "sealed");
    assert_eq!(json["role"]["lens"], "not-needed");
}

/// The text that is forwarded for an EXPLAIN (PRIVACY).
fn forwarded(rules: &Rules, role: &str, sql: &str) -> (String, Arc<Plan>) {
    let plan = match of(rules, role, sql, Asker::Client).1 {
        Decision::Act(plan) | Decision::Unknown(plan) => plan,
        other => panic!("{sql}: {other:?}"),
    };
    (crate::plan::tests::shown(sql, &plan), plan)
}

#[test]
fn explain_privacy_becomes_a_query_of_its_lines() {
    for lens in [false, true] {
        let rules = rules(lens);
        for role in ["app", "analyst", "stranger"] {
            for about in [
                "select nick from people where email = 'secret' and nick <> 'o''secret'",
                "update people set nick = 'secret' where id = 1",
                "select 'secret'",
                "copy people from stdin",
                "drop table people",
            ] {
                let sql = format!("explain (privacy) {about}");
                let (text, plan) = forwarded(&rules, role, &sql);
                let opens = text.starts_with("select pg_catalog.unnest(array['");
                assert!(opens && text.ends_with("as \"PRIVACY PLAN\"") && !text.contains("secret"), "{role}: {text}");
                assert_eq!((plan.edits.len(), plan.steps.len()), (1, 1));
                let step = &plan.steps[0];
                assert_eq!(
                    (step.access, &step.kind, step.writes),
                    (Access::Other, &crate::plan::StepKind::Report, false)
                );
            }
        }
    }
}

#[test]
fn explain_privacy_keeps_places_for_parameters_and_runs_nothing() {
    let rules = rules(false);
    let (text, _) = forwarded(&rules, "app", "explain (privacy) select id from people where email = $1 and nick = $2");
    let tail = " where true or $1::pg_catalog.bytea is null or $2::pg_catalog.text is null";
    assert!(text.contains(tail), "{text}");
    let (text, plan) = forwarded(&rules, "app", "explain (privacy) insert into people (email, nick) values ($1, $1)");
    assert!(text.contains(" where true or $1::pg_catalog.bytea is null"), "{text}");
    assert!(matches!(plan.parameters[..], [crate::plan::Parameter::Sealed(_)]), "its value is sealed on the way");
    for (sql, said) in [
        ("explain (privacy, analyze) select 1", "takes no other option, such as ANALYZE"),
        ("explain (privacy off) select 1", "takes no other option"),
        ("explain (privacy)", "needs a statement"),
        ("set search_path = x; explain (privacy) select 1", "search path may change"),
    ] {
        let Decision::Refuse(refused) = of(&rules, "app", sql, Asker::Client).1 else { panic!("{sql} is not refused") };
        assert!(refused.refusal.message.contains(said), "{sql}: {}", refused.refusal);
    }
    let many = "begin; explain (privacy) select email from people; select email from people";
    let (_, plan) = forwarded(&rules, "app", many);
    assert_eq!((plan.edits.len(), plan.steps.len()), (1, 3));
}

#[test]
fn what_explain_privacy_touches_is_what_the_statement_would() {
    let rules = rules(false);
    let touches = |role, sql| {
        let plan = forwarded(&rules, role, sql).1;
        plan.steps[0].touches.iter().map(|t| (t.column.to_string(), t.how)).collect::<Vec<_>>()
    };
    use crate::plan::How;
    let read = touches("app", "explain (privacy) select email from people");
    assert_eq!(read, [("email".to_owned(), How::Read)]);
    let refused = touches("app", "explain (privacy) select email from people where note = 'x'");
    assert!(!refused.is_empty() && refused.iter().all(|(_, how)| *how == How::Refused), "{refused:?}");
}
