#!/bin/sh
# Runs once, in the database container's first start: roles with the passwords of .env, the owner of lenses, and the
# clinic's tables.
set -eu
psql -v ON_ERROR_STOP=1 -U postgres -v control="$PGVEIL_CONTROL_PASSWORD" -v app="$APP_PASSWORD" \
    -v analyst="$ANALYST_PASSWORD" -v support="$SUPPORT_PASSWORD" <<'SQL'
create role veil login password :'control';
create role pgveil_lens nologin; -- owns the lenses; veil makes them in its name
grant pgveil_lens to veil;
create role app login password :'app';
create role analyst login password :'analyst';
create role support login password :'support';
create database medico owner veil;
\c medico
set role veil;
\i /schema.sql
SQL
