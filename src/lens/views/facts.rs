//! What the database says about lenses: what is there, who may do what with it.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use tokio_postgres::{Client, Row};

use crate::catalog::ask;
use crate::error::{Error, Result};
use crate::lens::ddl::{self, Statement};
use crate::lens::{Seal, acting};
use crate::policy::lens::{OWNER, View};
use crate::sql::schema::Schema;

/// What may be done with rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs, reason = "PostgreSQL's words")]
pub(super) enum Privilege {
    Select,
    Insert,
    Update,
    Delete,
}

impl Privilege {
    pub(super) const ALL: [Privilege; 4] = [Privilege::Select, Privilege::Insert, Privilege::Update, Privilege::Delete];

    pub(super) fn word(self) -> &'static str {
        match self {
            Privilege::Select => "SELECT",
            Privilege::Insert => "INSERT",
            Privilege::Update => "UPDATE",
            Privilege::Delete => "DELETE",
        }
    }

    fn of(word: &str) -> Option<Privilege> {
        Self::ALL.into_iter().find(|privilege| privilege.word() == word)
    }
}

/// What a role may do with a relation, by whatever grant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Rights {
    /// With all of it.
    pub(super) whole: BTreeSet<Privilege>,
    /// With these columns.
    pub(super) columns: BTreeMap<Privilege, BTreeSet<String>>,
}

impl Rights {
    /// Of all of it, or of some columns.
    pub(super) fn holds(&self, privilege: Privilege) -> bool {
        self.whole.contains(&privilege) || self.columns.contains_key(&privilege)
    }
}

/// A right that was granted to that role itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Direct {
    pub(super) role: String,
    pub(super) relation: u32,
    pub(super) privilege: String,
    /// `None`: on the whole relation.
    pub(super) column: Option<String>,
    pub(super) grantable: bool,
}

