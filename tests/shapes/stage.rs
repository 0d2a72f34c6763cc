//! The stage of the leak suite: tables of every kind, what is hidden in them, and two worlds that differ in that alone.

use std::fmt::Write as _;

use crate::support::{CANARY, PASSWORD, Site};

/// In every value of a plaintext column above clearance, in the first world. (The server's log may hold it.)
pub const PLAIN: &str = "parkiet";
/// In its place, in the second: as long, and with the same first letter, so that its masks are the same.
const OTHER: &str = "pquvwxy";
/// What a row has in a column that is not hidden, but the row is.
pub const ROW: &str = "verscholen";

/// What masked logins had on the tables before there were lenses, past the proxy.
pub const READER: &str = "shapes_reader";
/// A login without an entry in the policy and without rights.
pub const NOBODY: &str = "shapes_nobody";
/// Cleared for all plaintext, not for what is sealed.
pub const UNSEALING: &str = "shapes_plain";
/// Cleared for everything while it acts for care, which it does not.
pub const CLINIC: &str = "shapes_clinic";

pub const POLICY: &str = r#"
version = 1
default_role = { clearance = "public" }
[levels.confidential]
encryption_required = false
[tables."public.people"]
subject = { kind = "person", key = "id" }
[tables."public.people".columns]
id = { level = "internal" }
ssn = { level = "confidential", mask = "partial:1:0" }
mail = { level = "confidential", mask = "email" }
born = { level = "confidential", mask = "year" }
salary = { level = "confidential", mask = "bucket:1000000" }
note = { level = "confidential" }
gone = { level = "confidential", mask = "remove" }
doc = { level = "confidential" }
tags = { level = "confidential" }
loud = { level = "confidential", mask = "null" }
city = { level = "internal" }
shown = { level = "internal" }
[tables."public.patients"]
subject = { kind = "person", key = "id" }
[tables."public.patients".columns]
id = { level = "internal" }
email = { level = "restricted", as = "varchar(80)", encrypt = "deterministic", mask = "email" }
secret = { level = "restricted", as = "text", encrypt = "randomized" }
pin = { level = "confidential", mask = "partial:1:0" }
city = { level = "internal" }
[tables."public.visits".columns]
id = { level = "internal" }
person = { level = "internal" }
what = { level = "confidential", mask = "partial:1:0" }
[tables."public.parts".columns]
id = { level = "internal" }
region = { level = "internal" }
pin = { level = "confidential", mask = "fixed:hidden" }
[tables."public.beings".columns]
id = { level = "internal" }
code = { level = "confidential" }
[tables."public.guarded".columns]
id = { level = "internal" }
ssn = { level = "confidential", mask = "partial:1:0" }
city = { level = "internal" }
[tables."public.wide".columns]
id = { level = "internal" }
[tables."public.a_table_whose_name_is_longer_than_sixty_three_bytes_and_is_cut".columns]
id = { level = "internal" }
[roles.app]
clearance = "restricted"
[roles.shapes_plain]
clearance = "confidential"
[roles.analyst]
clearance = "internal"
accept_leakage = ["existence"]
[roles.analyst.rows]
"public.people" = "shown"
[roles.support]
clearance = "internal"
above = "null"
[purposes.care]
basis = "vital"
[purposes.research]
basis = "public_task"
clearance = "internal"
[purposes.research.rows]
"public.people" = "shown"
[roles.shapes_clinic]
clearance = "restricted"
purpose = "care"
purposes = ["research"]
accept_leakage = ["existence"]
"#;

const SCHEMA: &str = "
create table people (id int primary key, ssn varchar(40) unique, mail text, born date, salary int, note text, gone text,
  doc jsonb, tags text[], loud text generated always as (upper(ssn)) stored, city text, shown boolean);
