//! pgveil's own tables, as migrations: numbered, in order, each run once by `pgveil apply`.
//!
//! In: the version that a database has. Out: SQL. Never: a migration changed after a release (a further one is added), a
//! right for PUBLIC, a column that could hold a value of somebody's data.

/// One step from a version to the next.
#[derive(Clone, Copy, Debug)]
pub struct Migration {
    /// From 1, no gaps.
    pub version: i32,
    /// Statements, each with why it is there.
    pub statements: &'static [(&'static str, &'static str)],
}

/// All of them, in order.
pub const MIGRATIONS: &[Migration] = &[
    Migration { version: 1, statements: ACCESS_LOG },
    Migration { version: 2, statements: super::incidents::schema::TABLES },
];

/// What this pgveil reads and writes.
pub const VERSION: i32 = MIGRATIONS.len() as i32;

/// The version that a database has; run only where the table is.
pub(super) const NEWEST: &str = "select coalesce(max(version), 0) from pgveil.schema_version";

/// Whether it is.
pub(super) const THERE: &str = "select to_regclass('pgveil.schema_version') is not null";

const VERSIONS: (&str, &str) = (
    "which of pgveil's own tables are here",
    "create table pgveil.schema_version (version int4 primary key, applied_at timestamptz not null default now());\n\
     revoke all on pgveil.schema_version from public",
);

/// The access log as shipped. What is asked for by person or by time has its index; nothing else does.
const ACCESS_LOG: &[(&str, &str)] = &[
    (
        "every access log that is shipped here, and how far: what counts is this row, in one transaction with the records",
        "create table pgveil.shipped (\n\
         log int4 generated always as identity primary key,\n\
         deployment text not null, instance uuid not null,\n\
         seq int8 not null default 0, hash bytea not null default '\\x0000000000000000000000000000000000000000000000000000000000000000',\n\
         events int8 not null default 0,\n\
         registered_at timestamptz not null default now(), shipped_at timestamptz,\n\
         unique (deployment, instance));\n\
         revoke all on pgveil.shipped from public",
    ),
    (
        "records of a log that were not there any more, or not as they were written, when their turn came",
        "create table pgveil.ship_gaps (\n\
         log int4 not null references pgveil.shipped, first_seq int8 not null, last_seq int8 not null,\n\
         found_at timestamptz not null default now(), primary key (log, first_seq));\n\
         revoke all on pgveil.ship_gaps from public",
    ),
    (
        "the access log, one row for each event, a partition for each month",
        "create table pgveil.access_log (\n\
         log int4 not null, seq int8 not null, at timestamptz not null, kind text not null,\n\
         connection int8 not null, statement int8 not null,\n\
         role text, database text, auth text, certificate text, application text, client inet,\n\
         purpose text, purpose_by text, person text, person_by text, trace text, rules_version int8 not null,\n\
         fingerprint text, text text, access text not null, touches jsonb, touches_unknown boolean not null,\n\
         observed boolean not null, would jsonb, rows int8 not null,\n\
         subjects int4 not null, unknown_rows int8 not null, more_subjects int8 not null, canaries int8 not null,\n\
         sqlstate text, code text, duration_us int8 not null, alert jsonb, note text, hash bytea not null,\n\
         primary key (at, log, seq)) partition by range (at);\n\
         create index access_log_starts on pgveil.access_log (at) where kind = 'start';\n\
         revoke all on pgveil.access_log from public",
    ),
    (
        "whose data it was: who read somebody's data is one look into this key",
        "create table pgveil.access_subjects (\n\
         pseudonym uuid not null, at timestamptz not null, log int4 not null, seq int8 not null,\n\
         primary key (pseudonym, at, log, seq)) partition by range (at);\n\
         revoke all on pgveil.access_subjects from public",
    ),
    (
        "rows of which the log does not know whose they were, added up by the hour",
        "create table pgveil.access_unknown (\n\
         hour timestamptz not null, relations text[] not null, log int4 not null,\n\
         events int8 not null, rows int8 not null, more_subjects int8 not null,\n\
         primary key (hour, relations, log));\n\
         revoke all on pgveil.access_unknown from public",
    ),
    (
        "the policy's columns, for whoever reads the log",
        "create table pgveil.classified (\n\
         relation text not null, column_name text not null, level text not null, data_type text, subject_kind text,\n\
         primary key (relation, column_name));\n\
         revoke all on pgveil.classified from public",
    ),
    (
        "the same log as rows of person, accessor, kind of data",
        "create view pgveil.data_access_logs as select \
         substr(encode(sha256(convert_to(concat_ws('/', l.log, l.seq, s.pseudonym), 'UTF8')), 'hex'), 1, 32)::uuid as id,\n\
         s.pseudonym as user_id, l.role as accessor_id,\n\
         (select string_agg(distinct c.data_type, ',') from jsonb_to_recordset(l.touches) as t (relation text, \"column\" text)\n\
         join pgveil.classified c on c.relation = t.relation and c.column_name = t.\"column\") as data_type,\n\
         l.access as access_type, l.at as \"timestamp\", host(l.client) as ip_address, l.application as user_agent, l.purpose\n\
         from pgveil.access_log l\n\
         left join pgveil.access_subjects s on s.at = l.at and s.log = l.log and s.seq = l.seq\n\
         where l.kind = 'statement' and (l.rows > 0 or l.sqlstate is null) and (l.touches is not null or l.touches_unknown);\n\
         revoke all on pgveil.data_access_logs from public",
    ),
];

/// What takes a database from that version to this pgveil's, as (why, SQL).
pub(super) fn pending(version: Option<i32>) -> Vec<(String, String)> {
    let mut statements = Vec::new();
    if version.is_none() {
        statements.push((VERSIONS.0.to_owned(), VERSIONS.1.to_owned()));
    }
    for migration in MIGRATIONS.iter().filter(|migration| migration.version > version.unwrap_or(0)) {
        statements.extend(migration.statements.iter().map(|(why, sql)| ((*why).to_owned(), (*sql).to_owned())));
        let number = migration.version;
        let sql = format!("insert into pgveil.schema_version (version) values ({number})");
        statements.push((format!("pgveil's own tables are of version {number}"), sql));
    }
    statements
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn migrations_are_numbered_and_run_once() {
        assert!(MIGRATIONS.iter().map(|m| m.version).eq(1..=VERSION));
        assert_eq!(pending(Some(VERSION)), []);
        let all = pending(None);
        assert!(all[0].1.starts_with("create table pgveil.schema_version"));
        assert_eq!(all[1..], pending(Some(0)));
        assert!(all.iter().all(|(why, _)| !why.contains('\n')));
    }

    #[test]
    fn nothing_of_ours_is_public() {
        for (_, sql) in pending(None) {
            for made in ["create table ", "create view "] {
                let Some(rest) = sql.strip_prefix(made) else { continue };
                let name = rest.split_whitespace().next().unwrap();
                assert!(sql.ends_with(&format!("revoke all on {name} from public")), "{sql}");
            }
        }
    }
}
