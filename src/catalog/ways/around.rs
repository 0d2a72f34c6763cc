//! Ways that do not lead through a right on the table: attributes of the role, predefined roles, schemas and the
//! database, functions, foreign data, system tables, parameters, event triggers, publications, settings.
//!
//! In: the cast, and the catalog's rows. Out: ways. Never: an attribute or right that is not one of the role itself,
//! of a role it can become, or of PUBLIC.

use std::collections::{BTreeMap, BTreeSet};

use tokio_postgres::{Client, Row};

use super::roles::{Actor, Cast, PUBLIC, Right, Role};
use super::tables::{self, OWN_SCHEMA, Relation, Tables};
use super::{Found, WayKind, ask, queries};
use crate::error::Result;
use crate::policy::path::split;
use crate::sql::name::quoted as name;

/// Roles that come with PostgreSQL and reach past grants, what they do, and whether only hidden rows are at stake.
/// pg_monitor is a member of two of them.
const PREDEFINED: &[(&str, &str, bool)] = &[
    ("pg_create_subscription", "has the server connect to databases, this one included, past the proxy", false),
    ("pg_execute_server_program", "runs programs as the server's account", false),
    ("pg_maintain", "counts the rows of every table by VACUUM VERBOSE", true),
    ("pg_read_all_data", "reads every table", false),
    ("pg_read_all_stats", "reads the statements of other sessions, with the values in them", false),
    ("pg_read_server_files", "reads the files tables are stored in", false),
    ("pg_stat_scan_tables", "counts the rows of every table by pgstattuple", true),
    ("pg_write_all_data", "writes every table", false),
    ("pg_write_server_files", "writes the server's files, its configuration included", false),
];

/// What roles are. Superusers are struck from the cast, for everything else they could do follows.
pub(super) fn attributes(cast: &mut Cast<'_>, found: &mut Found) {
    type Attribute = (WayKind, fn(&Role) -> bool, &'static str, &'static str);
    const ATTRIBUTES: &[Attribute] = &[
        (WayKind::BypassRls, |role| role.bypassrls, "bypasses row security (BYPASSRLS)", "nobypassrls"),
        (WayKind::CreateRole, |role| role.createrole, "makes and joins roles (CREATEROLE)", "nocreaterole"),
        (WayKind::Replication, |role| role.replication, "streams all tables and files (REPLICATION)", "noreplication"),
    ];
    for actor in &cast.actors {
        let attribute = |found: &mut Found, holder: u32, kind, says: &str, without: &str| {
            let what = match cast.chain(actor, holder) {
                Some(chain) => format!("{says} by becoming {} ({chain})", cast.name(holder)),
                None => says.to_owned(),
            };
            let fix = if holder == actor.oid {
                (Some(format!("alter role {} {without}", cast.sql(holder))), true)
            } else {
                cast.leave(actor, holder)
            };
            found.add(actor, kind, what, fix);
        };
        let role = |oid: &u32| cast.roles.get(oid).map(|role| (*oid, role));
        if let Some((oid, _)) = actor.holders().filter_map(|oid| role(&oid)).find(|(_, role)| role.superuser) {
            attribute(found, oid, WayKind::Superuser, "is a superuser", "nosuperuser");
            continue;
        }
        let rows = actor.masked.hidden.iter().any(|hidden| hidden.columns.is_empty());
        for (oid, role) in actor.holders().filter_map(|oid| role(&oid)) {
            for (kind, _, says, without) in ATTRIBUTES.iter().filter(|(_, has, ..)| has(role)) {
                attribute(found, oid, *kind, says, without);
            }
            for (_, does, _) in
                PREDEFINED.iter().filter(|(name, _, only_rows)| *name == role.name && (rows || !only_rows))
            {
                let chain = cast.chain(actor, oid).unwrap_or_default();
                let what = format!("{does} as a member of {} ({chain})", role.name);
                found.add(actor, WayKind::PredefinedRole, what, cast.leave(actor, oid));
            }
        }
        if actor.reaches(cast.database.owner) {
            let what = format!(
                "has all rights on database {}, {}",
                cast.database.name,
                cast.owned(actor, cast.database.owner)
            );
            found.add(actor, WayKind::DatabaseOwner, what, cast.part(actor, cast.database.owner, || None));
        }
    }
    let roles = &cast.roles;
    cast.actors.retain(|actor| !actor.holders().any(|oid| roles.get(&oid).is_some_and(|role| role.superuser)));
    cast.gather();
}

