use super::*;
use crate::sql::{lex, statements};

fn one(sql: &str) -> (Vec<Token>, Range<usize>) {
    let tokens = lex(sql, 1000).unwrap();
    let ranges = statements(&tokens, sql);
    assert_eq!(ranges.len(), 1, "{sql}");
    let range = ranges[0].clone();
    (tokens, range)
}

#[test]
fn kinds_by_first_words() {
    for (sql, expected) in [
        ("select 1", Kind::Query),
        ("((select 1) union select 2)", Kind::Query),
        ("values (1)", Kind::Query),
        ("table t", Kind::Query),
        ("with a as (select 1) select 1", Kind::With),
        ("/* x */ INSERT into t values (1)", Kind::Insert),
        ("begin", Kind::Begin),
        ("start transaction read only", Kind::Begin),
        ("end", Kind::Commit),
        ("commit prepared 'x'", Kind::CommitPrepared),
        ("abort", Kind::Rollback),
        ("rollback", Kind::Rollback),
        ("rollback and no chain", Kind::Rollback),
        ("rollback to s", Kind::RollbackTo),
        ("rollback work to savepoint s", Kind::RollbackTo),
        ("rollback prepared 'x'", Kind::RollbackPrepared),
        ("prepare transaction 'x'", Kind::PrepareTransaction),
        ("prepare transaction as select 1", Kind::Prepare),
        ("prepare p as select 1", Kind::Prepare),
        ("set x = 1", Kind::Set),
        ("set session x to 1", Kind::Set),
        ("set local time zone 'UTC'", Kind::Set),
        ("set session authorization x", Kind::Set),
        ("set transaction isolation level serializable", Kind::SetTransaction),
        ("set local transaction read only", Kind::SetTransaction),
        ("set session characteristics = 1", Kind::Set),
        ("set session characteristics as transaction read only", Kind::SetTransaction),
        ("set transaction = 1", Kind::Set),
        ("set session = 1", Kind::Set),
        ("set session.x = 1", Kind::Set),
        ("set constraints all deferred", Kind::SetConstraints),
        ("explain select 1", Kind::Explain),
        ("vacuum", Kind::Vacuum),
        ("create table t()", Kind::Create),
        ("\"select\" 1", Kind::Unknown),
        ("frobnicate", Kind::Unknown),
        ("'x'", Kind::Unknown),
    ] {
        let (tokens, range) = one(sql);
        assert_eq!(kind(sql, &tokens, range), expected, "{sql}");
    }
}

#[test]
fn statements_inside_statements() {
    for (sql, expected) in [
        ("explain select 1", Some(("select 1", false))),
        ("explain analyze verbose select 1", Some(("select 1", true))),
        ("explain (analyze, buffers) select 1", Some(("select 1", true))),
        ("explain (costs off, analyze off) select 1", Some(("select 1", false))),
        ("explain (analyze 'false') select 1", Some(("select 1", false))),
        ("explain (\"analyze\", costs off) select 1", Some(("select 1", true))),
        ("explain (select 1)", Some(("(select 1)", false))),
        ("explain ((select 1))", Some(("((select 1))", false))),
        ("prepare p as select $1", Some(("select $1", true))),
        ("prepare p (int, numeric(1,2)) as select $1", Some(("select $1", true))),
        ("declare c binary no scroll cursor with hold for select 1", Some(("select 1", true))),
        ("declare c cursor", None),
        ("explain", None),
        ("select 1", None),
    ] {
        let (tokens, range) = one(sql);
        let found = inner(sql, &tokens, range);
        let found = found.as_ref().map(|inner| {
            let bytes = tokens[inner.range.start].span.start as usize..tokens[inner.range.end - 1].span.end as usize;
            (&sql[bytes], inner.runs)
        });
        assert_eq!(found, expected, "{sql}");
    }
}

#[test]
fn handles_of_cursors_and_prepared_statements() {
    for (sql, expected) in [
        ("declare C cursor for select 1", Some("c")),
        ("fetch c", Some("c")),
        ("fetch forward 10 from \"C\"", Some("C")),
        ("move all in c", Some("c")),
        ("close c", Some("c")),
        ("close all", None),
        ("prepare p as select 1", Some("p")),
        ("execute p(1, 'x')", Some("p")),
        ("deallocate prepare p", Some("p")),
        ("deallocate p", Some("p")),
        ("deallocate prepare", Some("prepare")),
        ("deallocate all", None),
        ("deallocate prepare all", None),
        ("select 1", None),
    ] {
        let (tokens, range) = one(sql);
        assert_eq!(handle(sql, &tokens, range).as_deref(), expected, "{sql}");
    }
}

#[test]
fn temporary_relations() {
    for (sql, expected) in [
        ("create temp table T (a int)", Some("t")),
        ("create local temporary table if not exists t as select 1", Some("t")),
        ("create or replace temp view v as select 1", Some("v")),
        ("create temp recursive view v (n) as select 1", Some("v")),
        ("create table pg_temp.t (a int)", Some("t")),
        ("create table temp (a int)", None),
        ("create table public.t (a int)", None),
        ("select 1 into temp t", Some("t")),
        ("select 1 into temporary table t from x", Some("t")),
        ("select 1 into t", None),
        ("create temp sequence s", Some("s")),
        ("create index i on t (a)", None),
        ("with x as (insert into pg_temp.t values (1) returning *) select * from x", None),
        ("with x as (select 1) insert into pg_temp.t select * from x", None),
        ("with x as (insert into t values (1) returning *) select * into temp u from x", Some("u")),
        ("with x as (merge into pg_temp.t using u on true when matched then delete) select 1", None),
        ("with x as (select 1) select (1) insert into temp t", Some("t")),
        ("select 1 merge into temp t", Some("t")),
        ("select 1 as into, x.into into temp t from x", Some("t")),
        ("(select 1 into temp t) union select 2", Some("t")),
    ] {
        let (tokens, range) = one(sql);
        let made = created(sql, &tokens, range).filter(|made| made.temporary);
        assert_eq!(made.map(|made| made.name).as_deref(), expected, "{sql}");
    }
}

#[test]
fn mentions_compare_names_not_values() {
    let names: HashSet<String> = ["users", "größe", "we\"ird"].into_iter().map(str::to_owned).collect();
    for (sql, expected) in [
        ("select * from users", true),
        ("select * from USERS", true),
        ("select * from \"Users\"", true),
        ("select * from U&\"\\0075sers\"", true),
        ("select * from u&\"!0075sers\" uescape '!'", true),
        ("select * from public.users u", true),
        ("select 'users', $$users$$, users_x -- users\n", false),
        ("select GRÖßE", true),
        ("select größe", true),
        ("select \"we\"\"ird\"", true),
        ("select \"users\"\"\"", false),
        ("select 1", false),
    ] {
        let tokens = lex(sql, 100).unwrap();
        assert_eq!(mentions(sql, &tokens, &names), expected, "{sql}");
    }
    let long: HashSet<String> = ["x".repeat(63)].into_iter().collect();
    let sql = format!("select {}", "X".repeat(80));
    assert!(mentions(&sql, &lex(&sql, 9).unwrap(), &long));
    let sql = format!("select \"{}\"", "X".repeat(80));
    assert!(mentions(&sql, &lex(&sql, 9).unwrap(), &long));
    assert!(!mentions("select users", &lex("select users", 9).unwrap(), &HashSet::new()));
}
