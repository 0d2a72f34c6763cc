//! Golden problems, and what a policy becomes against a catalog.

use std::collections::HashMap;
use std::sync::Arc;

use super::problem::render;
use super::rules::{ClassId, Level, Mode, Rules, Treatment};
use super::*;
use crate::mask::Mask;
use crate::sql::schema::{Column, RelKind, Relation, Role, Schema};
use crate::wire::types::Kind;

const MEDICO: &str = include_str!("../../policies/medico.toml");

fn one(text: &str) -> Result<Policy, Vec<Problem>> {
    parse(&[("p.toml".to_owned(), text.to_owned())])
}

fn refused(text: &str) -> String {
    render(&one(&format!("version = 1\n{text}")).unwrap_err())
}

#[test]
fn medico_loads_with_its_three_warnings() {
    let policy = one(MEDICO).unwrap_or_else(|problems| panic!("{}", render(&problems)));
    assert_eq!(policy.tables.len(), 5);
    assert_eq!(policy.roles.len(), 3);
    assert_eq!(policy.roles[1].rows.len(), 1);
    assert_eq!(policy.warnings.len(), 3, "{:?}", policy.warnings);
    assert_eq!(policy.default_role.clearance, Level::Public);
    let (_, email) = policy.column("public.users.email").unwrap();
    assert_eq!(email.mask, Mask::Email);
    assert_eq!(email.sealing.as_ref().unwrap().mode, Mode::Deterministic);
}

#[test]
fn row_filters_are_conditions_on_listed_tables() {
    let tables = "[tables.\"public.t\".columns]\nid = { level = \"public\" }\n[roles.a]\nclearance = \"public\"\n[roles.a.rows]\n";
    let with = |table: &str, condition: &str| format!("{tables}\"{table}\" = '{condition}'");
    let policy = one(&format!("version = 1\n{}", with("public.t", "id > 7 and (a or b)"))).unwrap();
    assert_eq!(&*policy.roles[0].rows[0].condition, "id > 7 and (a or b)");
    for (condition, why) in [
        ("", "the condition is empty"),
        ("a) or (b", "a parenthesis is closed that was not opened"),
        ("a or (b", "a parenthesis is not closed"),
        ("a; drop table t", "a condition has no semicolon"),
        ("id = $1", "a condition has no parameters"),
        ("a -- b", "a comment stands behind the condition"),
    ] {
        assert!(refused(&with("public.t", condition)).contains(why), "{condition}");
    }
    assert!(refused(&with("public.u", "a")).contains("which the policy does not list"));
    let default = "[default_role]\nclearance = \"public\"\n[default_role.rows]\n\"public.t\" = \"a\"";
    assert!(refused(default).contains("default_role cannot have row filters"));
}

#[test]
fn max_rows_is_a_whole_number_from_1() {
    let of = |line: &str| one(&format!("version = 1\n[roles.a]\nclearance = \"public\"\n{line}"));
    assert_eq!(of("max_rows = 1000").unwrap().roles[0].max_rows, Some(1000));
    assert_eq!(of("").unwrap().roles[0].max_rows, None);
    for bad in ["0", "-1", "1.5", "\"10\""] {
        let said = render(&of(&format!("max_rows = {bad}")).unwrap_err());
        assert!(said.contains("max_rows"), "{said}");
    }
    let everybody = one("version = 1\n[default_role]\nclearance = \"public\"\nmax_rows = 7").unwrap();
    assert_eq!(everybody.default_role.max_rows, Some(7));
}

