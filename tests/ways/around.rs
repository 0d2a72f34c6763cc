//! Ways through what will be made, where names are found, code, foreign data and the system's own objects.

use pgveil::catalog::ways::WayKind;

use super::cases::Closes::{ByAPerson, ForItAlone, ForOthersToo};
use super::cases::{Case, case};

/// In that order.
pub const CASES: &[Case] = &[
    // What will be.
    case(
        "default privileges in its schema",
        &[WayKind::DefaultAcl],
        ForItAlone,
        "grant create on schema app to ways_owner; \
         alter default privileges for role ways_owner in schema app grant select on tables to {m}",
        "reset session authorization; set local role ways_owner; create table fresh as select ssn from people; \
         reset role; set local session authorization {m}; select ssn from fresh",
    ),
    case(
        "default privileges for everybody",
        &[WayKind::DefaultAcl],
        ForOthersToo,
        "grant create on schema app to ways_owner; \
         alter default privileges for role ways_owner grant select, insert on tables to public",
        "reset session authorization; set local role ways_owner; create table fresh as select ssn from people; \
         reset role; set local session authorization {m}; select ssn from fresh",
    ),
    // Where names are found.
    case(
        "create in public",
        &[WayKind::CreateInSchema],
        ForOthersToo,
        "grant create on schema public to public",
        "create table public.people as select 1 as ssn; reset session authorization; set local search_path = public, app; \
         insert into people values (2); set local session authorization {m}; \
         select 'bluebird' from public.people where ssn = 2",
    ),
    case(
        "create in the table's schema",
        &[WayKind::CreateInSchema],
        ForItAlone,
        "grant create on schema app to {m}",
        "create function upper(int) returns text language sql as 'select null::text'; select 'bluebird'",
    ),
    case(
        "create in the lens",
        &[WayKind::CreateInSchema],
        ForItAlone,
        "grant create on schema pgveil_lens_x to {m}",
        "create table pgveil_lens_x.more (x int); select 'bluebird'",
    ),
    case(
        "create in a schema of its path",
        &[WayKind::CreateInSchema],
        ForItAlone,
        "create schema \"Shared, all\"; grant create on schema \"Shared, all\" to ways_group; grant ways_group to {m}; \
         alter role {m} set search_path = app, \"Shared, all\"",
        "create table \"Shared, all\".people (x int); select 'bluebird'",
    ),
    case(
        "create in a schema of another's path",
        &[WayKind::CreateInSchema],
        ForItAlone,
        "create schema shared; grant create on schema shared to {m}; alter role ways_other set search_path = shared, app",
        "create table shared.people (x int); select 'bluebird'",
    ),
    case(
        "create in a schema named like another user",
        &[WayKind::CreateInSchema],
        ForItAlone,
        "create schema ways_other; grant create on schema ways_other to {m}",
        "create table ways_other.people (x int); select 'bluebird'",
    ),
    case(
        "owns a schema of the database's path",
        &[WayKind::SchemaOwner],
        ByAPerson,
        "alter database ways_found set search_path = app, mine",
        "create table mine.people (x int); select 'bluebird'",
    ),
    case(
        "a write to pgveil's own tables",
        &[WayKind::Write],
        ForItAlone,
        "create schema pgveil; grant usage on schema pgveil to public; create table pgveil.purposes (purpose text); \
         grant select on pgveil.purposes to public; grant insert on pgveil.purposes to {m}",
        "insert into pgveil.purposes values ('bluebird'); select * from pgveil.purposes",
    ),
    case(
        "create in the database",
        &[WayKind::CreateInDatabase],
        ForItAlone,
        "grant create on database ways_found to {m}",
        "create schema ways_owner; grant usage on schema ways_owner to public; \
         create table ways_owner.people (id int, nick text, ssn text); grant insert on ways_owner.people to public; \
         reset session authorization; set local role ways_owner; set local search_path = \"$user\", app; \
         insert into people values (99, 'x', 'bluebird 99'); reset role; set local session authorization {m}; \
         select ssn from ways_owner.people",
    ),
    // Code with others' rights.
    case(
        "a definer's function, by PUBLIC as functions are",
        &[WayKind::DefinerFunction],
        ForOthersToo,
        "create function app.all_ssn() returns setof text language sql security definer as 'select ssn from app.people'",
        "select * from all_ssn()",
    ),
    case(
        "a definer's function with odd names",
        &[WayKind::DefinerFunction],
        ForItAlone,
        "create type app.\"T\"\"t\" as enum ('x'); \
         create function app.\"All; ssn\"(\"in\" app.\"T\"\"t\" default 'x', variadic text[] default '{}') returns setof text \
           language sql security definer as 'select ssn from app.people'; \
         revoke execute on function app.\"All; ssn\"(app.\"T\"\"t\", text[]) from public; \
         grant execute on function app.\"All; ssn\"(app.\"T\"\"t\", text[]) to {m}",
        "select * from \"All; ssn\"()",
    ),
    case(
        "a definer's procedure and its overload, by a group",
        &[WayKind::DefinerFunction],
        ForItAlone,
        "create procedure app.hand_out() language sql security definer as 'grant select on app.people to public'; \
         create procedure app.hand_out(int) language sql security definer as 'grant select on app.people to public'; \
         revoke execute on procedure app.hand_out(), app.hand_out(int) from public; \
         grant execute on procedure app.hand_out(), app.hand_out(int) to ways_group; grant ways_group to {m}",
        "call hand_out(); select ssn from people",
    ),
    case(
        "a function of the server's files",
        &[WayKind::SystemFunction],
        ForItAlone,
        "grant execute on function pg_read_file(text) to {m}",
        "select 'bluebird' where pg_read_file('PG_VERSION') is not null",
    ),
    case(
        "an untrusted language marked trusted",
        &[WayKind::UntrustedLanguage],
        ForOthersToo,
        "create trusted language plperlu handler plpgsql_call_handler",
        "create function mine.f() returns text language plperlu as 'begin return ''bluebird''; end'; select mine.f()",
    ),
    case(
        "a function in an untrusted language",
        &[WayKind::UntrustedLanguage],
        ForOthersToo,
        "create language anything handler plpgsql_call_handler; \
         create function app.f() returns text language anything as 'begin return ''bluebird''; end'",
        "select f()",
    ),
    case(
        "dblink",
        &[WayKind::RemoteFunction],
        ForOthersToo,
        "create extension dblink schema public",
        "select * from public.dblink('host=127.0.0.1 port={port} dbname=postgres user=app password={password}', \
         'select ''bluebird''') as t(x text)",
    )
    .needs("dblink"),
    // Foreign data.
    case(
        "a foreign server",
        &[WayKind::ForeignServer],
        ForItAlone,
        "create foreign data wrapper w; create server s foreign data wrapper w; grant usage on foreign server s to {m}",
        "create foreign table mine.far (x int) server s; select 'bluebird'",
    ),
    case(
        "a foreign data wrapper",
        &[WayKind::ForeignWrapper],
        ForOthersToo,
        "create foreign data wrapper w; grant usage on foreign data wrapper w to ways_other with grant option; \
         set local role ways_other; grant usage on foreign data wrapper w to {m}; reset role",
        "create server s foreign data wrapper w; create foreign table mine.far (x int) server s; select 'bluebird'",
    ),
    case(
        "a foreign table",
        &[WayKind::ForeignTable],
        ForItAlone,
        "create extension file_fdw schema public; create server s foreign data wrapper file_fdw; \
         create foreign table app.far (x text) server s options (program 'echo bluebird'); grant select on app.far to {m}",
        "select x from far",
    )
    .needs("file_fdw"),
    // The system's own.
    case(
        "statistics",
        &[WayKind::SystemCatalog],
        ForItAlone,
        "analyze app.people; grant select on pg_statistic to {m}",
        "select stavalues1::text from pg_statistic where starelid = 'people'::regclass and staattnum = 3",
    ),
    case(
        "the statistics' column",
        &[WayKind::SystemCatalog],
        ForOthersToo,
        "analyze app.people; grant select (stavalues1) on pg_statistic to public",
        "select stavalues1::text from pg_statistic",
    ),
    case(
        "alter system",
        &[WayKind::Parameter],
        ForItAlone,
        "grant alter system on parameter archive_command to {m}",
        "",
    ),
    case(
        "an event trigger's function",
        &[WayKind::EventTrigger],
        ByAPerson,
        "create function mine.ddl() returns event_trigger language plpgsql as 'begin end'; \
         alter function mine.ddl() owner to {m}; create event trigger e on ddl_command_end execute function mine.ddl()",
        "create table mine.taken (x text);
         create or replace function mine.ddl() returns event_trigger language plpgsql as \
           'begin if current_user = ''postgres'' then insert into mine.taken select ssn from app.people; end if; end';
         reset session authorization; create table app.later (x int); set local session authorization {m}; \
         select x from mine.taken",
    ),
    case(
        "replication of a published table",
        &[WayKind::Replication, WayKind::Publication],
        ForOthersToo,
        "alter role {m} replication; create publication p for table app.people",
        "",
    ),
];
