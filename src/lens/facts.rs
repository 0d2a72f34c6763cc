//! What the catalog says about protected tables beyond names and types: everything that stands in the way of a new
//! column type, and who may read the table directly.

use std::collections::HashMap;

use tokio_postgres::{Client, Row};

use crate::catalog::ask;
use crate::error::{Error, Result};
use crate::sql::schema::Schema;

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Schema `pgveil` exists.
    pub schema: bool,
    /// Table `pgveil.columns` exists.
    pub columns_table: bool,
    /// The event trigger exists.
    pub event_trigger: bool,
    /// Function `pgveil.scram_verifier` exists.
    pub verifier_function: bool,
    /// The connected role may create event triggers.
    pub superuser: bool,
    /// The connected role.
    pub control: String,
    /// Rows of `pgveil.columns`.
    pub recorded: Vec<Recorded>,
    /// By relation oid: policy tables and their children.
    pub tables: HashMap<u32, TableFacts>,
    /// Foreign keys that touch those tables.
    pub foreign_keys: Vec<ForeignKey>,
}

/// A row of `pgveil.columns`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// Relation.
    pub relation: u32,
    /// `attnum`.
    pub attnum: i16,
    /// Column name when it was recorded.
    pub column: String,
    /// Column id.
    pub id: u32,
    /// `as`.
    pub as_type: String,
    /// `randomized` or `deterministic`.
    pub mode: String,
}

/// One table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TableFacts {
    /// Owner role.
    pub owner: String,
    /// The connected role is the owner or a member of it.
    pub ours: bool,
    /// It, or a child, holds a row.
    pub rows: bool,
    /// Row security is enabled, or it has policies.
    pub row_security: bool,
    /// User triggers.
    pub triggers: Vec<String>,
    /// Rules.
    pub rules: Vec<String>,
    /// Columns of its partition key; expressions count as every column.
    pub partition_key: Vec<i16>,
    /// Columns whose collation is nondeterministic.
    pub nondeterministic: Vec<i16>,
    /// Columns inherited from a parent.
    pub inherited: Vec<i16>,
    /// Its indexes.
    pub indexes: Vec<Index>,
    /// Other objects that depend on a column: (attnum, what it is called).
    pub dependents: Vec<(i16, String)>,
    /// Table-level SELECT: grantee; `None` = PUBLIC.
    pub readers: Vec<Option<String>>,
}

/// One index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Index {
    /// Name.
    pub name: String,
    /// `btree`, `hash`, …
    pub method: String,
    /// UNIQUE or PRIMARY KEY.
    pub unique: bool,
    /// Backs an EXCLUDE constraint.
    pub exclusion: bool,
    /// Has an expression or a predicate.
    pub computed: bool,
    /// Every operator class is its type's default.
    pub default_classes: bool,
    /// Columns it involves.
    pub columns: Vec<i16>,
}

/// One foreign key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForeignKey {
    /// Constraint name.
    pub name: String,
    /// Referencing relation and columns.
    pub from: (u32, Vec<i16>),
    /// Referenced relation and columns, in the same order.
    pub to: (u32, Vec<i16>),
    /// `pg_get_constraintdef`.
    pub definition: String,
}

const STATE: &str = "select to_regnamespace('pgveil') is not null, to_regclass('pgveil.columns') is not null, \
     exists (select from pg_event_trigger where evtname = 'pgveil_catalog'), \
     (select rolsuper from pg_roles where rolname = current_user), \
     to_regprocedure('pgveil.scram_verifier(text)') is not null, current_user::text";

const RECORDED: &str = "select relation::oid, attnum, column_name, column_id, as_type, mode from pgveil.columns";

const TABLES: &str = "select c.oid, r.rolname::text, pg_has_role(c.relowner, 'usage'), \
     c.relrowsecurity or exists (select from pg_policy where polrelid = c.oid), \
     array(select t.tgname::text from pg_trigger t where t.tgrelid = c.oid and not t.tgisinternal), \
     array(select w.rulename::text from pg_rewrite w where w.ev_class = c.oid), \
     coalesce((select case when p.partexprs is null then p.partattrs::int2[] \
       else array(select attnum from pg_attribute where attrelid = c.oid and attnum > 0) end \
       from pg_partitioned_table p where p.partrelid = c.oid), '{}'), \
     array(select a.attnum from pg_attribute a join pg_collation l on l.oid = a.attcollation \
       where a.attrelid = c.oid and not l.collisdeterministic), \
     array(select a.attnum from pg_attribute a where a.attrelid = c.oid and a.attnum > 0 and a.attinhcount > 0), \
     array(select case when acl.grantee = 0 then null else pg_get_userbyid(acl.grantee)::text end \
       from aclexplode(coalesce(c.relacl, acldefault('r', c.relowner))) acl where acl.privilege_type = 'SELECT') \
     from pg_class c join pg_roles r on r.oid = c.relowner where c.oid = any($1)";

