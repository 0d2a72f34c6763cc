//! Shapes that drivers, ORMs and psql send.

use super::{ANALYST, APP, MASKED, WRITER, check};

/// Sent by psql's \d, asyncpg and ORMs at start-up; a restricted role must not lose them.
const CATALOG: &[&str] = &[
    r#"SELECT n.nspname as "Schema", c.relname as "Name", CASE c.relkind WHEN 'r' THEN 'table' WHEN 'v' THEN 'view' END as "Type",
       pg_catalog.pg_get_userbyid(c.relowner) as "Owner" FROM pg_catalog.pg_class c
       LEFT JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace LEFT JOIN pg_catalog.pg_am am ON am.oid = c.relam
       WHERE c.relkind IN ('r','p','v','m','S','f','') AND n.nspname <> 'pg_catalog' AND n.nspname !~ '^pg_toast'
       AND n.nspname <> 'information_schema' AND pg_catalog.pg_table_is_visible(c.oid) ORDER BY 1,2;"#,
    r"SELECT c.oid, n.nspname, c.relname FROM pg_catalog.pg_class c
       LEFT JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
       WHERE c.relname OPERATOR(pg_catalog.~) '^(users)$' COLLATE pg_catalog.default
       AND pg_catalog.pg_table_is_visible(c.oid) ORDER BY 2, 3;",
    r"SELECT a.attname, pg_catalog.format_type(a.atttypid, a.atttypmod),
       (SELECT pg_catalog.pg_get_expr(d.adbin, d.adrelid, true) FROM pg_catalog.pg_attrdef d
        WHERE d.adrelid = a.attrelid AND d.adnum = a.attnum AND a.atthasdef), a.attnotnull, a.attidentity, a.attgenerated
       FROM pg_catalog.pg_attribute a WHERE a.attrelid = '16385' AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum;",
    r"SELECT c.relchecks, c.relkind, false AS relhasoids, '', CASE WHEN c.reloftype = 0 THEN '' ELSE
       c.reloftype::pg_catalog.regtype::pg_catalog.text END FROM pg_catalog.pg_class c
       LEFT JOIN pg_catalog.pg_class tc ON (c.reltoastrelid = tc.oid) WHERE c.oid = '16385';",
    r"WITH RECURSIVE typeinfo_tree(oid, ns, name, depth) AS (
       SELECT ti.oid, ti.ns, ti.name, 0 FROM (SELECT t.oid AS oid, ns.nspname AS ns, t.typname AS name FROM pg_catalog.pg_type AS t
       INNER JOIN pg_catalog.pg_namespace ns ON (ns.oid = t.typnamespace)) AS ti WHERE ti.oid = any($1::oid[])
       UNION ALL SELECT ti.oid, ti.ns, ti.name, tt.depth + 1 FROM pg_catalog.pg_type ti, typeinfo_tree AS tt
       WHERE (tt.oid IS NOT NULL AND ti.typelem = tt.oid))
       SELECT DISTINCT *, oid::regtype::text AS elemtype_name FROM typeinfo_tree ORDER BY depth DESC",
    "select current_schema(), current_database(), version(), current_setting('server_version_num')",
    "SELECT t.typname, t.oid FROM pg_type t JOIN pg_namespace ns ON t.typnamespace = ns.oid WHERE t.typtype IN ('b', 'd')",
    "show transaction isolation level",
    "set application_name = 'x'",
    "select set_config('search_path', '', false)",
    "BEGIN ISOLATION LEVEL READ COMMITTED",
    "fetch 10 from c",
    "close c",
    "deallocate all",
    "listen x",
    "select table_name from information_schema.tables where table_schema = 'public'",
    "create temp table scratch (id int)",
    "insert into notes (id, body) values (1, 'x') returning id",
    "truncate notes",
    "analyze",
];

#[test]
fn catalog_queries_pass_for_every_role() {
    check([(APP, "execute p(1)", "pass".to_owned())]);
    check(CATALOG.iter().flat_map(|sql| [(ANALYST, *sql, "pass".to_owned()), (APP, *sql, "pass".to_owned())]));
}