create table patients (id int primary key, loud text generated always as (upper(pin)) stored, email varchar(80) unique, secret text, pin text, city text);
create index on people (note);
create index on people (salary);
create statistics people_stats (mcv) on note, city from people;
create table visits (id int generated always as identity primary key, person int references people, what text);
create table parts (id int, region text, pin text) partition by list (region);
create table parts_north partition of parts for values in ('north');
create table parts_south partition of parts for values in ('south');
create table beings (id int, code text);
create table animals (kind text) inherits (beings);
create index parts_north_id on parts_north (id); create index parts_south_id on parts_south (id);
create index beings_id on beings (id); create index animals_id on animals (id);
create table wide (id int, a_column_whose_name_is_longer_than_sixty_three_bytes_and_is_cut text);
create table a_table_whose_name_is_longer_than_sixty_three_bytes_and_is_cut (id int, v text);
create table guarded (id int primary key, ssn text, city text);
create function complain() returns trigger language plpgsql as $$ begin
  case new.city
    when 'taken' then raise unique_violation using message = 'taken by ' || old.ssn, constraint = 'guarded_' || old.ssn;
    when 'unable' then raise exception '%', old using errcode = '0A000', hint = old.ssn, table = old.ssn;
    when 'denied' then raise insufficient_privilege using message = old.ssn, schema = old.ssn, column = old.ssn;
    when 'missing' then execute 'select * from ' || old.ssn;
    when 'wrong' then perform old.ssn::int;
    when 'noted' then raise notice using message = old.ssn, hint = old.ssn, detail = old.ssn;
    when 'warned' then raise warning using message = old.ssn, errcode = '0A000', hint = old.ssn;
    when 'notified' then perform pg_notify('c', row_to_json(old)::text);
    else null;
  end case; return new; end $$;
create trigger complain before update on guarded for each row execute function complain();
create table open (id int primary key, word text);
create table strict (id int primary key, word text check (word like 'x%'));
create schema other; create table other.people (id int, word text); grant usage on schema other to public;
create schema desk;
create schema owners; create view owners.people_all as
  select id, ssn, mail, born, salary, note, doc, tags, loud, city from people;
create materialized view owners.people_mat as select id, ssn, note from people with no data;
";

const RIGHTS: &str = "
grant select on other.people to public;
grant all on schema desk to app, analyst, support, shapes_reader, shapes_clinic;
grant usage on schema owners to public;
grant all on all tables in schema public to shapes_reader, shapes_plain, shapes_clinic;
grant all on all sequences in schema public to shapes_reader, shapes_plain, shapes_clinic;
grant select on all tables in schema owners to shapes_reader, app;
do $$ declare t regclass; begin
  for t in select oid from pg_class where relnamespace = 'public'::regnamespace and relkind = 'r' loop
    execute format('alter table %s set (autovacuum_enabled = off)', t);
  end loop;
end $$;
";

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum World {
    First,
    Second,
}

impl World {
    fn word(self) -> &'static str {
        if self == Self::First { PLAIN } else { OTHER }
    }

    fn born(self) -> &'static str {
        if self == Self::First { "1973-05-1" } else { "1973-11-2" }
    }

    fn salary(self) -> &'static str {
        if self == Self::First { "7310010" } else { "7390090" }
    }
}

/// The first world's values of row 2 (and 3) in place of their names, as PostgreSQL prints them.
pub fn filled(shape: &str) -> String {
    let mut text = shape.replace("{hidden}", &format!("{PLAIN}ssn3")).replace("{mail}", &mail(World::First, 2));
    for column in ["ssn", "note", "gone", "doc", "tags", "pin"] {
        text = text.replace(&format!("{{{column}}}"), &format!("{PLAIN}{column}2"));
    }
    text.replace("{email}", &format!("e{CANARY}mail2@example.org")).replace("{secret}", &format!("{CANARY}secret2"))
}

fn mail(world: World, row: u32) -> String {
    format!("{}mail{row}@example.org", world.word())
}

