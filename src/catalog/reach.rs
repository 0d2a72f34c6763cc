//! Which relations and types run users' functions when they are read, written or named, as pg_depend has it.
//!
//! Users' code is every function that is not the system's own (oid from 16384) nor in schema `pgveil`, SECURITY DEFINER
//! or not, and every function of the system that a restricted class may not call. Functions of an extension that are
//! written in C (or are the server's own under another name) came with a file of the server's administrator: behind a
//! cast, operator, opclass, default or trigger they are taken as computing only, unless their name is on that list; so
//! are the constructors that come with a range type. Called by name in a text they stay refused like all others. A foreign
//! data wrapper's handler is the code behind its foreign tables, whatever its language: it may reach this very database by
//! another login, or its files.
//!
//! In: nothing. Out: the query. Pinned objects have no rows in pg_depend, so the system's own functions and relations
//! are looked for in the stored expression trees.

use std::fmt::Write as _;

use crate::plan::RELATIONS_DENIED;
use crate::policy::functions;

/// The query: what (`r`ead, `w`rite, `t`ype, `o`perator, `a`ny statement, `d`efinitions), its bare name, its name for
/// people, the schema and name of the code, whether that is a function, and a type's oid.
pub(super) fn query() -> String {
    let mut sql = String::from("with recursive ");
    // The server's version is asked for in the same batch, so that these are all versions' lists.
    let (names, prefixes) = functions::names(&[]);
    let (names, prefixes, relations) = (list(names), list(prefixes), list(RELATIONS_DENIED.iter().copied()));
    let _ = write!(
        sql,
        "denied as (select oid, oid < 16384 as builtin from pg_proc \
           where proname = any({names}) or proname::text ^@ any({prefixes})), \
         denied_relations as (select oid from pg_class \
           where relnamespace = 'pg_catalog'::regnamespace and relname = any({relations})), "
    );
    sql.push_str(ROOTS);
    sql.push_str(TREES);
    sql.push_str(EDGES);
    sql.push_str(REACH);
    sql
}

fn list(words: impl IntoIterator<Item = &'static str>) -> String {
    format!("array['{}']", words.into_iter().collect::<Vec<_>>().join("','"))
}

const ROOTS: &str = "\
roots as (select p.oid from pg_proc p join pg_namespace n on n.oid = p.pronamespace \
    join pg_language l on l.oid = p.prolang \
  where p.oid >= 16384 and n.nspname <> 'pgveil' and not (l.lanname in ('c','internal') \
    and p.oid not in (select oid from denied) \
    and exists (select from pg_depend e where e.classid = 'pg_proc'::regclass and e.objid = p.oid \
      and ((e.refclassid = 'pg_extension'::regclass and e.deptype = 'e') \
        or (e.refclassid = 'pg_type'::regclass and e.deptype = 'i')))) \
  union select oid from denied where builtin \
  union select fdwhandler from pg_foreign_data_wrapper where fdwhandler <> 0), ";

/// Stored expressions of users' objects, and what pinned objects they use.
const TREES: &str = "\
trees(class, object, tree) as ( \
  select 'pg_rewrite'::regclass::oid, oid, concat(ev_qual, ev_action) from pg_rewrite where oid >= 16384 \
  union all select 'pg_attrdef'::regclass, oid, adbin::text from pg_attrdef where oid >= 16384 \
  union all select 'pg_constraint'::regclass, oid, conbin::text from pg_constraint where conbin is not null and oid >= 16384 \
  union all select 'pg_policy'::regclass, oid, concat(polqual, polwithcheck) from pg_policy \
  union all select 'pg_trigger'::regclass, oid, tgqual::text from pg_trigger where tgqual is not null \
  union all select 'pg_type'::regclass, oid, typdefaultbin::text from pg_type where typdefaultbin is not null and oid >= 16384 \
  union all select 'pg_class'::regclass, partrelid, partexprs::text from pg_partitioned_table where partexprs is not null \
  union all select 2, indrelid, concat(indexprs, indpred) from pg_index \
    where indrelid >= 16384 and (indexprs is not null or indpred is not null) \
  union all select 2, stxrelid, stxexprs::text from pg_statistic_ext where stxexprs is not null), \
pinned(refclass, refobject, class, object) as materialized ( \
  select 'pg_proc'::regclass::oid, m[1]::oid, class, object from trees, \
    regexp_matches(tree, ':(?:funcid|opfuncid|aggfnoid|winfnoid) ([0-9]+)', 'g') m \
    where m[1]::oid in (select oid from denied) \
  union select 1, m[1]::oid, class, object from trees, regexp_matches(tree, ':relid ([0-9]+)', 'g') m \
    where class in ('pg_rewrite'::regclass, 'pg_policy'::regclass) and m[1]::oid in (select oid from denied_relations)), \
constant(relation, function) as ( \
  select relation, m[1]::oid from (select conrelid, conbin::text from pg_constraint \
      where contype = 'c' and conrelid <> 0 and oid >= 16384 \
    union all select indrelid, concat(indexprs, indpred) from pg_index \
      where indrelid >= 16384 and (indexprs is not null or indpred is not null)) e(relation, tree), \
    regexp_matches(tree, ':(?:funcid|opfuncid) ([0-9]+)[^{]*:args (?!\\(\\{(?:VAR|RELABELTYPE :arg \\{VAR) )', 'g') m), ";