#[test]
fn whoever_vouches_needs_a_key_that_counts() {
    use super::rules::Persons;
    let role = |lines: &str| format!("version = 1\n[roles.a]\nclearance = \"public\"\n{lines}");
    let key = "[vouchers.portal]\npublic_key = \"11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=\"";
    let vouches =
        |lines: &str| one(&role(&format!("{lines}\n{key}"))).unwrap().roles[0].vouches.clone().map(|at| at.value);
    assert_eq!(vouches("vouches = true"), Some(Persons::Pseudonym));
    assert_eq!(vouches("vouches = true\npersons = \"clear\""), Some(Persons::Clear));
    assert_eq!(vouches("vouches = false"), None);
    for (lines, why) in [
        ("vouches = true", "nobody whose signature counts"),
        ("persons = \"clear\"", "it may not vouch"),
        ("[vouchers.portal]", "no public_key that can be read"),
        ("[vouchers.portal]\npublic_key = \"AAAA\"", "no public_key that can be read"),
        ("[vouchers.portal]\nkey = \"x\"", "key"),
    ] {
        let said = render(&one(&role(lines)).unwrap_err());
        assert!(said.contains(why), "{said}");
    }
}

#[test]
fn copies_are_refused_unless_the_policy_says_otherwise() {
    use super::rules::Copies;
    assert_eq!(one("version = 1").unwrap().copies, Copies::Refuse);
    let allowed = one("version = 1\ncopies = \"allow\"").unwrap();
    assert_eq!(allowed.copies, Copies::Allow);
    assert!(allowed.warnings.iter().any(|warning| warning.contains("hides it from nobody")), "{:?}", allowed.warnings);
    let said = refused("copies = \"no\"");
    assert!(said.contains("cannot be \"no\"") && said.contains("refuse, allow"), "{said}");
}

#[test]
fn golden_problems() {
    let text = r#"
defualt_level = "internal"
[levels.secret]
encryption_required = true
[levels.restricted]
consent_required = true
retention = "7 years"
[tables.users]
[tables."public.users"]
subject = { kind = "user" }
[tables."public.users".columns]
a = { levle = "restricted" }
b = { level = "restrictd", data = "pi" }
c = { level = "restricted", encrypt = "determinstic", as = "varchar(9)" }
d = { level = "restricted", encrypt = "searchable" }
e = { level = "restricted", encrypt = "deterministic", as = "text" }
f = { level = "internal", mask = "emial" }
g = { level = "internal", mask = "bucket:0" }
h = { level = "restricted", encrypt = "randomized", as = "citext", row_bound = true }
i = { level = "restricted" }
j = { level = "internal", as = "text" }
k = { level = "restricted", encrypt = "deterministic", as = "bool", mask = "noise:5" }
l = { level = "internal", encrypt = "deterministic", as = "uuid", same_as = "public.users.z" }
[roles.app]
purpose = "care"
[roles.eve]
clearance = 4
above = "masks"
[detect]
bulk_window = "15 minutes"
[detect.hours]
time_zone = "Europe/Berlni"
monday = "8-18"
"#;
    let all = refused(text);
    let golden = include_str!("golden.txt");
    assert_eq!(all.trim(), golden.trim(), "\n--- all problems now ---\n{all}\n");
}

#[test]
fn what_is_not_enforced_must_be_accepted_by_name() {
    let text = "[levels.restricted]\nconsent_required = true\n";
    assert_eq!(
        refused(text),
        "p.toml:3: `consent_required` is not enforced by this version\n  \
         help: remove it, or load it knowingly: accept_unenforced = [\"consent_required\"]"
    );
    let accepted = one(&format!("version = 1\naccept_unenforced = [\"consent_required\"]\n{text}")).unwrap();
    assert_eq!(accepted.warnings, ["`consent_required` is written but not enforced by this version"]);
    assert!(one("version = 1\n[levels.restricted]\nconsent_required = false\n").unwrap().warnings.is_empty());
}

#[test]
fn files_of_a_folder_are_one_policy() {
    let files = [
        ("a.toml".to_owned(), "version = 1\n[roles.app]\nclearance = \"public\"\n".to_owned()),
        ("b.toml".to_owned(), "version = 1\n[roles.app]\nclearance = \"public\"\n".to_owned()),
    ];
    assert_eq!(
        render(&parse(&files).unwrap_err()),
        "b.toml:2: [roles.app] is written twice\n  help: first written in a.toml:2"
    );
    assert!(parse(&[]).is_err());
}