/// Everything else, one query for each sort of object.
pub(super) async fn judge(client: &Client, cast: &Cast<'_>, tables: &Tables, found: &mut Found) -> Result<()> {
    let holders = &cast.holders;
    let own: Vec<u32> = cast.actors.iter().map(|actor| actor.oid).collect();
    let settings: Vec<Setting> = ask(client, queries::SETTINGS, &[&own]).await?.iter().map(setting).collect();
    let places: Vec<Places> = cast.actors.iter().map(|actor| Places::of(actor, tables, &settings)).collect();
    let names: BTreeSet<&String> = places.iter().flat_map(|p| p.others.iter().chain(&p.own)).collect();
    let names: Vec<&String> = names.into_iter().collect();
    role_settings(cast, &settings, found);
    schemas(cast, &places, &ask(client, queries::SCHEMAS, &[&names, holders]).await?, found);
    defaults(cast, &places, &ask(client, queries::DEFAULTS, &[&names, holders]).await?, found);
    functions(cast, &ask(client, &queries::callable(), &[holders]).await?, found);
    tables::foreign(tables, cast, found);
    event_triggers(cast, &ask(client, queries::EVENT_TRIGGERS, &[holders]).await?, found);
    for row in ask(client, queries::DATABASE, &[holders]).await? {
        let (on, says) =
            (format!("database {}", name(&cast.database.name)), "may create schemas, one named like a user too");
        granted(cast, &Grant::new(WayKind::CreateInDatabase, says, "create", &on, &row, 0), found);
    }
    for row in ask(client, queries::LANGUAGES, &[holders]).await? {
        let language: String = row.get(0);
        let (on, says) = (format!("language {}", name(&language)), format!("may write functions in {language}"));
        granted(cast, &Grant::new(WayKind::UntrustedLanguage, &says, "usage", &on, &row, 1), found);
    }
    for row in ask(client, queries::FOREIGN, &[holders]).await? {
        let (wrapper, object): (bool, String) = (row.get(0), row.get(1));
        let (kind, word) = if wrapper {
            (WayKind::ForeignWrapper, "foreign data wrapper")
        } else {
            (WayKind::ForeignServer, "foreign server")
        };
        let (on, says) = (format!("{word} {}", name(&object)), format!("may use the {word} {object}"));
        granted(cast, &Grant::new(kind, &says, "usage", &on, &row, 2), found);
    }
    for row in ask(client, queries::CATALOGS, &[holders]).await? {
        let (table, column): (String, String) = (row.get(0), row.get(1));
        let what = if column.is_empty() { "select".to_owned() } else { format!("select ({})", name(&column)) };
        let (on, says) = (format!("pg_catalog.{}", name(&table)), format!("may read pg_catalog.{table}"));
        granted(cast, &Grant::new(WayKind::SystemCatalog, &says, &what, &on, &row, 2), found);
    }
    for row in ask(client, queries::PARAMETERS, &[holders]).await? {
        let (parameter, privilege): (String, String) = (row.get(0), row.get(1));
        let on: Vec<String> = parameter.split('.').map(name).collect();
        let (on, says) = (format!("parameter {}", on.join(".")), format!("has {privilege} on parameter {parameter}"));
        granted(cast, &Grant::new(WayKind::Parameter, &says, &privilege.to_lowercase(), &on, &row, 2), found);
    }
    publications(client, cast, tables, found).await
}

/// A right on something that is not a relation.
struct Grant<'a> {
    kind: WayKind,
    says: &'a str,
    right: Right<'a>,
}

impl<'a> Grant<'a> {
    /// Grantee, grantor, owner and grantable are columns of the row from `at`.
    fn new(kind: WayKind, says: &'a str, what: &'a str, on: &'a str, row: &Row, at: usize) -> Self {
        let (grantee, grantor, owner) = (row.get(at), row.get(at + 1), row.get(at + 2));
        Self { kind, says, right: Right { what, on, grantee, grantor, owner, grantable: row.get(at + 3) } }
    }
}

fn granted(cast: &Cast<'_>, grant: &Grant<'_>, found: &mut Found) {
    for actor in cast.actors.iter().filter(|actor| actor.reaches(grant.right.grantee)) {
        reached(cast, actor, grant, found);
    }
}

fn reached(cast: &Cast<'_>, actor: &Actor<'_>, grant: &Grant<'_>, found: &mut Found) {
    let (holder, owner) = (grant.right.grantee, grant.right.owner);
    if holder == owner {
        // What an owner loses it can grant itself again.
        let what = format!("{}, {}", grant.says, cast.owned(actor, owner));
        found.add(actor, grant.kind, what, cast.part(actor, owner, || None));
    } else {
        let what = format!("{}, {}", grant.says, cast.granted(actor, holder));
        found.add(actor, grant.kind, what, cast.take(actor, &grant.right));
    }
}

/// One `ALTER ROLE … SET` or `ALTER DATABASE … SET` that holds here.
struct Setting {
    role: u32,
    here: bool,
    name: String,
    value: String,
}

