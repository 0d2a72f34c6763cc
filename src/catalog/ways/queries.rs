//! What is asked of the catalog about ways around a lens. Text only; every name resolves under
//! `search_path = pg_catalog`, and every query is readable without being a superuser, on PostgreSQL 15 and later.
//!
//! `$1` and `$2` are oid arrays: relations or schemas, and *holders*: every role a masked role can act as, and 0 for
//! PUBLIC. Each query is asked once for all masked roles.

use crate::policy::functions::{self, Sort};

/// `(name, owner)` of this database.
pub(super) const HERE: &str = "select datname::text, datdba from pg_database where datname = current_database()";

/// Names resolve in pg_catalog only.
pub(super) const PATH: &str = "set search_path = pg_catalog";

/// `(oid, name, superuser, bypassrls, createrole, replication)`.
pub(super) const ROLES: &str =
    "select oid, rolname::text, rolsuper, rolbypassrls, rolcreaterole, rolreplication from pg_roles";

/// `(member, group, grantor)`, of use to the member. Since PostgreSQL 16 a membership may have neither INHERIT, SET nor
/// ADMIN; such a one gives nothing. NULL for the grantor where he does not matter, before 16.
pub(super) const MEMBERS: &str = "select member, roleid, case when j ? 'set_option' then grantor end \
     from pg_auth_members m, to_jsonb(m) j \
     where admin_option or coalesce((j->>'inherit_option')::bool, true) or coalesce((j->>'set_option')::bool, true)";

/// `(base, member, attnums of the base, the same columns' attnums in the member)` of a table with all partitions and
/// children below it, which hold its rows, and all parents above it, which show them.
pub(super) const FAMILY: &str = "with recursive \
     up(base, oid) as (select b, b from unnest($1::oid[]) b \
       union select u.base, i.inhparent from up u join pg_inherits i on i.inhrelid = u.oid), \
     down(base, oid) as (select b, b from unnest($1::oid[]) b \
       union select d.base, i.inhrelid from down d join pg_inherits i on i.inhparent = d.oid), \
     family as (select * from up union select * from down), \
     same(base, oid, base_column, own_column) as (select f.base, f.oid, b.attnum, o.attnum \
       from family f join pg_attribute b on b.attrelid = f.base and b.attnum > 0 and not b.attisdropped \
       join pg_attribute o on o.attrelid = f.oid and o.attname = b.attname and o.attnum > 0 and not o.attisdropped) \
     select f.base, f.oid, coalesce(array_agg(s.base_column order by s.base_column) filter (where s.oid is not null), '{}'), \
       coalesce(array_agg(s.own_column order by s.base_column) filter (where s.oid is not null), '{}') \
     from family f join pg_class c on c.oid = f.oid left join same s on s.base = f.base and s.oid = f.oid group by 1, 2";

/// `(relation, dependent, event, rule, columns used, uses whole rows)`: rules of other relations that use these, and
/// what uses those. pg_depend knows the columns a rule names, but not that it uses a row as a whole.
pub(super) const DEPENDENTS: &str = "with recursive reach(oid) as (select unnest($1::oid[]) \
       union select r.ev_class from reach x \
       join pg_depend d on d.refclassid = 'pg_class'::regclass and d.refobjid = x.oid and d.classid = 'pg_rewrite'::regclass \
       join pg_rewrite r on r.oid = d.objid) \
     select d.refobjid, r.ev_class, r.ev_type::text, r.rulename::text, array_agg(distinct d.refobjsubid::int2), \
       r.ev_action::text ~ ':varattno 0 ' \
     from reach x join pg_depend d on d.refclassid = 'pg_class'::regclass and d.refobjid = x.oid \
       and d.classid = 'pg_rewrite'::regclass \
     join pg_rewrite r on r.oid = d.objid where r.ev_class <> d.refobjid group by d.refobjid, r.oid";

/// `(referencing, referenced, constraint, referenced columns)`.
pub(super) const FOREIGN_KEYS: &str = "select conrelid, confrelid, conname::text, confkey from pg_constraint \
     where contype = 'f' and confrelid = any($1) and conrelid <> confrelid order by conname";

/// `oid` of everything in schemas.
pub(super) const IN_SCHEMAS: &str = "select c.oid from pg_class c join pg_namespace n on n.oid = c.relnamespace \
     where n.nspname = any($1::text[]) and c.relkind in ('r', 'p', 'v', 'm', 'f')";