#[test]
fn one_file_says_whether_the_policy_observes() {
    assert_eq!(one("version = 1\n").unwrap().observe, None);
    assert_eq!(one("version = 1\nmode = \"enforce\"\n").unwrap().observe, None);
    let observes = one("version = 1\nmode = \"observe\"\n").unwrap();
    assert_eq!(observes.observe.as_ref().map(ToString::to_string).as_deref(), Some("p.toml:2"));
    assert!(observes.warnings[0].starts_with("OBSERVING, NOT ENFORCING: mode = \"observe\" (p.toml:2)"));
    let said = refused("mode = \"observed\"\n");
    assert!(said.contains("p.toml:2: `mode` cannot be \"observed\"") && said.contains("observe"), "{said}");
    let file = |name: &str, mode: &str| (name.to_owned(), format!("version = 1\nmode = \"{mode}\"\n"));
    assert_eq!(
        render(&parse(&[file("a.toml", "observe"), file("b.toml", "enforce")]).unwrap_err()),
        "b.toml:2: mode is written twice\n  help: first written in a.toml:2"
    );
}

// ---- against a catalog ----

fn column(attnum: i16, name: &str, type_name: &str) -> Column {
    let sealed = type_name.strip_prefix("pgveil.").and_then(Kind::of_domain);
    Column {
        attnum,
        name: name.into(),
        type_oid: 0,
        type_name: type_name.into(),
        typmod: -1,
        not_null: false,
        has_default: false,
        generated: false,
        sealed,
        sealed_array: false,
        source: None,
    }
}

fn relation(oid: u32, name: &str, kind: RelKind, columns: Vec<Column>) -> Relation {
    Relation {
        oid,
        schema: "public".into(),
        name: name.into(),
        kind,
        columns,
        primary_key: Vec::new(),
        reads: Vec::new(),
        children: Vec::new(),
    }
}

fn schema(relations: Vec<Relation>) -> Schema {
    let mut schema = Schema { database: "app".into(), ..Schema::default() };
    for relation in relations {
        schema.by_name.insert((relation.schema.clone(), relation.name.clone()), relation.oid);
        schema.relations.insert(relation.oid, Arc::new(relation));
    }
    let group = |name: &str| Role { member_of: vec![name.to_owned()], ..Role::default() };
    schema.roles.insert("app".into(), Role::default());
    schema.roles.insert("ann".into(), group("staff"));
    schema.roles.insert("bob".into(), Role { member_of: vec!["staff".into(), "guests".into()], ..Role::default() });
    schema
}

const POLICY: &str = r#"
version = 1
[tables."public.users"]
subject = { kind = "user", key = "id" }
[tables."public.users".columns]
id = { level = "internal" }
email = { level = "restricted", as = "varchar(320)", encrypt = "deterministic", mask = "email" }
[roles.app]
clearance = "restricted"
[roles.staff]
member_of = "staff"
clearance = "internal"
write = true
[roles.guests]
member_of = "guests"
clearance = "public"
above = "deny"
[roles.dump]
clearance = "restricted"
export = "sealed"
"#;

fn users() -> Relation {
    let columns =
        vec![column(1, "id", "bigint"), column(2, "email", "pgveil.sealed_varchar"), column(3, "note", "text")];
    relation(10, "Users", RelKind::Table, columns)
}

fn compiled(policy: &str, mut schema: Schema, ids: &[(&str, u32)]) -> Result<Rules, String> {
    let ids: HashMap<String, u32> = ids.iter().map(|(name, id)| ((*name).to_owned(), *id)).collect();
    let policy = one(policy).unwrap_or_else(|problems| panic!("{}", render(&problems)));
    let text = crate::wire::types::SqlType::parse("varchar(320)").unwrap();
    schema.sealed_types.entry((10, 2)).or_insert(text);
    compile(&policy, Arc::new(schema), &|name| ids.get(name).map(|id| (*id, Mode::Deterministic)), 7)
        .map_err(|problems| render(&problems))
}

