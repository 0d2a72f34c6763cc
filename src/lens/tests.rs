//! Plans without a server: what is made, what is kept, what stands in the way.

use std::collections::HashMap;
use std::sync::Arc;

use super::facts::{ForeignKey, Index, TableFacts};
use super::*;
use crate::policy::problem::render;
use crate::sql::schema::{Column, RelKind, Relation, Role};

const POLICY: &str = r#"
version = 1
[tables."public.users".columns]
id = { level = "internal" }
email = { level = "restricted", as = "varchar(320)", encrypt = "deterministic" }
name = { level = "restricted", as = "text", encrypt = "randomized" }
[tables."public.logins".columns]
id = { level = "internal" }
email = { level = "restricted", as = "varchar(320)", encrypt = "deterministic", same_as = "public.users.email" }
[roles.analyst]
clearance = "public"
"#;

fn column(attnum: i16, name: &str, type_name: &str) -> Column {
    Column {
        attnum,
        name: name.into(),
        type_oid: 0,
        type_name: type_name.into(),
        typmod: -1,
        not_null: false,
        has_default: false,
        generated: false,
        sealed: type_name.strip_prefix("pgveil.").and_then(Kind::of_domain),
        sealed_array: false,
        source: None,
    }
}

fn schema(email: &str, name: &str) -> Schema {
    let mut schema = Schema { database: "app".into(), ..Schema::default() };
    let users = vec![column(1, "id", "bigint"), column(2, "email", email), column(3, "name", name)];
    let logins = vec![column(1, "id", "bigint"), column(2, "email", email)];
    for (oid, table, columns) in [(10, "users", users), (11, "logins", logins)] {
        let relation = Relation {
            oid,
            schema: "public".into(),
            name: table.into(),
            kind: RelKind::Table,
            columns,
            primary_key: vec![1],
            reads: Vec::new(),
            children: Vec::new(),
        };
        schema.by_name.insert((relation.schema.clone(), relation.name.clone()), oid);
        schema.relations.insert(oid, Arc::new(relation));
    }
    schema.roles.insert("analyst".into(), Role::default());
    schema
}

fn plaintext() -> Schema {
    schema("character varying(320)", "text")
}

fn facts() -> Facts {
    let table = TableFacts { owner: "boss".into(), ours: true, ..TableFacts::default() };
    Facts { tables: HashMap::from([(10, table.clone()), (11, table)]), ..Facts::default() }
}

fn policy() -> Policy {
    crate::policy::parse(&[("p.toml".into(), POLICY.into())]).unwrap()
}

fn planned(schema: &Schema, facts: &Facts) -> Plan {
    let ids = HashMap::from([("public.users.email".to_owned(), 1), ("public.users.name".to_owned(), 2)]);
    plan(&policy(), schema, facts, &ids)
}