/// `(oid, schema, name, kind, owner, security_invoker, column names)`.
pub(super) const RELATIONS: &str = "select c.oid, n.nspname::text, c.relname::text, c.relkind::text, c.relowner, \
       coalesce((select option_value::bool from pg_options_to_table(c.reloptions) where option_name = 'security_invoker'), false), \
       array(select case when attisdropped then '' else attname::text end from pg_attribute \
         where attrelid = c.oid and attnum > 0 order by attnum) \
     from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.oid = any($1)";

/// `(relation, column or 0, privilege, grantee, grantor, grantable)`.
pub(super) const RIGHTS: &str = "select c.oid, 0::int2, a.privilege_type, a.grantee, a.grantor, a.is_grantable \
       from pg_class c, aclexplode(coalesce(c.relacl, acldefault('r', c.relowner))) a \
       where c.oid = any($1) and a.grantee = any($2) and a.grantee <> c.relowner \
     union all select t.attrelid, t.attnum, a.privilege_type, a.grantee, a.grantor, a.is_grantable \
       from pg_attribute t join pg_class c on c.oid = t.attrelid, aclexplode(t.attacl) a \
       where t.attrelid = any($1) and t.attnum > 0 and not t.attisdropped and t.attacl is not null \
       and a.grantee = any($2) and a.grantee <> c.relowner order by 1, 2, 3, 4, 5";

/// `(relation, policy)` where row security is on and a policy is not TO PUBLIC.
pub(super) const POLICIES: &str = "select p.polrelid, p.polname::text from pg_policy p \
     join pg_class c on c.oid = p.polrelid and c.relrowsecurity \
     where p.polrelid = any($1) and p.polroles <> '{0}' order by p.polname";

/// `(relation, function's owner, function, what uses it)`: code that runs when the relation is read or written, by name or
/// behind an operator.
pub(super) const CODE: &str = "with uses(class, object, relation, what) as ( \
       select 'pg_trigger'::regclass, oid, tgrelid, 'trigger ' || tgname from pg_trigger where tgrelid = any($1) \
       union all select 'pg_attrdef'::regclass, oid, adrelid, 'a default' from pg_attrdef where adrelid = any($1) \
       union all select 'pg_constraint'::regclass, oid, conrelid, 'constraint ' || conname from pg_constraint where conrelid = any($1) \
       union all select 'pg_constraint'::regclass, k.oid, a.attrelid, 'domain constraint ' || k.conname \
         from pg_attribute a join pg_constraint k on k.contypid = a.atttypid where a.attrelid = any($1) and k.contypid <> 0 \
       union all select 'pg_policy'::regclass, oid, polrelid, 'policy ' || polname from pg_policy where polrelid = any($1) \
       union all select 'pg_class'::regclass, indexrelid, indrelid, 'an index' from pg_index where indrelid = any($1) \
       union all select 'pg_rewrite'::regclass, oid, ev_class, 'rule ' || rulename from pg_rewrite where ev_class = any($1)) \
     select u.relation, p.proowner, format('%I.%I(%s)', n.nspname, p.proname, pg_get_function_identity_arguments(p.oid)), min(u.what) \
     from uses u join pg_depend d on d.classid = u.class and d.objid = u.object \
       and d.refclassid in ('pg_proc'::regclass, 'pg_operator'::regclass) \
     join pg_proc p on p.proowner = any($2) and p.oid = case when d.refclassid = 'pg_proc'::regclass then d.refobjid \
       else (select oprcode::oid from pg_operator o where o.oid = d.refobjid) end join pg_namespace n on n.oid = p.pronamespace \
     group by u.relation, p.oid, n.nspname, p.proname, p.proowner order by 3";

/// `(relation, column, type's owner, type)`: a domain's owner adds a CHECK, which sees every stored value.
pub(super) const TYPES: &str = "with recursive of(relation, attnum, type) as ( \
       select attrelid, attnum, atttypid from pg_attribute where attrelid = any($1) and attnum > 0 and not attisdropped \
       union select o.relation, o.attnum, x from of o join pg_type t on t.oid = o.type, unnest(array[t.typbasetype, t.typelem]) x \
       where x <> 0) \
     select o.relation, o.attnum, t.typowner, format('%I.%I', n.nspname, t.typname) from of o \
     join pg_type t on t.oid = o.type and t.typtype = 'd' and t.typowner = any($2) \
     join pg_namespace n on n.oid = t.typnamespace order by 4";