#[test]
fn roles_have_the_calendar_and_the_peers_of_their_entry() {
    let policy = |canary: &str| {
        format!(
            "version = 1\n[tables.\"public.Users\"]\nsubject = {{ kind = \"user\", key = \"id\" }}\n\
             canaries = [\"{canary}\"]\n[tables.\"public.Users\".columns]\nid = {{ level = \"internal\" }}\n\
             [roles.app]\nclearance = \"restricted\"\ncalendar = \"night\"\npeers = \"ward\"\n\
             [roles.dump]\nclearance = \"restricted\"\n[detect.calendars.night]\ntime_zone = \"UTC\"\n\
             monday = \"22:00-06:00\"\nexceptions = {{ \"2026-12-24\" = \"closed\", \"2026-12-28\" = \"20:00-06:00\" }}\n"
        )
    };
    let mut table = users();
    table.columns[1].sealed = None;
    table.columns[0].type_oid = 20;
    let rules = compiled(&policy("4711"), schema(vec![table.clone()]), &[]).unwrap();
    let hours = &rules.detect.calendars["app"];
    assert_eq!((hours.week[0], hours.week[1], hours.exceptions.len()), (Some((1_320, 360)), None, 2));
    assert!(!rules.detect.calendars.contains_key("dump"));
    assert_eq!((&*rules.detect.peers["app"], &*rules.detect.peers["dump"]), ("ward", "dump"));
    let no_key = compiled(&policy("parkiet"), schema(vec![table]), &[]).unwrap_err();
    assert!(no_key.starts_with("p.toml:4: a canary of public.Users is no id") && !no_key.contains("parkiet"));
    let unknown = "[roles.app]\nclearance = \"public\"\ncalendar = \"nihgt\"\n[detect.calendars.night]\ntime_zone = \"UTC\"\n\
                   monday = \"22:00-06:00\"";
    assert!(refused(unknown).contains("p.toml:4: there is no calendar \"nihgt\"\n  help: did you mean `night`?"));
}

#[test]
fn purposes_narrow_the_roles_that_act_for_them() {
    let purposes = "[purposes.care]\nbasis = \"vital\"\n[purposes.research]\nbasis = \"public_task\"\n\
        clearance = \"internal\"\n[purposes.research.rows]\n\"public.Users\" = \"id > 7\"\n";
    let role = |more: &str| {
        let table = "[tables.\"public.Users\".columns]\nid = { level = \"internal\" }\n";
        format!("version = 1\n{table}{purposes}[roles.app]\nclearance = \"restricted\"\n{more}\n")
    };
    let several = role(
        "purpose = \"care\"\npurposes = [\"research\", \"care\"]\n[roles.app.rows]\n\"public.Users\" = \"id < 9\"",
    );
    let mut table = users();
    table.columns[1].sealed = None;
    let rules = compiled(&several, schema(vec![table]), &[]).unwrap();
    let own = rules.class(rules.class_of("app"));
    let acts: Vec<&str> = own.acts.iter().map(|act| &*act.purpose).collect();
    assert_eq!(acts, ["care", "research"], "the first when nothing is claimed");
    let research = rules.class(own.acts[1].class);
    assert_eq!((own.hidden.len(), research.hidden.len()), (0, 2));
    assert_eq!(research.purpose.as_deref(), Some("research"));
    let conditions: Vec<&str> = rules
        .views
        .iter()
        .filter(|view| !view.inserts)
        .filter_map(|view| Some(view.select.rsplit_once("\n  where ")?.1))
        .collect();
    assert_eq!(
        conditions,
        [
            "(select pgveil.acts_for('care')) and (id < 9)",
            "(select pgveil.acts_for('research')) and ((id < 9) and (id > 7))"
        ]
    );
    let refused = |more: &str| render(&one(&role(more)).unwrap_err());
    assert!(refused("purposes = [\"care\", \"research\"]").contains("help: add purpose = \"care\""));
    assert!(refused("purposes = [\"cure\"]").contains("did you mean `care`?"));
    let default = role("[default_role]\nclearance = \"public\"\npurpose = \"care\"");
    assert!(render(&one(&default).unwrap_err()).contains("default_role acts for no purpose"));
    let consent = role("").replace("public_task", "consent");
    assert!(render(&one(&consent).unwrap_err()).contains("`consent_required` is not enforced"));
}