fn setting(row: &Row) -> Setting {
    let text: String = row.get(2);
    let (name, value) = text.split_once('=').unwrap_or((&text, ""));
    Setting { role: row.get(0), here: row.get(1), name: name.to_owned(), value: value.to_owned() }
}

/// Schemas that matter to an actor.
struct Places {
    /// Of protected tables.
    tables: BTreeSet<String>,
    /// Of protected tables and of the lens, pgveil's own, and those in others' search path: everybody's, and what a
    /// setting of the database or of another role names.
    others: BTreeSet<String>,
    /// In its own search path, its own schema (`$user`) apart.
    own: BTreeSet<String>,
}

impl Places {
    fn of(actor: &Actor<'_>, tables: &Tables, settings: &[Setting]) -> Self {
        let guards = tables.guards(actor);
        let schema = |oid| tables.relation(oid).map(|relation: &Relation| relation.schema.clone());
        let protected: BTreeSet<String> = guards.keys().filter_map(|oid| schema(*oid)).collect();
        let paths = settings.iter().filter(|s| s.name == "search_path");
        let (own, others): (Vec<&Setting>, Vec<&Setting>) = paths.partition(|s| s.role == actor.oid);
        let named = |settings: Vec<&Setting>| -> Vec<String> {
            settings
                .into_iter()
                .flat_map(|s| split(&s.value))
                .filter(|s| **s != *"$user")
                .map(|s| s.to_string())
                .collect()
        };
        let mut all: BTreeSet<String> = named(others).into_iter().collect();
        all.extend(protected.iter().chain(&actor.masked.lens_schemas).cloned());
        all.extend([OWN_SCHEMA, "public", "pg_catalog"].map(str::to_owned));
        Self {
            tables: protected,
            others: all,
            own: named(own).into_iter().filter(|s| *s != actor.masked.role).collect(),
        }
    }

    /// Whether others' statements meet what is made there: also where the schema is named like a user, whose path
    /// begins with it.
    fn meets_others(&self, cast: &Cast<'_>, actor: &Actor<'_>, schema: &str) -> bool {
        self.others.contains(schema) || (schema != actor.masked.role && cast.is_role(schema))
    }
}

fn role_settings(cast: &Cast<'_>, settings: &[Setting], found: &mut Found) {
    let database = name(&cast.database.name);
    for setting in settings.iter().filter(|s| s.name == "role") {
        for actor in cast.actors.iter().filter(|a| setting.role == PUBLIC || setting.role == a.oid) {
            // A role that it cannot become is not taken at login either.
            let become_ = |oid: &u32| *oid != actor.oid && cast.name(*oid) == setting.value;
            let Some(role) = actor.holders().find(become_) else { continue };
            let what =
                format!("begins its sessions as {}, by a setting of {}", cast.name(role), cast.name(setting.role));
            let whose = match (setting.role, setting.here) {
                (PUBLIC, true) => format!("database {database}"),
                (PUBLIC, false) => "role all".to_owned(),
                (role, true) => format!("role {} in database {database}", cast.sql(role)),
                (role, false) => format!("role {}", cast.sql(role)),
            };
            let fix = (Some(format!("alter {whose} reset role")), setting.role == actor.oid);
            found.add(actor, WayKind::RoleSetting, what, fix);
        }
    }
}

fn schemas(cast: &Cast<'_>, places: &[Places], rows: &[Row], found: &mut Found) {
    for row in rows {
        let (schema, owner, grantee): (String, u32, Option<u32>) = (row.get(0), row.get(1), row.get(2));
        for (actor, places) in cast.actors.iter().zip(places) {
            let others = places.meets_others(cast, actor, &schema);
            if !others && !places.own.contains(&schema) {
                continue;
            }
            match grantee {
                None if others && actor.reaches(owner) => {
                    let what = format!("has all rights on schema {schema}, {}", cast.owned(actor, owner));
                    found.add(actor, WayKind::SchemaOwner, what, cast.part(actor, owner, || None));
                }
                Some(grantee) if actor.reaches(grantee) && (others || owner != actor.oid) => {
                    let on = format!("schema {}", name(&schema));
                    let says = format!("may create in schema {schema}");
                    let right =
                        Right { what: "create", on: &on, grantee, grantor: row.get(3), owner, grantable: row.get(4) };
                    reached(cast, actor, &Grant { kind: WayKind::CreateInSchema, says: &says, right }, found);
                }
                _ => {}
            }
        }
    }
}

