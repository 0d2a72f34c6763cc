//! Ways through what the role is and whom it can act as, what it owns, and rights on the tables, their views and rules.

use pgveil::catalog::ways::WayKind;

use super::cases::Closes::{ByAPerson, ForItAlone, ForOthersToo};
use super::cases::{Case, case};

const READ: &str = "select ssn from people";

/// In that order.
pub const CASES: &[Case] = &[
    // What the role is.
    case("superuser", &[WayKind::Superuser], ForItAlone, "alter role {m} superuser", READ),
    case(
        "may become a superuser",
        &[WayKind::Superuser],
        ForItAlone,
        "alter role ways_group superuser; alter role {m} noinherit; grant ways_group to {m}",
        "set role ways_group; select ssn from people",
    ),
    case("bypassrls", &[WayKind::BypassRls], ForItAlone, "alter role {m} bypassrls", ""),
    case(
        "bypassrls of a group",
        &[WayKind::BypassRls],
        ForItAlone,
        "alter role ways_group bypassrls; grant ways_group to {m}",
        "",
    ),
    case(
        "createrole joins any group",
        &[WayKind::CreateRole],
        ForItAlone,
        "alter role {m} createrole",
        "grant ways_owner to {m}; select ssn from people",
    )
    .until(15),
    case("createrole", &[WayKind::CreateRole], ForItAlone, "alter role {m} createrole", "").since(16),
    case("replication", &[WayKind::Replication], ForItAlone, "alter role {m} replication", ""),
    // Whom it can act as.
    case("member of the owner", &[WayKind::TableOwner], ForItAlone, "grant ways_owner to {m}", READ),
    case(
        "member of the owner who does not inherit",
        &[WayKind::TableOwner],
        ForItAlone,
        "alter role {m} noinherit; grant ways_owner to {m}",
        "set role ways_owner; select ssn from people",
    ),
    case(
        "member of the owner by a chain",
        &[WayKind::TableOwner],
        ForItAlone,
        "grant ways_owner to ways_inner; grant ways_inner to ways_group; grant ways_group to {m}",
        READ,
    ),
    case(
        "only ADMIN of the owner",
        &[WayKind::TableOwner],
        ForItAlone,
        "grant ways_owner to {m} with admin true, inherit false, set false",
        "grant ways_owner to ways_group; grant ways_owner to {m} with set true; set role ways_owner; select ssn from people",
    )
    .since(16),
    case(
        "only INHERIT of the owner, granted by somebody else",
        &[WayKind::TableOwner],
        ForItAlone,
        "grant ways_owner to ways_other with admin true; \
         grant ways_owner to {m} with inherit true, set false granted by ways_other",
        READ,
    )
    .since(16),
    case(
        "membership passed on",
        &[WayKind::TableOwner],
        ForOthersToo,
        "grant ways_owner to {m} with admin true; grant ways_owner to ways_other granted by {m}",
        READ,
    )
    .since(16),
    case(
        "member of a cleared role",
        &[WayKind::Read],
        ForItAlone,
        "grant ways_cleared to ways_group; grant ways_group to {m}",
        READ,
    ),
    case(
        "member of the lens owner",
        &[WayKind::LensOwner, WayKind::Read],
        ForItAlone,
        "grant ways_lens to {m}",
        READ,
    ),
    case("pg_read_all_data", &[WayKind::PredefinedRole], ForItAlone, "grant pg_read_all_data to {m}", READ),
    case(
        "pg_write_all_data",
        &[WayKind::PredefinedRole],
        ForItAlone,
        "grant pg_write_all_data to {m}",
        "delete from visits; select 'bluebird'",
    ),
    case(
        "pg_read_server_files",
        &[WayKind::PredefinedRole],
        ForItAlone,
        "grant pg_read_server_files to {m}",
        "create temp table t(x text); copy t from '/etc/passwd' with (delimiter e'\\x01'); select 'bluebird' from t",
    ),
    case(
        "pg_write_server_files",
        &[WayKind::PredefinedRole],
        ForItAlone,
        "grant pg_write_server_files to {m}",
        "copy (select 1) to '/dev/null'; select 'bluebird'",
    ),
    case(
        "pg_execute_server_program",
        &[WayKind::PredefinedRole],
        ForItAlone,
        "grant pg_execute_server_program to {m}",
        "create temp table t(x text); copy t from program 'echo blue''''bird'; select x from t",
    ),
    case(
        "pg_monitor",
        &[WayKind::PredefinedRole],
        ForItAlone,
        "grant pg_monitor to ways_group; grant ways_group to {m}",
        "select query from pg_stat_activity where pid <> pg_backend_pid() and query like '%of_another_session'",
    ),
    case("pg_create_subscription", &[WayKind::PredefinedRole], ForItAlone, "grant pg_create_subscription to {m}", "")
        .since(16),
    case(
        "pg_maintain where rows are hidden",
        &[WayKind::PredefinedRole],
        ForItAlone,
        "grant pg_maintain to {m}",
        "lock table visits in access exclusive mode; select 'bluebird'",
    )
    .since(17),
    case(
        "its sessions begin as another role",
        &[WayKind::RoleSetting],
        ForItAlone,
        "grant ways_group to {m}; alter role {m} in database ways_found set role = ways_group",
        "",
    ),
    case(
        "all sessions begin as another role",
        &[WayKind::RoleSetting],
        ForOthersToo,
        "grant ways_group to {m}; alter database ways_found set role = ways_group",
        "",
    ),
    // What it owns.
    case("owns the table", &[WayKind::TableOwner], ByAPerson, "alter table app.people owner to {m}", READ),
    case(
        "owns a partition",
        &[WayKind::TableOwner],
        ForOthersToo,
        "alter table app.parts_1 owner to {m}",
        "select * from parts_1",
    ),
    case(
        "owns the schema",
        &[WayKind::SchemaOwner],
        ByAPerson,
        "alter schema app owner to {m}",
        "drop table people cascade; select 'bluebird'",
    ),
    case(
        "member of the schema's owner",
        &[WayKind::SchemaOwner],
        ForItAlone,
        "grant ways_schema to {m}",
        "drop table people cascade; select 'bluebird'",
    ),
    case(
        "owns the database, and so public",
        &[WayKind::SchemaOwner, WayKind::DatabaseOwner],
        ByAPerson,
        "alter database ways_found owner to {m}",
        "create function public.lower(text) returns text language sql as 'select null::text'; select 'bluebird'",
    ),
    case("owns its lens", &[WayKind::LensOwner], ByAPerson, "alter view pgveil_lens_x.people owner to {m}", ""),
    case(
        "owns a view of it that others read",
        &[WayKind::ViewOwner],
        ByAPerson,
        "create view app.shown as select ssn from app.people; alter view app.shown owner to {m}",
        "",
    ),
    case(
        "owns a copy of it",
        &[WayKind::ViewOwner],
        ByAPerson,
        "create materialized view app.shown as select ssn from app.people; alter materialized view app.shown owner to {m}",
        "select ssn from shown",
    ),
    case(
        "owns a trigger's function",
        &[WayKind::FunctionOwner],
        ByAPerson,
        "create function mine.seen() returns trigger language plpgsql as 'begin return new; end'; \
         alter function mine.seen() owner to {m}; \
         create trigger seen before insert on app.people for each row execute function mine.seen()",
        "create table mine.taken(x text); grant insert on mine.taken to public; grant usage on schema mine to public;
         create or replace function mine.seen() returns trigger language plpgsql as \
           'begin insert into mine.taken values (new.ssn); return new; end';
         reset session authorization; insert into people values (99, 'x', 'bluebird 99'); \
         set local session authorization {m}; select x from mine.taken",
    ),
    case(
        "owns the function of a policy-like default",
        &[WayKind::FunctionOwner],
        ByAPerson,
        "create function mine.made() returns text language sql as 'select null::text'; \
         alter function mine.made() owner to {m}; alter table app.parts_1 alter secret set default mine.made()",
        "",
    ),
    case(
        "owns the function of a domain's constraint, behind an operator",
        &[WayKind::FunctionOwner],
        ByAPerson,
        "create function mine.same(text, text) returns bool immutable language plpgsql as 'begin return true; end'; \
         create operator app.=== (function = mine.same, leftarg = text, rightarg = text); \
         create domain app.number as text check (value operator(app.===) ''::text); \
         alter function mine.same(text, text) owner to {m}; alter table app.parts alter secret type app.number",
        "create table mine.taken(x text); grant insert on mine.taken to public; grant usage on schema mine to public;
         create or replace function mine.same(text, text) returns bool volatile language plpgsql as \
           'begin insert into mine.taken values ($1); return true; end';
         reset session authorization; insert into parts values (1, 'bluebird again'); \
         set local session authorization {m}; select x from mine.taken",
    ),
    case(
        "owns a hidden column's domain",
        &[WayKind::TypeOwner],
        ForOthersToo,
        "create domain app.number as text; alter domain app.number owner to {m}; \
         alter table app.people alter ssn type app.number",
        "create table mine.taken(x text);
         create function mine.leak(x text) returns bool language plpgsql as \
           'begin insert into mine.taken values (x); return true; end';
         alter domain app.number add check (mine.leak(value)); select x from mine.taken",
    ),
    // Rights on the table and its family.
    case("select", &[WayKind::Read], ForItAlone, "grant select on app.people to {m}", READ),
    case("select by PUBLIC", &[WayKind::Read], ForOthersToo, "grant select on app.people to public", READ),
    case(
        "select by a group",
        &[WayKind::Read],
        ForItAlone,
        "grant select on app.people to ways_group; grant ways_group to {m}",
        READ,
    ),
    case(
        "select granted by another than the owner",
        &[WayKind::Read],
        ForOthersToo,
        "grant select on app.people to ways_other with grant option; set local role ways_other; \
         grant select on app.people to {m}; reset role",
        READ,
    ),
    case(
        "select passed on",
        &[WayKind::Read],
        ForOthersToo,
        "grant select on app.people to {m} with grant option; set local role {m}; \
         grant select on app.people to ways_other; reset role",
        READ,
    ),
    case("select of a column", &[WayKind::ReadColumn], ForItAlone, "grant select (id, ssn) on app.people to {m}", READ),
    case(
        "select of a column by PUBLIC",
        &[WayKind::ReadColumn],
        ForOthersToo,
        "grant select (ssn) on app.people to public",
        READ,
    ),
    case(
        "select of any column where rows are hidden",
        &[WayKind::ReadColumn],
        ForItAlone,
        "grant select (id) on app.visits to {m}",
        "select 'bluebird' from visits where id = 7",
    ),
    case(
        "select on a partition",
        &[WayKind::Read],
        ForItAlone,
        "grant select on app.parts_1 to {m}",
        "select secret from parts_1",
    ),
    case(
        "select on a partition that has its columns in another order",
        &[WayKind::ReadColumn],
        ForItAlone,
        "create table app.parts_2 (gone int, secret text, k int); alter table app.parts_2 drop gone; \
         alter table app.parts attach partition app.parts_2 for values in (2); alter table app.parts_2 owner to ways_owner; \
         insert into app.parts values (2, 'bluebird'); grant select (secret) on app.parts_2 to {m}",
        "select secret from parts_2",
    ),
    case(
        "select on a parent",
        &[WayKind::Read],
        ForItAlone,
        "create table app.everybody (ssn text); alter table app.people inherit app.everybody; \
         grant select on app.everybody to {m}",
        "select ssn from everybody",
    ),
    case(
        "delete where rows are hidden",
        &[WayKind::Write],
        ForItAlone,
        "grant delete, truncate on app.visits to {m}",
        "delete from visits; select 'bluebird'",
    ),
    case(
        "update of a hidden column",
        &[WayKind::Write],
        ForItAlone,
        "grant update (ssn) on app.people to {m}",
        "update people set ssn = null; select 'bluebird'",
    ),
    case(
        "references",
        &[WayKind::References],
        ForItAlone,
        "grant references (ssn) on app.people to {m}",
        "create table mine.probe (ssn text references people (ssn)); \
         insert into mine.probe values ('bluebird 3'); select ssn from mine.probe",
    ),
    case(
        "trigger",
        &[WayKind::Trigger],
        ForItAlone,
        "grant trigger on app.people to {m}",
        "create table mine.taken(x text); grant insert on mine.taken to public; grant usage on schema mine to public;
         create function mine.seen() returns trigger language plpgsql as \
           'begin insert into mine.taken values (new.ssn); return new; end';
         create trigger seen before insert on people for each row execute function mine.seen();
         reset session authorization; insert into people values (99, 'x', 'bluebird 99'); \
         set local session authorization {m}; select x from mine.taken",
    ),
    case(
        "trigger on the lens",
        &[WayKind::Trigger],
        ForItAlone,
        "grant trigger on pgveil_lens_x.people to {m}",
        "create function mine.seen() returns trigger language plpgsql as 'begin return null; end';
         create trigger seen instead of delete on pgveil_lens_x.people for each row execute function mine.seen();
         select 'bluebird'",
    ),
    case(
        "maintain where rows are hidden",
        &[WayKind::Maintain],
        ForItAlone,
        "grant maintain on app.visits to {m}",
        "lock table visits in access exclusive mode; select 'bluebird'",
    )
    .since(17),
    // Views, rules, keys, policies.
    case(
        "a view",
        &[WayKind::View],
        ForItAlone,
        "create view app.shown as select ssn from app.people; grant select on app.shown to {m}",
        "select ssn from shown",
    ),
    case(
        "a view of a view of a view",
        &[WayKind::View],
        ForOthersToo,
        "create view app.first as select id, ssn from app.people; create view app.second as select ssn from app.first; \
         create view app.third as select upper(ssn), ssn from app.second; grant select (ssn) on app.third to public",
        "select ssn from third",
    ),
    case(
        "a view of a copy of a view with the reader's rights",
        &[WayKind::View],
        ForItAlone,
        "create view app.first with (security_invoker) as select id, ssn from app.people; \
         create materialized view app.second as select ssn from app.first; \
         create view app.third as select ssn from app.second; grant select on app.third to {m}",
        "select ssn from third",
    ),
    case(
        "a view that reads it twice, once with the reader's rights",
        &[WayKind::View],
        ForItAlone,
        "create view app.first with (security_invoker) as select id, ssn from app.people; \
         create view app.second as select id, ssn from app.people; \
         create view app.third as select ssn from app.first union all select ssn from app.second; \
         create view app.fourth as select ssn from app.second; grant select on app.third, app.fourth to {m}",
        "select ssn from fourth",
    ),
    case(
        "a view of whole rows",
        &[WayKind::View],
        ForItAlone,
        "create view app.shown as select p.id, p as person from app.people p; grant select on app.shown to {m}",
        "select person::text from shown",
    ),
    case(
        "a view where rows are hidden",
        &[WayKind::View],
        ForItAlone,
        "create view app.shown as select count(*) from app.visits; grant select on app.shown to {m}",
        "select 'bluebird' from shown where count = 1",
    ),
    case(
        "another role's lens",
        &[WayKind::View],
        ForItAlone,
        "create schema pgveil_lens_y; create view pgveil_lens_y.people with (security_barrier) as select * from app.people; \
         grant usage on schema pgveil_lens_y to {m}; grant select on pgveil_lens_y.people to {m}",
        "select ssn from pgveil_lens_y.people",
    ),
    case(
        "a materialised view",
        &[WayKind::MaterializedView],
        ForItAlone,
        "create materialized view app.shown as select ssn from app.people; grant select on app.shown to {m}",
        "select ssn from shown",
    ),
    case(
        "a view in the lens that is not the lens's",
        &[WayKind::View],
        ForItAlone,
        "create view pgveil_lens_x.more as select ssn from app.people; grant select on pgveil_lens_x.more to {m}",
        "select ssn from pgveil_lens_x.more",
    ),
    case(
        "a rule",
        &[WayKind::Rule],
        ForItAlone,
        "create table app.box (x int); create table app.outbox (x text); \
         create rule r as on insert to app.box do also insert into app.outbox select ssn from app.people; \
         grant insert on app.box to {m}; grant select on app.outbox to {m}",
        "insert into box values (1); select x from outbox",
    ),
    case(
        "a foreign key to hidden rows",
        &[WayKind::Existence],
        ByAPerson,
        "create table app.orders (visit int references app.visits); grant insert on app.orders to {m}",
        "insert into orders values (7); select 'bluebird'",
    ),
    case(
        "a foreign key to hidden rows, written through the lens",
        &[WayKind::Existence],
        ByAPerson,
        "alter table app.people add visit int references app.visits; \
         create view pgveil_lens_x.guests with (security_barrier) as select id, visit from app.people; \
         alter view pgveil_lens_x.guests owner to ways_lens; grant insert on app.people to ways_lens; \
         grant insert on pgveil_lens_x.guests to {m}",
        "insert into pgveil_lens_x.guests values (20, 7); select 'bluebird'",
    ),
    case(
        "a foreign key to a hidden column",
        &[WayKind::Existence],
        ByAPerson,
        "create table app.orders (ssn text references app.people (ssn)); grant insert, select on app.orders to public",
        "insert into orders values ('bluebird 3'); select ssn from orders",
    ),
    case(
        "row security for some",
        &[WayKind::RowPolicy],
        ByAPerson,
        "alter table app.visits enable row level security; create policy p on app.visits to ways_other using (true)",
        "",
    ),
];