#[test]
fn classes_see_what_their_clearance_says() {
    let policy = POLICY.replace("public.users", "public.Users");
    let rules = compiled(&policy, schema(vec![users()]), &[("public.Users.email", 1)]).unwrap();
    let class = |login: &str| rules.class(rules.class_of(login));
    assert_eq!(rules.version, 7);
    assert_eq!(class("app").treatment(1), Treatment::Clear);
    assert!(!class("app").restricted());
    assert!(class("app").may_search.contains(&1) && class("app").may_write.contains(&1));
    assert_eq!(class("ann").treatment(1), Treatment::Mask);
    assert!(class("ann").may_write.contains(&1) && !class("ann").may_search.contains(&1));
    assert_eq!(class("ann").hidden, [(10, 3)].into(), "the unlisted column is restricted");
    assert_eq!(class("bob").role, "guests", "the lowest clearance of several groups");
    assert_eq!(class("bob").treatment(1), Treatment::Deny);
    assert_eq!(class("dump").treatment(1), Treatment::Sealed);
    assert!(class("dump").may_search.is_empty());
    assert_eq!(rules.class_of("nobody"), ClassId(0));
    assert_eq!(class("nobody").hidden, [(10, 1), (10, 3)].into());
    assert_eq!(class("nobody").treatment(1), Treatment::Mask);
    assert!(rules.names.contains("users"));
    assert_eq!(rules.tables[&10].subject.as_ref().unwrap().attnum, 1);
    assert!(
        rules
            .warnings
            .iter()
            .any(|w| w == "public.Users: not listed, so restricted by default and stored in plaintext: note")
    );
}

#[test]
fn a_column_that_waits_for_apply_is_pending_not_plain() {
    let mut table = users();
    table.name = "users".into();
    table.columns[1] = column(2, "email", "character varying(320)");
    let rules = compiled(POLICY, schema(vec![table]), &[]).unwrap();
    assert_eq!(rules.tables[&10].pending, ["email".into()]);
    assert!(rules.sealed.is_empty());
    assert!(rules.class(ClassId(0)).hidden.contains(&(10, 2)));
}

#[test]
fn contradictions_with_the_catalog_are_all_reported() {
    let policy = POLICY
        .replace("public.users", "public.Users")
        .replace("id = {", "idd = {")
        .replace("varchar(320)", "varchar(99)");
    let all = compiled(&policy, schema(vec![users()]), &[]).unwrap_err();
    assert_eq!(
        all,
        "p.toml:6: public.Users has no column idd\n  help: did you mean `id`?\n\
         p.toml:7: public.Users.email is character varying(320) in the database, not character varying(99)\n  \
         help: as = \"character varying(320)\""
    );
    let all = compiled(POLICY, schema(vec![users()]), &[]).unwrap_err();
    assert_eq!(all, "p.toml:3: there is no table public.users in app\n  help: did you mean `public.Users`?");
    let all = compiled(&POLICY.replace("public.users", "public.Users"), schema(vec![users()]), &[]).unwrap_err();
    assert!(all.contains("the keyring has no id for public.Users.email"), "{all}");
}

#[test]
fn a_mode_cannot_change_under_sealed_cells() {
    let policy = POLICY.replace("public.users", "public.Users").replace("\"deterministic\"", "\"randomized\"");
    let all = compiled(&policy, schema(vec![users()]), &[("public.Users.email", 1)]).unwrap_err();
    assert!(all.contains("public.Users.email is sealed the other way: its cells are deterministic"), "{all}");
}

#[test]
fn a_renamed_column_keeps_its_id() {
    let policy = POLICY
        .replace("public.users", "public.Users")
        .replace("encrypt = \"deterministic\"", "encrypt = \"deterministic\", was = \"public.Users.mail\"");
    let rules = compiled(&policy, schema(vec![users()]), &[("public.Users.mail", 5)]).unwrap();
    assert_eq!(rules.sealed[&(10, 2)].id, 5);
}

