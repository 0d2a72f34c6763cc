//! The catalog's SQL. One batch, one round trip, one snapshot; every column is read as text.

/// User schemas: not the system's, not sessions' temporary ones.
macro_rules! user_schemas {
    () => {
        "n.nspname not in ('pg_catalog','information_schema') and n.nspname !~ '^pg_(toast|temp)'"
    };
}

/// Answers of [`BATCH`], in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Database,
    Relations,
    Columns,
    SealedDomains,
    Inheritance,
    ViewReads,
    ViewTrees,
    Roles,
    Memberships,
    Functions,
    SealedFunctions,
    Rules,
    Movers,
    LensViews,
    Readers,
    Aggregates,
    Behind,
}

pub(super) const ANSWERS: [Answer; 17] = [
    Answer::Database,
    Answer::Relations,
    Answer::Columns,
    Answer::SealedDomains,
    Answer::Inheritance,
    Answer::ViewReads,
    Answer::ViewTrees,
    Answer::Roles,
    Answer::Memberships,
    Answer::Functions,
    Answer::SealedFunctions,
    Answer::Rules,
    Answer::Movers,
    Answer::LensViews,
    Answer::Readers,
    Answer::Aggregates,
    Answer::Behind,
];

/// Opens the snapshot that the batch and [`SEALED_TYPES`] read. Compiling the longest query takes longer than running it;
/// types outside pg_catalog are named with their schema.
pub(super) const BEGIN: &str =
    "begin isolation level repeatable read read only; set local jit = off; set local search_path = pg_catalog";
pub(super) const COMMIT: &str = "commit";

/// Every name in our own SQL is the system's or qualified; a look-up never waits long for a lock.
pub const SETTINGS: &str = "set search_path = pg_catalog; set default_transaction_read_only = off; \
     set statement_timeout = '60s'; set lock_timeout = '5s'; set client_min_messages = warning";