/// Who runs whose code: (class, object) may run what (refclass, refobject) runs. Beside the catalogs' own numbers, class
/// 1 is reading a relation, 2 writing it, 3 any statement, 4 any definition. Types stand for casts, domains, operator
/// classes, ranges: whoever can name a type, or reads a column of it, can make them run. A cast or operator class
/// between types of the system alone has no name that a statement would have to mention, so it concerns them all.
/// Expressions without a column, in CHECKs and indexes, are computed when a query is planned.
const EDGES: &str = "\
edges(refclass, refobject, class, object) as materialized ( \
  select * from pinned \
  union all select 'pg_proc'::regclass, function, 1, relation from constant \
  union all select refclassid, refobjid, classid, objid from pg_depend where objid >= 16384 and case classid \
    when 'pg_operator'::regclass then refclassid = 'pg_proc'::regclass \
    when 'pg_cast'::regclass then refclassid = 'pg_proc'::regclass \
    when 'pg_class'::regclass then refclassid in ('pg_proc'::regclass, 'pg_operator'::regclass, 'pg_type'::regclass, \
      'pg_opclass'::regclass) and not exists (select from pg_index where indexrelid = objid) \
    else classid in ('pg_proc'::regclass, 'pg_amop'::regclass, 'pg_amproc'::regclass, 'pg_type'::regclass, \
        'pg_rewrite'::regclass, 'pg_policy'::regclass, 'pg_attrdef'::regclass, 'pg_constraint'::regclass, \
        'pg_trigger'::regclass, 'pg_statistic_ext'::regclass) \
      and (refclassid in ('pg_proc'::regclass, 'pg_operator'::regclass) \
        or (refclassid in ('pg_type'::regclass, 'pg_opclass'::regclass) and classid <> 'pg_proc'::regclass)) end \
  union all select 'pg_proc'::regclass, f, 'pg_operator'::regclass, oid \
    from pg_operator, unnest(array[oprcode, oprrest, oprjoin]::oid[]) f where oid >= 16384 and f <> 0 \
  union all select 'pg_cast'::regclass, c.oid, 'pg_type'::regclass, t from pg_cast c, unnest(array[castsource, casttarget]) t \
    where t >= 16384 \
  union all select 'pg_cast'::regclass, oid, 3, 0 from pg_cast where castsource < 16384 and casttarget < 16384 \
  union all select 'pg_amproc'::regclass, p.oid, 'pg_type'::regclass, t \
    from pg_amproc p, unnest(array[amproclefttype, amprocrighttype]) t where t >= 16384 \
  union all select 'pg_amproc'::regclass, oid, 3, 0 from pg_amproc where amproclefttype < 16384 and amprocrighttype < 16384 \
  union all select 'pg_amop'::regclass, p.oid, 'pg_type'::regclass, t \
    from pg_amop p, unnest(array[amoplefttype, amoprighttype]) t where t >= 16384 \
  union all select 'pg_amop'::regclass, oid, 3, 0 from pg_amop where amoplefttype < 16384 and amoprighttype < 16384 \
  union all select 'pg_amproc'::regclass, p.oid, 'pg_opclass'::regclass, o.oid \
    from pg_amproc p join pg_opclass o on o.opcfamily = p.amprocfamily \
  union all select 'pg_amop'::regclass, p.oid, 'pg_opclass'::regclass, o.oid \
    from pg_amop p join pg_opclass o on o.opcfamily = p.amopfamily \
  union all select 'pg_opclass'::regclass, oid, 'pg_type'::regclass, opcintype from pg_opclass where opcintype >= 16384 \
  union all select 'pg_constraint'::regclass, oid, 'pg_type'::regclass, contypid from pg_constraint where contypid <> 0 \
  union all select 'pg_class'::regclass, oid, 'pg_type'::regclass, reltype from pg_class where reltype <> 0 and oid >= 16384 \
  union all select 'pg_class'::regclass, oid, 1, oid from pg_class where oid >= 16384 \
  union all select 1, oid, 2, oid from pg_class where oid >= 16384 \
  union all select 'pg_policy'::regclass, oid, 1, polrelid from pg_policy \
  union all select 'pg_rewrite'::regclass, oid, case when ev_type = '1' then 1 else 2 end, ev_class from pg_rewrite \
  union all select way, d.refobjid, 'pg_rewrite'::regclass, r.oid \
    from pg_depend d join pg_rewrite r on r.oid = d.objid, unnest(array[1, 2]) way \
    where d.classid = 'pg_rewrite'::regclass and d.refclassid = 'pg_class'::regclass and d.refobjid <> r.ev_class \
      and (way = 1 or r.ev_type <> '1') \
  union all select 1, refobjid, classid, objid from pg_depend \
    where classid = 'pg_policy'::regclass and refclassid = 'pg_class'::regclass \
  union all select 2, d.refobjid, 2, r.ev_class from pg_depend d join pg_rewrite r on r.oid = d.objid \
    where d.classid = 'pg_rewrite'::regclass and d.refclassid = 'pg_class'::regclass and r.ev_type = '1' \
      and d.refobjid <> r.ev_class \
  union all select 'pg_constraint'::regclass, k.oid, 2, t from pg_constraint k, unnest(array[conrelid, confrelid]) t where t <> 0 \
  union all select 'pg_attrdef'::regclass, d.oid, case when a.attgenerated = 'v' then 1 else 2 end, adrelid \
    from pg_attrdef d join pg_attribute a on a.attrelid = d.adrelid and a.attnum = d.adnum \
  union all select 'pg_trigger'::regclass, oid, 2, tgrelid from pg_trigger \
  union all select 'pg_statistic_ext'::regclass, oid, 2, stxrelid from pg_statistic_ext \
  union all select d.refclassid, d.refobjid, case d.refclassid when 'pg_opclass'::regclass then 1 else 2 end, i.indrelid \
    from pg_depend d join pg_index i on i.indexrelid = d.objid where d.classid = 'pg_class'::regclass \
      and d.refclassid in ('pg_proc'::regclass, 'pg_operator'::regclass, 'pg_type'::regclass, 'pg_opclass'::regclass) \
  union all select 2, conrelid, 2, confrelid from pg_constraint where contype = 'f' \
    and (confdeltype in ('c','n','d') or confupdtype in ('c','n','d')) \
  union all select way, case when up then inhrelid else inhparent end, way, case when up then inhparent else inhrelid end \
    from pg_inherits, unnest(array[1, 2]) way, unnest(array[true, false]) up \
  union all select 'pg_proc'::regclass, w.fdwhandler, 1, t.ftrelid from pg_foreign_table t \
    join pg_foreign_server s on s.oid = t.ftserver join pg_foreign_data_wrapper w on w.oid = s.srvfdw \
  union all select 'pg_proc'::regclass, evtfoid, 4, 0 from pg_event_trigger), ";