const INDEXES: &str = "select i.indrelid, ic.relname::text, am.amname::text, i.indisunique, i.indisexclusion, \
     i.indexprs is not null or i.indpred is not null, \
     not exists (select from unnest(i.indclass::oid[]) k join pg_opclass o on o.oid = k where not o.opcdefault), \
     array(select k from unnest(i.indkey::int2[]) k where k > 0 union \
       select d.refobjsubid::int2 from pg_depend d where d.classid = 'pg_class'::regclass and d.objid = i.indexrelid \
       and d.refclassid = 'pg_class'::regclass and d.refobjid = i.indrelid and d.refobjsubid > 0) \
     from pg_index i join pg_class ic on ic.oid = i.indexrelid join pg_am am on am.oid = ic.relam \
     where i.indrelid = any($1)";

/// Everything else that depends on a column. Indexes, keys and foreign keys are judged by their own rows; triggers,
/// rules and policies by their table's.
const DEPENDENTS: &str = "select d.refobjid, d.refobjsubid::int2, pg_describe_object(d.classid, d.objid, d.objsubid) \
     from pg_depend d \
     where d.refclassid = 'pg_class'::regclass and d.refobjid = any($1) and d.refobjsubid > 0 \
       and not (d.classid = 'pg_class'::regclass and exists \
         (select from pg_class i where i.oid = d.objid and i.relkind in ('i', 'I'))) \
       and not (d.classid = 'pg_rewrite'::regclass and exists \
         (select from pg_rewrite w join pg_class v on v.oid = w.ev_class join pg_roles o on o.oid = v.relowner \
          where w.oid = d.objid and o.rolname = 'pgveil_lens')) \
       and not (d.classid = 'pg_constraint'::regclass and exists \
         (select from pg_constraint k where k.oid = d.objid and k.contype in ('p', 'u', 'f', 'x', 'n'))) \
     order by 1, 2, 3";

const FOREIGN_KEYS: &str = "select k.conname::text, k.conrelid, k.conkey, k.confrelid, k.confkey, pg_get_constraintdef(k.oid) \
     from pg_constraint k where k.contype = 'f' and k.conparentid = 0 and (k.conrelid = any($1) or k.confrelid = any($1)) \
     order by k.conrelid, k.conname";

/// Reads them for those relations. Every query sees the caller's transaction.
///
/// # Errors
/// [`Error::Control`]
pub async fn read(client: &Client, schema: &Schema, relations: &[u32]) -> Result<Facts> {
    let state = ask(client, STATE, &[]).await?;
    let state = state.first().ok_or_else(|| Error::Control("the catalog gave no answer".into()))?;
    let mut facts = Facts {
        schema: state.get(0),
        columns_table: state.get(1),
        event_trigger: state.get(2),
        superuser: state.get(3),
        verifier_function: state.get(4),
        control: state.get(5),
        ..Facts::default()
    };
    if facts.columns_table {
        facts.recorded = ask(client, RECORDED, &[]).await?.iter().map(recorded).collect();
    }
    let relations = relations.to_vec();
    for row in ask(client, TABLES, &[&relations]).await? {
        facts.tables.insert(row.get(0), table(&row));
    }
    for row in ask(client, INDEXES, &[&relations]).await? {
        if let Some(table) = facts.tables.get_mut(&row.get(0)) {
            table.indexes.push(index(&row));
        }
    }
    for row in ask(client, DEPENDENTS, &[&relations]).await? {
        if let Some(table) = facts.tables.get_mut(&row.get(0)) {
            table.dependents.push((row.get(1), row.get(2)));
        }
    }
    facts.foreign_keys = ask(client, FOREIGN_KEYS, &[&relations]).await?.iter().map(foreign_key).collect();
    for (oid, table) in facts.tables.iter_mut().filter(|(_, table)| table.ours) {
        let Some(relation) = schema.relation(*oid) else { continue };
        let sql = format!("select exists (select from {})", super::ddl::relation(relation));
        table.rows = ask(client, &sql, &[]).await?.first().is_none_or(|row| row.get(0));
    }
    Ok(facts)
}

fn recorded(row: &Row) -> Recorded {
    Recorded {
        relation: row.get(0),
        attnum: row.get(1),
        column: row.get(2),
        id: u32::try_from(row.get::<_, i64>(3)).unwrap_or(0),
        as_type: row.get(4),
        mode: row.get(5),
    }
}

fn table(row: &Row) -> TableFacts {
    TableFacts {
        owner: row.get(1),
        ours: row.get(2),
        row_security: row.get(3),
        triggers: row.get(4),
        rules: row.get(5),
        partition_key: row.get(6),
        nondeterministic: row.get(7),
        inherited: row.get(8),
        readers: row.get(9),
        ..TableFacts::default()
    }
}

fn index(row: &Row) -> Index {
    Index {
        name: row.get(1),
        method: row.get(2),
        unique: row.get(3),
        exclusion: row.get(4),
        computed: row.get(5),
        default_classes: row.get(6),
        columns: row.get(7),
    }
}

fn foreign_key(row: &Row) -> ForeignKey {
    ForeignKey {
        name: row.get(0),
        from: (row.get(1), row.get(2)),
        to: (row.get(3), row.get(4)),
        definition: row.get(5),
    }
}