/// Everything but the last answer, which [`super::reach::query`] gives.
pub(super) const BATCH: &str = concat!(
    // Database
    "select current_database(), current_setting('server_version_num'), to_regclass('pgveil.columns')::oid;",
    // Relations
    "select c.oid, n.nspname, c.relname, c.relkind, \
       (select array_to_string((i.indkey::int2[])[:i.indnkeyatts - 1], ' ') from pg_index i \
        where i.indrelid = c.oid and i.indisprimary and i.indimmediate and i.indisvalid) \
     from pg_class c join pg_namespace n on n.oid = c.relnamespace \
     where c.relkind in ('r','p','v','m','f','S','c') and ",
    user_schemas!(),
    ";",
    // Columns
    "select a.attrelid, a.attnum, a.attname, a.atttypid, format_type(a.atttypid, a.atttypmod), a.atttypmod, \
       a.attnotnull, a.atthasdef or a.attidentity <> '' or a.attgenerated <> '', a.attgenerated <> '' \
     from pg_attribute a join pg_class c on c.oid = a.attrelid join pg_namespace n on n.oid = c.relnamespace \
     where a.attnum > 0 and not a.attisdropped and c.relkind in ('r','p','v','m','f','S','c') and ",
    user_schemas!(),
    " order by a.attrelid, a.attnum;",
    // SealedDomains
    "select t.oid, t.typarray, t.typname from pg_type t join pg_namespace n on n.oid = t.typnamespace \
     where n.nspname = 'pgveil' and t.typtype = 'd';",
    // Inheritance
    "select inhparent, inhrelid from pg_inherits;",
    // ViewReads
    "select distinct r.ev_class, d.refobjid from pg_depend d join pg_rewrite r on r.oid = d.objid \
     join pg_class c on c.oid = r.ev_class join pg_namespace n on n.oid = c.relnamespace \
     where d.classid = 'pg_rewrite'::regclass and d.refclassid = 'pg_class'::regclass \
       and d.refobjid <> r.ev_class and c.relkind in ('v','m') and ",
    user_schemas!(),
    ";",
    // ViewTrees
    "select r.ev_class, r.ev_action from pg_rewrite r \
     join pg_class c on c.oid = r.ev_class join pg_namespace n on n.oid = c.relnamespace \
     where c.relkind in ('v','m') and r.rulename = '_RETURN' and ",
    user_schemas!(),
    ";",
    // Roles
    "select rolname, rolsuper from pg_roles;",
    // Memberships
    // Since PostgreSQL 16 each membership says whether it inherits; before, the member does.
    "select m.rolname, g.rolname, coalesce((to_jsonb(am) ->> 'inherit_option')::bool, m.rolinherit) \
     from pg_auth_members am join pg_roles m on m.oid = am.member join pg_roles g on g.oid = am.roleid;",
    // Functions
    "select n.nspname, p.proname, bool_or(p.prosecdef) from pg_proc p join pg_namespace n on n.oid = p.pronamespace \
     where p.oid >= 16384 and n.nspname <> 'pgveil' group by 1, 2 order by 1, 2;",
    // SealedFunctions
    "with domains as (select t.oid, t.typarray from pg_type t join pg_namespace n on n.oid = t.typnamespace \
       where n.nspname = 'pgveil' and t.typtype = 'd'), \
     cells as (select oid from domains union select typarray from domains), \
     records as (select t.oid, t.typarray from pg_type t join pg_attribute a on a.attrelid = t.typrelid \
       where t.typrelid <> 0 and a.attnum > 0 and a.atttypid in (select oid from cells)), \
     sealed as (select oid from cells union select oid from records union select typarray from records) \
     select distinct p.proname from pg_proc p join pg_namespace n on n.oid = p.pronamespace \
     where p.oid >= 16384 and n.nspname not in ('pg_catalog','information_schema','pgveil') and (p.prorettype in (select oid from sealed) \
       or exists (select from unnest(p.proallargtypes, p.proargmodes) o(kind, way) \
         where o.way in ('o','b','t') and o.kind in (select oid from sealed)));",
    // Rules
    "select r.rulename, r.ev_class, strpos(r.ev_action, ':varattno 0 ') > 0 or strpos(r.ev_qual, ':varattno 0 ') > 0, \
       array_to_string(array(select distinct d.refobjid || '.' || d.refobjsubid from pg_depend d \
         where d.classid = 'pg_rewrite'::regclass and d.objid = r.oid and d.refclassid = 'pg_class'::regclass \
         order by 1), ' ') from pg_rewrite r where r.ev_type <> '1' and r.oid >= 16384 order by r.oid;",
    // Movers: set_config is function 2078; what a user's function does to the search path, it calls by that name.
    "with code as (select oid from pg_proc where oid >= 16384 and prosrc ~* 'search_path'), \
     calls(class, object, relation, calls) as ( \
       select 'pg_attrdef'::regclass, oid, adrelid, adbin::text like '%:funcid 2078 %' from pg_attrdef \
       union all select 'pg_rewrite'::regclass, oid, ev_class, \
         concat(ev_qual, ev_action) like '%:funcid 2078 %' from pg_rewrite where oid >= 16384 \
       union all select 'pg_trigger'::regclass, oid, tgrelid, false from pg_trigger where not tgisinternal) \
     select distinct lower(c.relname) from calls join pg_class c on c.oid = relation \
     where calls or exists (select from pg_depend d where d.classid = class and d.objid = object \
       and d.refclassid = 'pg_proc'::regclass and d.refobjid in (select oid from code));",
    // LensViews
    "select c.oid, coalesce(obj_description(c.oid, 'pg_class'), '') from pg_class c \
     join pg_namespace n on n.oid = c.relnamespace join pg_roles o on o.oid = c.relowner and o.oid = n.nspowner \
     where c.relkind = 'v' and o.rolname = 'pgveil_lens';",
    // Readers
    "select x.relation, x.attnum, coalesce(r.rolname, '') from ( \
       select c.oid, 0, a.grantee from pg_class c join pg_namespace n on n.oid = c.relnamespace, \
         aclexplode(coalesce(c.relacl, acldefault('r', c.relowner))) a \
         where c.relkind in ('r','p','v') and a.privilege_type = 'SELECT' and ",
    user_schemas!(),
    " union select t.attrelid, t.attnum, a.grantee from pg_attribute t, aclexplode(t.attacl) a \
         where t.attacl is not null and t.attrelid >= 16384 and not t.attisdropped and a.privilege_type = 'SELECT' \
     ) x(relation, attnum, grantee) left join pg_roles r on r.oid = x.grantee \
     where x.grantee = 0 or r.oid is not null order by 1, 2, 3;",
    // Aggregates
    "select proname, bool_or(prokind = 'a') from pg_proc group by 1;",
);

/// Read only when `pgveil.columns` exists. The recorded name decides (it survives dump and restore), then the number
/// (it survives a rename).
pub(super) const SEALED_TYPES: &str = "select a.attrelid, a.attnum, c.as_type from pgveil.columns c \
     join pg_attribute a on a.attrelid = c.relation and not a.attisdropped and (a.attname = c.column_name or \
       (a.attnum = c.attnum and not exists (select from pg_attribute b where b.attrelid = c.relation \
        and b.attname = c.column_name and not b.attisdropped)))";

/// May be denied; then the system identifier counts as 0.
pub(super) const SYSTEM_IDENTIFIER: &str = "select system_identifier from pg_control_system()";