#[test]
fn views_hide_what_cannot_be_traced_to_a_visible_column() {
    let mut view = relation(20, "Directory", RelKind::View, Vec::new());
    view.reads = vec![10];
    let traced = |attnum, name: &str, source| Column { source, ..column(attnum, name, "text") };
    view.columns = vec![
        traced(1, "id", Some((10, 1))),
        traced(2, "note", Some((10, 3))),
        traced(3, "shout", None),
        traced(4, "email", Some((10, 2))),
    ];
    let policy = POLICY.replace("public.users", "public.Users");
    let rules = compiled(&policy, schema(vec![users(), view]), &[("public.Users.email", 1)]).unwrap();
    let hidden = &rules.class(rules.class_of("ann")).hidden;
    assert!(!hidden.contains(&(20, 1)) && hidden.contains(&(20, 2)) && hidden.contains(&(20, 3)));
    assert!(!hidden.contains(&(20, 4)), "sealed columns are judged by their id");
    assert!(rules.names.contains("directory"));
    assert_eq!(rules.sealed_at(20, 4).unwrap().id, 1);
}

#[test]
fn partitions_follow_their_parent_and_cannot_be_listed_alone() {
    let mut child = users();
    child.oid = 11;
    child.name = "users_1".into();
    let mut parent = users();
    parent.kind = RelKind::Partitioned;
    parent.children = vec![11];
    let policy = POLICY.replace("public.users", "public.Users");
    let rules = compiled(&policy, schema(vec![parent.clone(), child.clone()]), &[("public.Users.email", 1)]).unwrap();
    assert_eq!(rules.sealed[&(11, 2)].id, 1);
    assert!(rules.class(rules.class_of("ann")).hidden.contains(&(11, 3)));
    assert!(rules.names.contains("users_1"));
    let alone = POLICY.replace("public.users", "public.users_1");
    let all = compiled(&alone, schema(vec![parent, child]), &[("public.users_1.email", 1)]).unwrap_err();
    assert!(all.contains("public.users_1 is a partition or child of public.Users, which is not listed"), "{all}");
}

#[test]
fn shared_ids_need_the_same_level_and_mode() {
    let text = r#"
[tables."public.a".columns]
x = { level = "restricted", encrypt = "deterministic", as = "uuid" }
[tables."public.b".columns]
x = { level = "confidential", encrypt = "deterministic", as = "uuid", same_as = "public.a.x" }
y = { level = "restricted", encrypt = "randomized", as = "uuid", same_as = "public.a.x" }
z = { level = "restricted", encrypt = "deterministic", as = "int8", same_as = "public.a.x" }
"#;
    let all = refused(text);
    for expected in [
        "p.toml:6: public.b.x and public.a.x share an id but not a level",
        "p.toml:7: public.b.y and public.a.x can only share",
        "p.toml:8: public.b.z and public.a.x share an id but not a type",
    ] {
        assert!(all.contains(expected), "{all}");
    }
}

// ---- hostile text ----

proptest::proptest! {
    #[test]
    fn a_damaged_policy_has_problems_or_loads_and_never_panics(
        at in 0..MEDICO.len(),
        cut in 0..40usize,
        insert in "[\\[\\]{}=\"'.,#a-z0-9 \n\\\\é-]{0,12}",
    ) {
        let start = (at..).find(|i| MEDICO.is_char_boundary(*i)).unwrap();
        let end = (start + cut..).find(|i| *i >= MEDICO.len() || MEDICO.is_char_boundary(*i)).unwrap().min(MEDICO.len());
        let text = format!("{}{insert}{}", &MEDICO[..start], &MEDICO[end..]);
        if let Err(problems) = one(&text) {
            let lines = u32::try_from(text.matches('\n').count() + 1).unwrap();
            proptest::prop_assert!(!problems.is_empty() && problems.iter().all(|p| p.line <= lines));
        }
    }
}