/// UPDATEs that give every hidden plaintext cell its value in that world.
fn plaintext(world: World) -> String {
    let mut sql = String::new();
    for n in 1..=4 {
        let (word, born, salary) = (world.word(), world.born(), world.salary());
        let _ = write!(
            sql,
            "update people set ssn = '{word}ssn{n}', mail = '{}', born = '{born}{n}', salary = {salary}{n},
               note = '{word}note{n}', gone = '{word}gone{n}', doc = '{{\"k\": \"{word}doc{n}\", \"n\": [\"{word}docn{n}\"]}}',
               tags = array['{word}tags{n}', '{word}tagz{n}'] where id = {n};
             update visits set what = '{word}what{n}' where person = {n};
             update beings set code = '{word}code{n}' where id = {n};
             update parts set pin = '{word}pin{n}' where id = {n};
             update guarded set ssn = '{word}ssn{n}' where id = {n};
             update patients set pin = '{word}pin{n}' where id = {n};",
            mail(world, n)
        );
    }
    let word = world.word();
    let _ = write!(
        sql,
        "update wide set a_column_whose_name_is_longer_than_sixty_three_bytes_and_is_cut = '{word}wide';
         update a_table_whose_name_is_longer_than_sixty_three_bytes_and_is_cut set v = '{word}cut';
         refresh materialized view owners.people_mat;"
    );
    sql
}

/// Every hidden cell is now what it is in that world; where it stands is the same.
pub fn turn(site: &Site, world: World) {
    site.sql(&plaintext(world));
    settle(site);
}

/// In the second world, the rows that some role must not see are others, and there are more of them.
pub fn more_hidden_rows(site: &Site) {
    site.sql(
        "update people set city = 'elsewhere', salary = 99 where id = 3;
         insert into people (id, ssn, note, city, shown) select n, n, n, n, false from generate_series(50, 90) n",
    );
    settle(site);
}

/// Rows that a shape has changed for good, and back, stand where they stood.
pub fn put_in_order(site: &Site) {
    site.sql("cluster guarded using guarded_pkey");
}

/// Rows stand as their keys do, and PostgreSQL knows how many there are.
pub fn settle(site: &Site) {
    for table in ["people", "patients", "visits", "open", "guarded"] {
        site.sql(&format!("cluster {table} using {table}_pkey"));
    }
    for table in ["beings", "animals", "parts_north", "parts_south"] {
        site.sql(&format!("cluster {table} using {table}_id"));
    }
    site.sql("analyze");
}

/// The site with its lenses, served, in the first world.
pub async fn site() -> Site {
    served("shapes", POLICY, &["--lenses"]).await
}

/// The same under a policy that only observes, without lenses.
pub async fn observing() -> Site {
    let policy = POLICY.replacen("version = 1", "version = 1\nmode = \"observe\"", 1);
    served("shapes_observed", &policy, &[]).await
}

async fn served(name: &str, policy: &str, applied: &[&str]) -> Site {
    let mut site = Site::new(name).schema(SCHEMA).policy(policy).audit("durability = \"async\"").prepare();
    for role in [READER, NOBODY, UNSEALING, CLINIC] {
        // The cluster has them once, however many sites there are.
        site.sql(&format!(
            "do $$ begin create role {role} login password '{PASSWORD}';
               exception when duplicate_object or unique_violation then null; end $$"
        ));
    }
    site.sql(RIGHTS);
    site.pgveil_ok(&[&["apply"], applied].concat());
    site.serve();
    let app = site.client("app").await;
    for n in 1..=4 {
        let insert = format!(
            "insert into people (id, city, shown) values ({n}, '{}', {});
             insert into visits (person) values ({n});
             insert into {} (id) values ({n});
             insert into parts (id, region) values ({n}, '{}');
             insert into open values ({n}, 'spoken{n}');
             insert into guarded values ({n}, null, 'town');
             insert into patients (id, email, secret, pin, city) values ({n}, 'e{CANARY}mail{n}@example.org', '{CANARY}secret{n}', null, 'town')",
            if n == 3 { ROW } else { "town" },
            n != 3,
            if n % 2 == 0 { "animals" } else { "beings" },
            if n % 2 == 0 { "north" } else { "south" },
        );
        app.batch_execute(&insert).await.unwrap_or_else(|e| panic!("{:?}", e.as_db_error()));
    }
    app.batch_execute(
        "insert into wide values (1);
         insert into a_table_whose_name_is_longer_than_sixty_three_bytes_and_is_cut values (1);",
    )
    .await
    .unwrap();
    site.sql("insert into other.people values (7, 'elsewhere')");
    turn(&site, World::First);
    site
}
