//! Which purpose a session acts for, as the database knows it: a row that the control connection writes for a backend, and
//! the question that views of a lens ask.
//!
//! In: nothing. Out: SQL. Never: a setting of the session's, which anybody could set; a row believed after its backend has
//! ended and another has its process id.

use super::ddl::Statement;

/// The table. What it says ends with the server, so nothing of it is kept across a crash.
pub(super) const TABLE: &str = "pgveil.acting";

/// The question.
pub(super) const FUNCTION: &str = "pgveil.acts_for(text)";

/// Table and function. No row: false, so that the views are empty for whoever goes past the proxy. Another purpose: an
/// error, because a transaction with an old snapshot would otherwise look empty.
pub(super) fn definitions() -> [Statement; 2] {
    [
        Statement::new(
            "what each session acts for, written by pgveil alone",
            format!(
                "create unlogged table {TABLE} (pid int4 primary key, started timestamptz not null, \
                 purpose text not null)"
            ),
        ),
        Statement::new(
            "what views of a lens ask, once for each statement",
            "create function pgveil.acts_for(purpose text) returns boolean language plpgsql stable strict \
             security definer parallel restricted set search_path = pg_catalog, pg_temp as $$ \
             declare acting text; begin \
             select a.purpose into acting from pgveil.acting a, pg_catalog.pg_stat_get_activity(pg_catalog.pg_backend_pid()) s \
             where a.pid = s.pid and a.started = s.backend_start; \
             if acting is null then return false; end if; \
             if acting <> $1 then raise exception 'the session does not act for this purpose' \
             using errcode = 'insufficient_privilege', \
             hint = 'After a change of purpose, end a transaction that began with another.'; end if; \
             return true; end $$;\n\
             grant execute on function pgveil.acts_for(text) to public",
        ),
    ]
}

/// Sessions of others show when they began only to whoever may read statistics. Needs a superuser.
pub(super) fn statistics(control: &str) -> Statement {
    Statement::new(
        "pgveil tells a session from a later one with the same process id",
        format!("grant pg_read_all_stats to {control}"),
    )
}