const REACH: &str = "\
reach(class, object, rootclass, root) as ( \
  select 'pg_proc'::regclass::oid, oid, 'pg_proc'::regclass::oid, oid from roots \
  union all select 1, oid, 1, oid from denied_relations \
  union select e.class, e.object, r.rootclass, r.root from reach r \
    join edges e on e.refclass = r.class and e.refobject = r.object), \
code(class, oid, schema, name, function) as ( \
  select 'pg_proc'::regclass::oid, p.oid, n.nspname, p.proname, true \
    from pg_proc p join pg_namespace n on n.oid = p.pronamespace \
  union all select 1, c.oid, 'pg_catalog', c.relname, false from pg_class c join denied_relations using (oid)) \
select distinct case r.class when 1 then 'r' when 2 then 'w' when 3 then 'a' when 4 then 'd' \
    when 'pg_type'::regclass then 't' else 'o' end, \
  coalesce(c.relname, t.typname, o.oprname, ''), \
  coalesce(cn.nspname || '.' || c.relname, tn.nspname || '.' || t.typname, o.oprname, ''), \
  code.schema, code.name, code.function, coalesce(t.oid, 0) \
from reach r join code on code.class = r.rootclass and code.oid = r.root \
  left join pg_class c on r.class in (1, 2) and c.oid = r.object \
  left join pg_namespace cn on cn.oid = c.relnamespace \
  left join pg_type t on r.class = 'pg_type'::regclass and t.oid = r.object \
  left join pg_namespace tn on tn.oid = t.typnamespace \
  left join pg_operator o on r.class = 'pg_operator'::regclass and o.oid = r.object \
where r.class in (3, 4) or (r.object >= 16384 and r.class in (1, 2, 'pg_type'::regclass, 'pg_operator'::regclass)) \
order by 1, 2, 3, 4, 5, 6, 7";