/// One number that changes with everything the snapshot holds: every catalog row's oid and xmin, summed as hashes.
/// In-place updates by VACUUM and ANALYZE do not change xmin.
pub(super) const FINGERPRINT: &str = concat!(
    "select md5(concat(",
    "(select sum(hashtextextended(oid::text || ':' || xmin::text, 0)) from pg_class where oid >= 16384 and relkind in ('r','p','v','m','f','S','c')), '/',",
    "(select sum(hashtextextended(attrelid::text || '.' || attnum || ':' || xmin::text, 0)) from pg_attribute where attrelid >= 16384 and attnum > 0), '/',",
    "(select sum(hashtextextended(oid::text || ':' || xmin::text, 0)) from pg_rewrite where oid >= 16384), '/',",
    "(select sum(hashtextextended(oid::text || ':' || xmin::text, 0)) from pg_namespace where oid >= 16384), '/',",
    "(select sum(hashtextextended(oid::text || ':' || xmin::text, 0)) from pg_proc where oid >= 16384), '/',",
    "(select sum(hashtextextended(oid::text || ':' || xmin::text, 0)) from pg_operator where oid >= 16384), '/',",
    "(select sum(hashtextextended(oid::text || ':' || xmin::text, 0)) from pg_type where oid >= 16384), '/',",
    "(select sum(hashtextextended(oid::text || ':' || xmin::text, 0)) from pg_cast where oid >= 16384), '/',",
    "(select sum(hashtextextended(oid::text || ':' || xmin::text, 0)) from pg_attrdef where oid >= 16384), '/',",
    "(select sum(hashtextextended(oid::text || ':' || xmin::text, 0)) from pg_constraint where oid >= 16384), '/',",
    "(select sum(hashtextextended(oid::text || ':' || xmin::text, 0)) from pg_trigger where oid >= 16384), '/',",
    "(select sum(hashtextextended(oid::text || ':' || xmin::text, 0)) from pg_policy where oid >= 16384), '/',",
    "(select sum(hashtextextended(oid::text || ':' || xmin::text, 0)) from pg_opclass where oid >= 16384), '/',",
    "(select sum(hashtextextended(oid::text || ':' || xmin::text, 0)) from pg_amop where oid >= 16384), '/',",
    "(select sum(hashtextextended(oid::text || ':' || xmin::text, 0)) from pg_amproc where oid >= 16384), '/',",
    "(select sum(hashtextextended(oid::text || ':' || xmin::text, 0)) from pg_event_trigger where oid >= 16384), '/',",
    "(select sum(hashtextextended(oid::text || ':' || xmin::text, 0)) from pg_statistic_ext where oid >= 16384), '/',",
    "(select sum(hashtextextended(indexrelid::text || ':' || xmin::text, 0)) from pg_index where indexrelid >= 16384), '/',",
    "(select sum(hashtextextended(concat_ws('.', classid, objid, refobjid), 0)) from pg_depend where refclassid = 'pg_extension'::regclass), '/',",
    "(select sum(hashtextextended(concat_ws('.', ftrelid, ftserver), 0)) from pg_foreign_table), '/',",
    "(select sum(hashtextextended(inhrelid::text || '<' || inhparent::text, 0)) from pg_inherits), '/',",
    "(select sum(hashtextextended(roleid::text || '<' || member::text, 0)) from pg_auth_members), '/',",
    // What may open a way around a lens: rights and attributes.
    "(select sum(hashtextextended(oid::text || ':' || xmin::text, 0)) from pg_class where oid < 16384 and relacl is not null), '/',",
    "(select sum(hashtextextended(oid::text || ':' || xmin::text, 0)) from pg_proc where oid < 16384 and proacl is not null), '/',",
    "(select sum(hashtextextended(oid::text || ':' || xmin::text, 0)) from pg_default_acl), '/',",
    "(select sum(hashtextextended(oid::text || ':' || xmin::text, 0)) from pg_language), '/',",
    "(select sum(hashtextextended(oid::text || ':' || xmin::text, 0)) from pg_foreign_server), '/',",
    "(select sum(hashtextextended(oid::text || ':' || xmin::text, 0)) from pg_foreign_data_wrapper), '/',",
    "(select sum(hashtextextended(oid::text || ':' || xmin::text, 0)) from pg_publication), '/',",
    "(select sum(hashtextextended(setdatabase::text || setrole || setconfig::text, 0)) from pg_db_role_setting), '/',",
    "(select xmin from pg_database where datname = current_database()), '/',",
    "(select sum(hashtextextended(to_jsonb(m) - 'grantor' #>> '{}', 0)) from pg_auth_members m), '/',",
    "(select sum(hashtextextended(to_jsonb(r) - 'rolconfig' #>> '{}', 0)) from pg_roles r)))",
);

/// The channel that `pgveil apply` and its event trigger notify.
pub const CHANNEL: &str = "pgveil_catalog";