/// `(schema, owner, grantee, grantor, grantable)` of those schemas and all that are named like a role: owners and who may
/// create; grantee NULL for the owner's own row.
pub(super) const SCHEMAS: &str = "with named as (select * from pg_namespace \
       where nspname = any($1::text[]) or nspname in (select rolname from pg_roles)) \
     select n.nspname::text, n.nspowner, null::oid, null::oid, false from named n where n.nspowner = any($2) \
     union all select n.nspname::text, n.nspowner, a.grantee, a.grantor, a.is_grantable \
       from named n, aclexplode(n.nspacl) a where a.privilege_type = 'CREATE' \
       and a.grantee = any($2) and a.grantee <> n.nspowner order by 1, 3, 4";

/// `(grantee, grantor, owner, grantable)` of CREATE on this database.
pub(super) const DATABASE: &str = "select a.grantee, a.grantor, d.datdba, a.is_grantable from pg_database d, aclexplode(d.datacl) a \
     where d.datname = current_database() and a.privilege_type = 'CREATE' and a.grantee = any($1) and a.grantee <> d.datdba \
     order by 1, 2";

/// `(role or 0, for this database only, setting)`: what the roles' sessions begin with, and everybody's search_path.
pub(super) const SETTINGS: &str = "select s.setrole, s.setdatabase <> 0, c from pg_db_role_setting s, unnest(s.setconfig) c \
     where s.setdatabase in (0, (select oid from pg_database where datname = current_database())) \
     and (s.setrole = 0 or s.setrole = any($1) or c ^@ 'search_path=') order by 1, 2, 3";

/// `(whose, schema or '', grantee, privileges)` for future tables.
pub(super) const DEFAULTS: &str = "select d.defaclrole, coalesce(n.nspname::text, ''), a.grantee, \
       array_agg(lower(a.privilege_type) order by a.privilege_type) \
     from pg_default_acl d left join pg_namespace n on n.oid = d.defaclnamespace, aclexplode(d.defaclacl) a \
     where d.defaclobjtype = 'r' and a.grantee = any($2) and a.grantee <> d.defaclrole \
       and (d.defaclnamespace = 0 or n.nspname = any($1::text[])) group by 1, 2, 3 order by 1, 2, 3";

/// Function names that connect elsewhere in words of the caller's choice (dblink), which PUBLIC may call by default.
const REMOTE: &str = "^dblink(_connect|_connect_u|_exec)?$";

/// Functions that read the server's files and write-ahead log, which nobody may call by default. Whole names only: not
/// all that begins like them is closed to PUBLIC, or reads a file without asking for a superuser.
fn files() -> String {
    let (names, _) = functions::names(&[Sort::Files, Sort::Wal]);
    format!("^({})$", names.into_iter().collect::<Vec<_>>().join("|"))
}

/// `(schema, name, arguments, owner, grantee, grantor, what, grantable)`; what: `d`efiner, `r`emote, `f`iles, `u`ntrusted language.
/// Extensions come with their functions, so the remote ones count wherever they are.
pub(super) fn callable() -> String {
    let files = files();
    format!(
        "with chosen as (select p.*, n.nspname, case when p.proname ~ '{files}' then 'f' when p.proname ~ '{REMOTE}' then 'r' \
           when p.oid < 16384 or n.nspname in ('pg_catalog', 'information_schema', 'pgveil') or p.prorettype = 'event_trigger'::regtype then '' \
           when p.prosecdef then 'd' when not l.lanpltrusted and l.lanname not in ('internal', 'c') then 'u' else '' end as what \
           from pg_proc p join pg_namespace n on n.oid = p.pronamespace join pg_language l on l.oid = p.prolang) \
         select c.nspname::text, c.proname::text, pg_get_function_identity_arguments(c.oid), c.proowner, a.grantee, a.grantor, c.what, a.is_grantable \
         from chosen c, aclexplode(coalesce(c.proacl, acldefault('f', c.proowner))) a \
         where c.what <> '' and a.privilege_type = 'EXECUTE' and a.grantee = any($1) order by 1, 2, 3, 5, 6"
    )
}

/// `(language, grantee, grantor, owner, grantable)` of languages called untrusted by everybody and marked trusted here. One that is
/// marked untrusted is the superuser's only, whatever its ACL says.
pub(super) const LANGUAGES: &str = "select l.lanname::text, a.grantee, a.grantor, l.lanowner, a.is_grantable \
     from pg_language l, aclexplode(coalesce(l.lanacl, acldefault('l', l.lanowner))) a \
     where l.lanpltrusted and l.lanname in ('plperlu', 'plpythonu', 'plpython2u', 'plpython3u', 'pltclu', 'plsh', 'plr') \
     and a.grantee = any($1) order by 1, 2, 3";