fn defaults(cast: &Cast<'_>, places: &[Places], rows: &[Row], found: &mut Found) {
    for row in rows {
        let (whose, schema, grantee): (u32, String, u32) = (row.get(0), row.get(1), row.get(2));
        let privileges = row.get::<_, Vec<String>>(3).join(", ");
        for (actor, places) in cast.actors.iter().zip(places) {
            let concerns = schema.is_empty() || places.tables.contains(&schema);
            if !concerns || !actor.reaches(grantee) || whose == actor.oid {
                continue;
            }
            let place = if schema.is_empty() { String::new() } else { format!(" in schema {}", name(&schema)) };
            let what = format!(
                "will have {} on every table that {} makes{place}, {}",
                privileges.to_uppercase(),
                cast.name(whose),
                cast.granted(actor, grantee)
            );
            let fix = if grantee == actor.oid || grantee == PUBLIC {
                let (of, from) = (cast.sql(whose), cast.sql(grantee));
                let sql =
                    format!("alter default privileges for role {of}{place} revoke {privileges} on tables from {from}");
                (Some(sql), grantee == actor.oid)
            } else {
                cast.leave(actor, grantee)
            };
            found.add(actor, WayKind::DefaultAcl, what, fix);
        }
    }
}

/// Schema, name, what, owner, grantee, grantor, grantable; and its overloads.
type Overloads = BTreeMap<(String, String, String, u32, u32, u32, bool), Vec<String>>;

fn functions(cast: &Cast<'_>, rows: &[Row], found: &mut Found) {
    let mut functions = Overloads::new();
    for row in rows {
        let key = (row.get(0), row.get(1), row.get(6), row.get(3), row.get(4), row.get(5), row.get(7));
        functions.entry(key).or_default().push(row.get(2));
    }
    for ((schema, function, what, owner, grantee, grantor, grantable), overloads) in &functions {
        let (kind, word) = match &**what {
            "d" => (WayKind::DefinerFunction, format!("a SECURITY DEFINER function of {}", cast.name(*owner))),
            "r" => (WayKind::RemoteFunction, "which connects past the proxy".to_owned()),
            "f" => (WayKind::SystemFunction, "which reads or writes the server's files".to_owned()),
            _ => (WayKind::UntrustedLanguage, "a function in an untrusted language".to_owned()),
        };
        let says = format!("may call {schema}.{function}, {word}");
        let one = |arguments: &String| format!("{}.{}({arguments})", name(schema), name(function));
        let on = format!("routine {}", overloads.iter().map(one).collect::<Vec<_>>().join(", "));
        for actor in cast.actors.iter().filter(|actor| actor.reaches(*grantee)) {
            // The definer is the role itself, and nothing is gained; or somebody has read it.
            let own = what == "d" && *owner == actor.oid;
            let reviewed = actor.masked.reviewed.iter().any(|(s, f)| s == schema && f == function);
            if own || reviewed {
                continue;
            }
            let right = Right {
                what: "execute",
                on: &on,
                grantee: *grantee,
                grantor: *grantor,
                owner: *owner,
                grantable: *grantable,
            };
            reached(cast, actor, &Grant { kind, says: &says, right }, found);
        }
    }
}

fn event_triggers(cast: &Cast<'_>, rows: &[Row], found: &mut Found) {
    for row in rows {
        let (trigger, function): (String, String) = (row.get(0), row.get(3));
        for actor in &cast.actors {
            for (owner, object) in [(row.get(1), format!("event trigger {trigger}")), (row.get(2), function.clone())] {
                if actor.reaches(owner) {
                    let owned = cast.owned(actor, owner);
                    let what =
                        format!("can change {object}, {owned}: everybody's DDL runs it by event trigger {trigger}");
                    found.add(actor, WayKind::EventTrigger, what, cast.part(actor, owner, || None));
                }
            }
        }
    }
}

/// Asked only when somebody may replicate.
async fn publications(client: &Client, cast: &Cast<'_>, tables: &Tables, found: &mut Found) -> Result<()> {
    let replicates =
        |actor: &&Actor<'_>| actor.holders().any(|oid| cast.roles.get(&oid).is_some_and(|r| r.replication));
    let guarded: Vec<(&Actor<'_>, BTreeSet<u32>)> =
        cast.actors.iter().filter(replicates).map(|a| (a, tables.guards(a).keys().copied().collect())).collect();
    if guarded.is_empty() {
        return Ok(());
    }
    let all: Vec<u32> = guarded.iter().flat_map(|(_, oids)| oids).copied().collect();
    for row in ask(client, queries::PUBLICATIONS, &[&all]).await? {
        let (publication, oid, wide): (String, u32, bool) = (row.get(0), row.get(1), row.get(2));
        let Some(relation) = tables.relation(oid) else { continue };
        for (actor, _) in guarded.iter().filter(|(_, oids)| oids.contains(&oid)) {
            let what = format!("may replicate {}, which publication {publication} publishes", relation.shown());
            let sql = || format!("alter publication {} drop table {}", name(&publication), relation.sql());
            found.add(actor, WayKind::Publication, what, ((!wide).then(sql), false));
        }
    }
    Ok(())
}