fn text(statements: &[Statement]) -> String {
    statements.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

fn index(name: &str, columns: &[i16]) -> Index {
    Index {
        name: name.into(),
        method: "btree".into(),
        unique: true,
        exclusion: false,
        computed: false,
        default_classes: true,
        columns: columns.to_vec(),
    }
}

#[test]
fn the_first_run_makes_everything_in_order() {
    let plan = planned(&plaintext(), &facts());
    let sql = text(&plan.statements);
    let at = |part: &str| sql.find(part).unwrap_or_else(|| panic!("{part} is not in\n{sql}"));
    assert!(at("create schema pgveil") < at("grant usage on schema pgveil to public"));
    assert!(at("create domain pgveil.sealed_varchar as bytea") < at("alter table \"public\".\"users\""));
    assert!(at("create table pgveil.columns") < at("insert into pgveil.columns"));
    at("alter column \"email\" type pgveil.sealed_varchar using pg_catalog.convert_to(\"email\"::text, 'UTF8')");
    at("values ('\"public\".\"logins\"'::regclass, 2, 'email', 1, 'character varying(320)', 'deterministic')");
    assert_eq!(plan.statements.iter().filter(|s| s.sql.starts_with("create domain")).count(), Kind::ALL.len());
    assert!(!sql.contains("event trigger"), "needs a superuser");
    assert_eq!(plan.sealed, ["public.users.email", "public.users.name", "public.logins.email"]);
    assert!(plan.complete());
}

#[test]
fn the_second_run_has_nothing_to_do() {
    let mut schema = schema("pgveil.sealed_varchar", "pgveil.sealed_text");
    schema.sealed_domains =
        Kind::ALL.iter().enumerate().map(|(i, kind)| (900 + u32::try_from(i).unwrap(), *kind)).collect();
    let recorded = |relation, attnum, column: &str, id, as_type: &str, mode: &str| facts::Recorded {
        relation,
        attnum,
        column: column.into(),
        id,
        as_type: as_type.into(),
        mode: mode.into(),
    };
    let facts = Facts {
        schema: true,
        columns_table: true,
        recorded: vec![
            recorded(10, 2, "email", 1, "character varying(320)", "deterministic"),
            recorded(10, 3, "name", 2, "text", "randomized"),
            recorded(11, 2, "email", 1, "character varying(320)", "deterministic"),
        ],
        ..facts()
    };
    let plan = planned(&schema, &facts);
    assert!(plan.statements.is_empty() && plan.complete(), "{}", text(&plan.statements));
}

#[test]
fn tables_with_rows_wait_and_the_others_go_on() {
    let mut facts = facts();
    facts.tables.get_mut(&10).unwrap().rows = true;
    let plan = planned(&plaintext(), &facts);
    assert_eq!(plan.waiting, ["public.users.email", "public.users.name"]);
    assert_eq!(plan.sealed, ["public.logins.email"]);
    assert!(!plan.complete());
}

#[test]
fn everything_in_the_way_is_listed_at_once() {
    let mut facts = facts();
    let users = facts.tables.get_mut(&10).unwrap();
    users.ours = false;
    users.row_security = true;
    users.triggers = vec!["audit".into()];
    users.rules = vec!["r".into()];
    users.partition_key = vec![3];
    users.dependents = vec![(3, "view names".into()), (2, "default value for column email of table users".into())];
    users.indexes = vec![
        index("users_name_key", &[3]),
        Index { computed: true, ..index("users_lower", &[2]) },
        Index { method: "gin".into(), unique: false, ..index("users_gin", &[2]) },
        Index { default_classes: false, ..index("users_like", &[2]) },
        Index { exclusion: true, ..index("users_excl", &[2]) },
    ];
    let all = render(&planned(&plaintext(), &facts).refused);
    for expected in [
        "p.toml:5: public.users.email cannot be sealed: the table belongs to boss",
        "public.users.email cannot be sealed: the table has row security",
        "the table has triggers (audit)",
        "the table has rules (r)",
        "public.users.name cannot be sealed: it is part of the partition key",
        "public.users.name cannot be sealed: view names depends on it",
        "public.users.email cannot be sealed: default value for column email of table users depends on it",
        "the unique index users_name_key uses it, and equal values have different envelopes",
        "the index users_lower has an expression or a WHERE clause on it",
        "the gin index users_gin uses it",
        "the index users_like names an operator class that envelopes do not have",
        "the EXCLUDE constraint users_excl uses it",
    ] {
        assert!(all.contains(expected), "{expected} is not in\n{all}");
    }
}

#[test]
fn a_foreign_key_is_remade_between_its_ends_or_refuses_both() {
    let key = ForeignKey {
        name: "logins_email_fkey".into(),
        from: (11, vec![2]),
        to: (10, vec![2]),
        definition: "FOREIGN KEY (email) REFERENCES public.users(email)".into(),
    };
    let mut facts = Facts { foreign_keys: vec![key.clone()], ..facts() };
    facts.tables.get_mut(&10).unwrap().indexes = vec![index("users_email_key", &[2])];
    let sql = text(&planned(&plaintext(), &facts).statements);
    let drop = sql.find("drop constraint \"logins_email_fkey\"").unwrap();
    let alter = sql.rfind("alter column").unwrap();
    let add = sql.find("add constraint \"logins_email_fkey\" FOREIGN KEY").unwrap();
    assert!(drop < alter && alter < add);

    facts.tables.get_mut(&10).unwrap().rows = true;
    let plan = planned(&plaintext(), &facts);
    assert!(plan.sealed.is_empty());
    assert!(render(&plan.refused).contains("the other end of the foreign key logins_email_fkey cannot be sealed now"));

    let foreign = ForeignKey { to: (10, vec![1]), ..key };
    let facts = Facts { foreign_keys: vec![foreign], ..self::facts() };
    assert!(render(&planned(&plaintext(), &facts).refused).contains("is not encrypted"));
}

#[test]
fn columns_that_share_an_id_are_bound_once() {
    let bindings = bindings(&policy(), &plaintext(), &facts());
    let names: Vec<&str> = bindings.iter().map(|b| b.column.as_str()).collect();
    assert_eq!(names, ["public.users.email", "public.users.name"]);
    assert!(bindings.iter().all(|b| b.empty && b.database == "app"));
}

#[test]
fn what_needs_a_superuser_is_a_script_of_its_own_or_part_of_a_superusers_plan() {
    let facts = Facts { control: "ve\"il".into(), ..facts() };
    let script = text(&planned(&plaintext(), &facts).superuser);
    let at = |part: &str| script.find(part).unwrap_or_else(|| panic!("{part} is not in\n{script}"));
    assert!(at("create schema pgveil authorization \"ve\"\"il\"") < at("create event trigger pgveil_catalog"));
    assert!(at("security definer set search_path = pg_catalog, pg_temp") < at("revoke all on function"));
    assert!(at("from public") < at("grant execute on function pgveil.scram_verifier(text) to \"ve\"\"il\""));
    let later = Facts { schema: true, event_trigger: true, ..facts.clone() };
    let script = text(&planned(&plaintext(), &later).superuser);
    assert!(script.contains("scram_verifier") && !script.contains("create schema") && !script.contains("trigger"));
    let done = Facts { verifier_function: true, ..later };
    assert!(planned(&plaintext(), &done).superuser.is_empty());
    let ours = text(&planned(&plaintext(), &Facts { superuser: true, ..facts }).statements);
    assert!(ours.contains("create or replace function pgveil.scram_verifier"));
}

#[test]
fn two_lenses_never_share_a_schema() {
    let mut schema = plaintext();
    for (oid, base) in [(20, "c"), (21, "b_c")] {
        let table = Relation { oid, schema: base.into(), ..Relation::clone(schema.named("public", "users").unwrap()) };
        schema.by_name.insert((table.schema.clone(), table.name.clone()), oid);
        schema.relations.insert(oid, Arc::new(table));
    }
    let text = "version = 1
        [tables.\"c.users\".columns]
        id = { level = \"public\" }
        [tables.\"b_c.users\".columns]
        id = { level = \"public\" }
        [roles.a_b]
        clearance = \"public\"
        [roles.a]
        clearance = \"public\"";
    let policy = crate::policy::parse(&[("p.toml".into(), text.into())]).unwrap();
    let rules = crate::policy::compile(&policy, Arc::new(schema.clone()), &|_| None, 0).unwrap();
    let planned = views::plan(&rules.views, &schema, &LensFacts::default(), "boss");
    let said = render(&planned.refused);
    assert!(said.contains("[roles.a] and [roles.a_b] would both be schema pgveil_lens_a_b_c"), "{said}");
}

#[test]
fn purposes_need_the_statistics_of_sessions() {
    let policy = "version = 1
        [tables.\"public.users\".columns]
        id = { level = \"public\" }
        [purposes.care]
        basis = \"vital\"
        [purposes.research]
        basis = \"public_task\"
        clearance = \"public\"
        [roles.a]
        clearance = \"restricted\"
        purpose = \"care\"
        purposes = [\"research\"]";
    let policy = crate::policy::parse(&[("p.toml".into(), policy.into())]).unwrap();
    let schema = plaintext();
    let rules = crate::policy::compile(&policy, Arc::new(schema.clone()), &|_| None, 0).unwrap();
    let schemas: Vec<&str> = rules.views.iter().map(|view| &*view.schema).collect();
    let care = ["pgveil_lens_a_care_public", "pgveil_lens_a_care_public_insert"];
    assert_eq!(schemas[..2], care);
    assert_eq!(schemas[2..], ["pgveil_lens_a_research_public", "pgveil_lens_a_research_public_insert"]);
    assert!(rules.views.iter().all(|view| view.select.contains("where (select pgveil.acts_for('")));
    let planned = views::plan(&rules.views, &schema, &LensFacts::default(), "boss");
    assert!(render(&planned.refused).contains("may not see when sessions began"));
    assert!(text(&planned.superuser).contains("grant pg_read_all_stats to \"boss\""));
}