/// `(wrapper, name, grantee, grantor, owner, grantable)`.
pub(super) const FOREIGN: &str = "select false, s.srvname::text, a.grantee, a.grantor, s.srvowner, a.is_grantable \
       from pg_foreign_server s, aclexplode(coalesce(s.srvacl, acldefault('S', s.srvowner))) a where a.grantee = any($1) \
     union select true, w.fdwname::text, a.grantee, a.grantor, w.fdwowner, a.is_grantable \
       from pg_foreign_data_wrapper w, aclexplode(coalesce(w.fdwacl, acldefault('F', w.fdwowner))) a where a.grantee = any($1) \
     order by 1, 2, 3, 4";

/// `oid` of foreign tables that holders may read.
pub(super) const FOREIGN_TABLES: &str = "select c.oid from pg_class c where c.relkind = 'f' and (c.relowner = any($1) \
     or exists (select from aclexplode(c.relacl) a where a.grantee = any($1) and a.privilege_type = 'SELECT') \
     or exists (select from pg_attribute t, aclexplode(t.attacl) a where t.attrelid = c.oid and t.attacl is not null \
       and a.grantee = any($1) and a.privilege_type = 'SELECT'))";

/// `(relation, column or '', grantee, grantor, owner, grantable)`: the system's tables that hold values or passwords.
/// pg_stats, pg_stats_ext and pg_user_mappings check for themselves.
pub(super) const CATALOGS: &str = "with held as (select c.oid, c.relname, c.relacl, c.relowner from pg_class c \
       where c.relnamespace = 'pg_catalog'::regnamespace and c.relname in ('pg_statistic', 'pg_statistic_ext_data', \
       'pg_authid', 'pg_shadow', 'pg_user_mapping', 'pg_subscription', 'pg_largeobject')) \
     select h.relname::text, '', a.grantee, a.grantor, h.relowner, a.is_grantable from held h, aclexplode(h.relacl) a \
       where a.privilege_type = 'SELECT' and a.grantee = any($1) and a.grantee <> h.relowner \
     union all select h.relname::text, t.attname::text, a.grantee, a.grantor, h.relowner, a.is_grantable \
       from held h join pg_attribute t on t.attrelid = h.oid and t.attacl is not null \
       and t.attname ~ '^(stavalues|stxdmcv|stxdexpr|rolpassword|passwd|umoptions|subconninfo|data)', aclexplode(t.attacl) a \
       where a.privilege_type = 'SELECT' and a.grantee = any($1) and a.grantee <> h.relowner order by 1, 2, 3, 4";

/// `(parameter, privilege, grantee, grantor, owner, grantable)`; parameters belong to the bootstrap superuser: ALTER SYSTEM of anything, and what loads code into a session.
pub(super) const PARAMETERS: &str = "select p.parname, a.privilege_type, a.grantee, a.grantor, 10::oid, a.is_grantable \
     from pg_parameter_acl p, aclexplode(p.paracl) a where a.grantee = any($1) and (a.privilege_type = 'ALTER SYSTEM' \
     or p.parname in ('session_preload_libraries', 'dynamic_library_path', 'extension_control_path', 'jit_provider', \
       'allow_system_table_mods')) order by 1, 2, 3, 4";

/// `(event trigger, its owner, function's owner, function)`.
pub(super) const EVENT_TRIGGERS: &str = "select e.evtname::text, e.evtowner, p.proowner, \
       format('%I.%I(%s)', n.nspname, p.proname, pg_get_function_identity_arguments(p.oid)) \
     from pg_event_trigger e join pg_proc p on p.oid = e.evtfoid join pg_namespace n on n.oid = p.pronamespace \
     where e.evtowner = any($1) or p.proowner = any($1) order by 1";

/// `(publication, relation, of all tables or a schema)`.
pub(super) const PUBLICATIONS: &str = "select p.pubname::text, c.oid, not exists \
       (select from pg_publication_rel r where r.prpubid = p.oid and r.prrelid = c.oid) \
     from pg_publication p join pg_class c on c.oid = any($1) where p.puballtables \
       or exists (select from pg_publication_rel r where r.prpubid = p.oid and r.prrelid = c.oid) \
       or exists (select from pg_publication_namespace s where s.pnpubid = p.oid and s.pnnspid = c.relnamespace) \
     order by 1, 2";