/// A view that is made of a lens.
#[derive(Clone, Debug)]
pub(super) struct Dependent {
    /// Schema and name of the lens.
    pub(super) lens: (String, String),
    /// Its own, for SQL.
    pub(super) view: String,
    pub(super) owner: String,
    pub(super) temporary: bool,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct LensFacts {
    /// Role `pgveil_lens` exists.
    pub(super) owner: bool,
    /// It may log in, bypasses row security, is a member of something or owns what is no lens: not ours.
    pub(super) owner_unfit: bool,
    /// The connected role is a member of it.
    pub(super) member: bool,
    /// It has something in this database; and in others.
    pub(super) holds: (bool, bool),
    /// The connected role may create roles.
    pub(in crate::lens) creates_roles: bool,
    /// Table `pgveil.lens_undo` exists.
    pub(super) undo: bool,
    /// Table `pgveil.lens_key` exists.
    pub(super) key: bool,
    /// Table `pgveil.acting` and function `pgveil.acts_for` exist.
    pub(super) acting: (bool, bool),
    /// The connected role sees when others' sessions began.
    pub(super) reads_statistics: bool,
    /// Comment of schema `pgveil`, which marks the functions that are there.
    pub(super) functions: String,
    /// Schemas that begin like a lens's → they belong to `pgveil_lens`.
    pub(super) schemas: HashMap<String, bool>,
    /// Lenses that are there: (schema, name) → mark.
    pub(in crate::lens) views: HashMap<(String, String), String>,
    /// (role, relation) for every view's grantee and its table, and for the owner.
    pub(super) rights: HashMap<(String, u32), Rights>,
    /// The same of views that are there, by (role, schema, name).
    pub(super) view_rights: HashMap<(String, String, String), Rights>,
    /// Views of others over lenses: they are in the way when a lens has to be made anew.
    pub(super) dependents: Vec<Dependent>,
    /// What `--lenses` takes away.
    pub(super) direct: Vec<Direct>,
    /// (role, schema) with USAGE.
    pub(super) usage: HashSet<(String, String)>,
    /// Statements of `pgveil.lens_undo`, newest first.
    pub(super) undo_statements: Vec<String>,
}

impl LensFacts {
    /// What drops the lenses over the tables of those columns, which from then on are not there. What could be done with
    /// them is still known.
    pub(in crate::lens) fn over(&mut self, schema: &Schema, seals: &[Seal]) -> Vec<Statement> {
        let family = seals.iter().filter_map(|seal| schema.relation(seal.table));
        let family: HashSet<u32> = family.flat_map(|table| table.children.iter().copied().chain([table.oid])).collect();
        let covers = |oid: &u32| family.contains(oid);
        let mut statements = Vec::new();
        for view in schema.lens_views.keys().filter_map(|oid| schema.relation(*oid)) {
            if view.reads.iter().any(covers) {
                self.views.remove(&(view.schema.to_string(), view.name.to_string()));
                let sql = format!("drop view {}", ddl::relation(view));
                statements.push(Statement::new("a column behind it is sealed; it is made anew", sql));
            }
        }
        statements.sort_by(|a, b| a.sql.cmp(&b.sql));
        statements
    }
}

const STATE: &str = "select o.oid is not null, \
     coalesce(o.rolcanlogin or o.rolsuper or o.rolbypassrls or o.rolcreaterole \
       or exists (select from pg_auth_members where member = o.oid), false), \
     coalesce(pg_has_role(o.oid, 'member'), false), \
     (select rolcreaterole or rolsuper from pg_roles where rolname = current_user), \
     to_regclass('pgveil.lens_undo') is not null, to_regclass('pgveil.lens_key') is not null, \
     coalesce(obj_description(to_regnamespace('pgveil'), 'pg_namespace'), ''), \
     exists (select from pg_shdepend s join pg_database b on b.oid = s.dbid \
       where s.refclassid = 'pg_authid'::regclass and s.refobjid = o.oid and b.datname = current_database()), \
     exists (select from pg_shdepend s left join pg_database b on b.oid = s.dbid \
       where s.refclassid = 'pg_authid'::regclass and s.refobjid = o.oid and b.datname is distinct from current_database()), \
     to_regclass($2) is not null, to_regprocedure($3) is not null, pg_has_role('pg_read_all_stats', 'usage') \
     from (select 1) one left join pg_roles o on o.rolname = $1";

const SCHEMAS: &str = "select n.nspname::text, o.rolname = $1 from pg_namespace n join pg_roles o on o.oid = n.nspowner \
     where n.nspname like 'pgveil\\_lens\\_%'";

const VIEWS: &str = "select n.nspname::text, c.relname::text, coalesce(obj_description(c.oid, 'pg_class'), '') \
     from pg_class c join pg_namespace n on n.oid = c.relnamespace \
     join pg_roles o on o.oid = c.relowner and o.oid = n.nspowner \
     where o.rolname = $1 and c.relkind = 'v' and n.nspname like 'pgveil\\_lens\\_%'";

const DEPENDENTS: &str = "select distinct n.nspname::text, c.relname::text, quote_ident(vn.nspname) || '.' || quote_ident(v.relname), \
       pg_get_userbyid(v.relowner)::text, v.relpersistence = 't' \
     from pg_depend d join pg_rewrite w on w.oid = d.objid join pg_class v on v.oid = w.ev_class \
     join pg_namespace vn on vn.oid = v.relnamespace join pg_class c on c.oid = d.refobjid and c.oid <> v.oid \
     join pg_namespace n on n.oid = c.relnamespace join pg_roles o on o.oid = c.relowner \
     where d.classid = 'pg_rewrite'::regclass and d.refclassid = 'pg_class'::regclass and o.rolname = $1 \
       and c.relkind = 'v' and n.nspname like 'pgveil\\_lens\\_%' order by 3";

/// Pairs of a role and a relation, as two arrays.
const RIGHTS: &str = "select w.role, c.oid, n.nspname::text, c.relname::text, p.privilege, \
       has_table_privilege(r.oid, c.oid, p.privilege), \
       array(select a.attname::text from pg_attribute a where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped \
         and p.privilege <> 'DELETE' and has_column_privilege(r.oid, c.oid, a.attnum, p.privilege)) \
     from unnest($1::text[], $2::oid[]) as w(role, relation) join pg_roles r on r.rolname = w.role \
     join pg_class c on c.oid = w.relation join pg_namespace n on n.oid = c.relnamespace \
     cross join unnest(array['SELECT','INSERT','UPDATE','DELETE']) as p(privilege)";

const VIEW_OIDS: &str = "select w.role, to_regclass(w.view)::oid from unnest($1::text[], $2::text[]) as w(role, view) \
     where to_regclass(w.view) is not null";

const DIRECT: &str = "select w.role, c.oid, acl.privilege_type, acl.column_name, acl.is_grantable \
     from unnest($1::text[], $2::oid[]) as w(role, relation) join pg_roles r on r.rolname = w.role \
     join pg_class c on c.oid = w.relation cross join lateral ( \
       select a.grantee, a.privilege_type, null::text as column_name, a.is_grantable from aclexplode(c.relacl) a \
       union all select a.grantee, a.privilege_type, t.attname::text, a.is_grantable \
         from pg_attribute t, aclexplode(t.attacl) a where t.attrelid = c.oid and t.attacl is not null) acl \
     where acl.grantee = r.oid and c.relowner <> r.oid order by 1, 2, 4 nulls first, 3";

const USAGE: &str = "select w.role, n.nspname::text from unnest($1::text[], $2::text[]) as w(role, name) \
     join pg_roles r on r.rolname = w.role join pg_namespace n on n.nspname = w.name \
     where has_schema_privilege(r.oid, n.oid, 'USAGE')";

/// Reads them. Every query sees the caller's transaction.
///
/// # Errors
/// [`Error::Control`]
pub async fn read(client: &Client, views: &[View]) -> Result<LensFacts> {
    let mut facts = state(client).await?;
    let pairs = |of: &dyn Fn(&View) -> (String, u32)| -> (Vec<String>, Vec<u32>) {
        let pairs: BTreeSet<(String, u32)> = views.iter().map(of).collect();
        pairs.into_iter().unzip()
    };
    let tables = pairs(&|view| (view.grantee.to_string(), view.base));
    let owned = pairs(&|view| (OWNER.to_owned(), view.base));
    for (roles, relations) in [&tables, &owned] {
        for row in ask(client, RIGHTS, &[roles, relations]).await? {
            let rights = facts.rights.entry((row.get(0), row.get(1))).or_default();
            add(rights, &row);
        }
    }
    // Of lenses that are there and no longer wanted too: what could be done with them can be done with those that follow.
    let grantees: BTreeSet<&str> = views.iter().map(|view| &*view.grantee).collect();
    let mut pairs = BTreeSet::new();
    for (schema, name) in facts.views.keys() {
        pairs.extend(grantees.iter().map(|role| ((*role).to_owned(), super::qualified(schema, name))));
    }
    let (roles, names): (Vec<String>, Vec<String>) = pairs.into_iter().unzip();
    let (roles, oids): (Vec<String>, Vec<u32>) =
        ask(client, VIEW_OIDS, &[&roles, &names]).await?.iter().map(|row| (row.get(0), row.get::<_, u32>(1))).unzip();
    for row in ask(client, RIGHTS, &[&roles, &oids]).await? {
        let rights = facts.view_rights.entry((row.get(0), row.get(2), row.get(3))).or_default();
        add(rights, &row);
    }
    for row in ask(client, DIRECT, &[&tables.0, &tables.1]).await? {
        facts.direct.push(Direct {
            role: row.get(0),
            relation: row.get(1),
            privilege: row.get(2),
            column: row.get(3),
            grantable: row.get(4),
        });
    }
    let mut usage: Vec<(String, String)> = Vec::new();
    for view in views {
        usage.push((view.grantee.to_string(), view.schema.to_string()));
        usage.push((OWNER.to_owned(), view.base_schema.to_string()));
    }
    let (roles, schemas): (Vec<String>, Vec<String>) = usage.into_iter().unzip();
    let rows = ask(client, USAGE, &[&roles, &schemas]).await?;
    facts.usage = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    Ok(facts)
}

async fn state(client: &Client) -> Result<LensFacts> {
    let state = ask(client, STATE, &[&OWNER, &acting::TABLE, &acting::FUNCTION]).await?;
    let state = state.first().ok_or_else(|| Error::Control("the catalog gave no answer".into()))?;
    let mut facts = LensFacts {
        owner: state.get(0),
        owner_unfit: state.get(1),
        member: state.get(2),
        creates_roles: state.get(3),
        undo: state.get(4),
        key: state.get(5),
        functions: state.get(6),
        holds: (state.get(7), state.get(8)),
        acting: (state.get(9), state.get(10)),
        reads_statistics: state.get(11),
        ..LensFacts::default()
    };
    for row in ask(client, SCHEMAS, &[&OWNER]).await? {
        facts.schemas.insert(row.get(0), row.get(1));
    }
    for row in ask(client, VIEWS, &[&OWNER]).await? {
        facts.views.insert((row.get(0), row.get(1)), row.get(2));
    }
    for row in ask(client, DEPENDENTS, &[&OWNER]).await? {
        let lens = (row.get(0), row.get(1));
        let dependent = Dependent { lens, view: row.get(2), owner: row.get(3), temporary: row.get(4) };
        facts.dependents.push(dependent);
    }
    if facts.undo {
        let rows = ask(client, "select statement from pgveil.lens_undo order by id desc", &[]).await?;
        facts.undo_statements = rows.iter().map(|row| row.get(0)).collect();
    }
    Ok(facts)
}

fn add(rights: &mut Rights, row: &Row) {
    let Some(privilege) = Privilege::of(row.get(4)) else { return };
    if row.get(5) {
        rights.whole.insert(privilege);
    }
    let columns: Vec<String> = row.get(6);
    if !columns.is_empty() {
        rights.columns.insert(privilege, columns.into_iter().collect());
    }
}
