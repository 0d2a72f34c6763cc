//! What is no way: name, versions, SQL.

use std::ops::RangeInclusive;

use super::cases::ANY;

/// Each on the clean base.
pub const HARMLESS: &[(&str, RangeInclusive<u32>, &str)] = &[
    ("usage on public and its own schema", ANY, "grant usage on schema public to {m}; create table mine.t (x int)"),
    ("a group with rights elsewhere", ANY, "grant all on app.plain to ways_group; grant ways_group to {m}"),
    ("its own table, view and function", ANY, "create table mine.t (x int); alter table mine.t owner to {m}"),
    ("signals and checkpoints", ANY, "grant pg_signal_backend, pg_checkpoint, pg_read_all_settings to {m}"),
    ("createdb and temp", ANY, "alter role {m} createdb; grant temp on database ways_clean to {m}"),
    ("ordinary functions", ANY, "create function app.f() returns int language sql as 'select 1'"),
    (
        "a view of what it may see",
        ANY,
        "create view app.v as select id, nick from app.people; grant select on app.v to {m}",
    ),
    (
        "a count of what has no hidden rows",
        ANY,
        "create view app.v as select count(*) from app.people; grant select on app.v to {m}",
    ),
    (
        "the reader's own rights",
        ANY,
        "create view app.v with (security_invoker) as select * from app.people; grant select on app.v to {m}",
    ),
    (
        "a view of the lens",
        ANY,
        "create view app.v as select * from pgveil_lens_x.people; grant select on app.v to {m}",
    ),
    ("columns it may see", ANY, "grant select (id, nick), update (nick) on app.people to {m}"),
    (
        "its own definer",
        ANY,
        "create function mine.f() returns int language sql security definer as 'select 1'; alter function mine.f() owner to {m}",
    ),
    (
        "a reviewed definer",
        ANY,
        "create function app.reviewed() returns int language sql security definer as 'select 1'",
    ),
    (
        "a definer for others",
        ANY,
        "create function app.f() returns int language sql security definer as 'select 1'; revoke execute on function app.f() from public; grant execute on function app.f() to ways_other",
    ),
    (
        "rights of others",
        ANY,
        "grant all on app.people to ways_other with grant option; alter default privileges for role ways_owner in schema app grant select on tables to ways_other",
    ),
    ("its own default privileges", ANY, "alter default privileges for role {m} grant select on tables to public"),
    (
        "default privileges elsewhere",
        ANY,
        "alter default privileges for role ways_owner in schema public grant select on tables to public",
    ),
    (
        "row security for everybody",
        ANY,
        "alter table app.visits enable row level security; create policy p on app.visits using (true)",
    ),
    (
        "a foreign key from a table it reads",
        ANY,
        "create table app.orders (visit int references app.visits); grant select, delete on app.orders to {m}",
    ),
    (
        "a foreign key to what it may see",
        ANY,
        "create table app.orders (person int references app.people); grant insert on app.orders to {m}",
    ),
    ("a publication without replication", ANY, "create publication p for table app.people"),
    (
        "a rule of what it does not write",
        ANY,
        "create table app.box (x int); create rule r as on insert to app.box do also select ssn from app.people; grant select on app.box to {m}",
    ),
    ("others in its own group", ANY, "grant {m} to ways_other; grant select on app.people to ways_other"),
    (
        "a sibling's children",
        ANY,
        "create table app.top (id int); alter table app.people inherit app.top; create table app.side () inherits (app.top); grant select on app.side to {m}",
    ),
    (
        "a parent without hidden columns",
        ANY,
        "create table app.top (id int); alter table app.people inherit app.top; grant select on app.top to {m}",
    ),
    (
        "create in its own schema of its path",
        ANY,
        "alter role {m} set search_path = mine, app; create schema {m} authorization ways_other; grant create on schema {m} to {m}",
    ),
    ("a language that is trusted", ANY, "grant usage on language plpgsql to {m}"),
    ("a parameter that runs nothing", ANY, "grant set on parameter log_statement to {m}"),
    ("a membership of no use", 16..=99, "grant ways_owner to {m} with inherit false, set false"),
    ("maintenance where no rows are hidden", 17..=99, "grant maintain on app.people to {m}"),
];