#[test]
fn users_code_behind_a_table_concerns_only_those_who_make_it_run() {
    let reads = [
        (ANALYST, "select id from kept for no key update", "unknown: select id from kept for no key update"),
        (ANALYST, "copy (select id from kept) to stdout", "unknown: copy (select id from kept) to stdout"),
        (ANALYST, "drop table shown", "pass"),
        (ANALYST, "comment on table kept is 'shown'", "pass"),
        (ANALYST, "select 'shown', 'mood' from notes", "pass"),
        (
            APP,
            "insert into notes select 'x'::mood from shown, kept",
            "unknown: insert into notes select 'x'::mood from shown, kept",
        ),
    ];
    check(reads.map(|(class, sql, expected)| (class, sql, expected.to_owned())));
}

#[test]
fn object_mappers_work() {
    let cases = [
        // Django.
        (
            r#"SELECT "users"."id", "users"."email" FROM "users" WHERE "users"."email" = 'a' LIMIT 21"#,
            r#"SELECT "users"."id", "users"."email" FROM "users" WHERE "users"."email" = {email 'a'} LIMIT 21"#,
        ),
        (
            r#"SELECT (1) AS "a" FROM "users" WHERE "users"."email" IN ('a', 'b') LIMIT 1"#,
            r#"SELECT (1) AS "a" FROM "users" WHERE "users"."email" IN ({email 'a'}, {email 'b'}) LIMIT 1"#,
        ),
        (r#"SELECT COUNT(*) AS "__count" FROM "users""#, "="),
        (
            r#"UPDATE "users" SET "email" = 'x', "nickname" = 'y' WHERE "users"."id" IN (1, 2)"#,
            r#"UPDATE "users" SET "email" = {email 'x'}, "nickname" = 'y' WHERE "users"."id" IN (1, 2)"#,
        ),
        (
            r#"INSERT INTO "users" ("email", "dob", "nickname") VALUES ('a', NULL, 'n') RETURNING "users"."id""#,
            r#"INSERT INTO "users" ("email", "dob", "nickname") VALUES ({email 'a'}, NULL, 'n') RETURNING "users"."id""#,
        ),
        (r#"SELECT "users"."id" FROM "users" ORDER BY "users"."id" ASC LIMIT 1 FOR UPDATE OF "users""#, "="),
        // Rails.
        (
            r#"SELECT "users".* FROM "users" WHERE "users"."email" = $1 LIMIT $2"#,
            r#"SELECT "users".* FROM "users" WHERE "users"."email" = $1 LIMIT $2 | $1=email $2=-"#,
        ),
        (
            r#"SELECT 1 AS one FROM "users" WHERE "users"."email" = $1 AND "users"."id" != $2 LIMIT $3"#,
            r#"SELECT 1 AS one FROM "users" WHERE "users"."email" = $1 AND "users"."id" != $2 LIMIT $3 | $1=email $2=- $3=-"#,
        ),
        // SQLAlchemy.
        (
            "SELECT users.id, users.email FROM users WHERE users.email = $1::VARCHAR AND users.id > $2::INTEGER",
            "SELECT users.id, users.email FROM users WHERE users.email = $1::bytea AND users.id > $2::INTEGER | $1=email $2=-",
        ),
        (
            "INSERT INTO users (email, full_name, dob) VALUES ($1::VARCHAR, $2::VARCHAR, $3::DATE) RETURNING users.id",
            "INSERT INTO users (email, full_name, dob) VALUES ($1::bytea, $2::bytea, $3::bytea) RETURNING users.id | $1=email $2=full_name $3=dob",
        ),
        // Hibernate.
        (
            "select u1_0.id,u1_0.email from users u1_0 left join orders o1_0 on u1_0.id=o1_0.user_id where u1_0.email=$1 fetch first $2 rows only",
            "select u1_0.id,u1_0.email from users u1_0 left join orders o1_0 on u1_0.id=o1_0.user_id where u1_0.email=$1 fetch first $2 rows only | $1=email $2=-",
        ),
        // Optional filters.
        (
            "select id from users where ($1::text is null or email = $1::text)",
            "select id from users where ($1::bytea is null or email = $1::bytea) | $1=email",
        ),
        // Locks, identities, partial indexes, cursors.
        ("select email from users where id = 1 for no key update nowait", "="),
        ("select email from users u where id = 1 for key share of u skip locked", "="),
        (
            "insert into users (id, email) overriding system value values (1, 'a')",
            "insert into users (id, email) overriding system value values (1, {email 'a'})",
        ),
        (
            "insert into users (id, email) values (1, 'a') on conflict (email) where nickname is null do update set email = excluded.email",
            "insert into users (id, email) values (1, {email 'a'}) on conflict (email) where nickname is null do update set email = excluded.email",
        ),
        ("update users set email = 'a' where current of c", "update users set email = {email 'a'} where current of c"),
        ("delete from users where current of c", "="),
        ("select nickname->>'x', note @> '{}' from users where note ? 'k'", "="),
        ("select now() - interval '1 day', extract(year from now()) from users where id = 1", "="),
        ("select id from users where nickname ilike '%x%' escape '!' or lower(nickname) = 'y'", "="),
        ("select u.email from users u left join lateral (select 1 as x) l on true where l.x = 1", "="),
        ("select email from users tablesample system (10) where id between 1 and 10", "="),
        (
            "select id from users where email = 'a'\n'b' and nickname like any (array['x', 'y'])",
            "select id from users where email = {email 'a'\n'b'} and nickname like any (array['x', 'y'])",
        ),
        (
            "select id from users where email = (('a'::varchar)::text) or email = cast($1::text as varchar)",
            "select id from users where email = (({email 'a'}::bytea)::bytea) or email = cast($1::bytea as bytea) | $1=email",
        ),
        (
            "insert into users (id, email) values (1, 'a') on conflict (lower(nickname), id) do update set email = 'b'",
            "insert into users (id, email) values (1, {email 'a'}) on conflict (lower(nickname), id) do update set email = {email 'b'}",
        ),
        (
            "update users set nickname[1] = 'x', email = 'a' where id = 1",
            "update users set nickname[1] = 'x', email = {email 'a'} where id = 1",
        ),
        ("create table copied as select id, email, full_name from users", "="),
        ("alter table only public.users add constraint users_pkey primary key (id)", "="),
        ("alter table users alter column id add generated by default as identity", "="),
        ("create unique index concurrently on public.users using btree (email) include (nickname)", "="),
        (
            "alter table only orders add constraint fk foreign key (user_id) references users (id) on delete cascade",
            "=",
        ),
        ("lock table only users in access share mode; copy public.users (id, email) to stdout", "="),
        ("with c as materialized (select email from users) select * from c", "="),
    ];
    check(cases.into_iter().map(|(sql, expected)| {
        let expected = if expected == "=" { format!("act: {sql}") } else { format!("act: {expected}") };
        (APP, sql, expected)
    }));
}

#[test]
fn a_writer_moves_only_its_own_row() {
    let own = [
        "insert into users (id, email) values (1, $1) on conflict (id) do update set email = excluded.email",
        "update users set email = users.email, nickname = 'x'",
    ];
    check([
        (WRITER, own[0], format!("act: {} | $1=email", own[0])),
        (WRITER, own[1], format!("act: {}", own[1])),
        (WRITER, "insert into orders (email) select email from users", "refuse PV012 copying".to_owned()),
        (WRITER, "update users set email = (select email from users where id = 1)", "refuse PV012 copying".to_owned()),
        (WRITER, "update users u set email = v.email from users v where v.id = 1", "refuse PV012 copying".to_owned()),
        (MASKED, "update users set email = users.email", "refuse PV012 writing".to_owned()),
    ]);
}
