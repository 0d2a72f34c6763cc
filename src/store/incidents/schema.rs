//! Tables of incidents; nobody's but the control account's.

/// In the order in which they are made, each with why it is there.
pub(in crate::store) const TABLES: &[(&str, &str)] = &[
    (
        "incidents: what alerts became, and what people have done about it",
        "create table pgveil.incidents (\n\
         id int8 generated always as identity primary key,\n\
         deployment text not null, actor text not null, database text not null,\n\
         rules text[] not null, severity text not null check (severity in ('low', 'medium', 'high', 'critical')),\n\
         signals int8 not null, first_at timestamptz not null, last_at timestamptz not null,\n\
         since timestamptz not null, detected_at timestamptz not null, aware_at timestamptz, contained_at timestamptz,\n\
         notified_at timestamptz, subjects_notified_at timestamptz, closed_at timestamptz,\n\
         verdict text not null default 'open' check (verdict in ('open', 'false_positive', 'benign', 'incident')),\n\
         owner text, root_cause text, delay_reasons text, notes text, drill boolean not null default false);\n\
         create index incidents_open on pgveil.incidents (deployment, actor, database) where closed_at is null;\n\
         revoke all on pgveil.incidents from public",
    ),
    (
        "what an incident's alerts were, counted by rule and version of the rules",
        "create table pgveil.incident_signals (\n\
         incident int8 not null references pgveil.incidents, rule text not null, rules_version int8 not null,\n\
         severity text not null, signals int8 not null, first_at timestamptz not null, last_at timestamptz not null,\n\
         observed int8 not null, threshold int8 not null, window_s int8 not null, message text not null,\n\
         primary key (incident, rule, rules_version));\n\
         revoke all on pgveil.incident_signals from public",
    ),
    (
        "every change of an incident, with who made it",
        "create table pgveil.incident_history (\n\
         id int8 generated always as identity primary key, incident int8 not null references pgveil.incidents,\n\
         at timestamptz not null, by_whom text not null, change text not null, detail jsonb not null);\n\
         create index incident_history_of on pgveil.incident_history (incident, id);\n\
         revoke all on pgveil.incident_history from public",
    ),
    (
        "which is only added to",
        "create function pgveil.history_stays() returns trigger language plpgsql set search_path = pg_catalog as \
         $$begin raise exception 'the history of incidents is only added to' using errcode = '55000'; end$$;\n\
         revoke all on function pgveil.history_stays() from public;\n\
         create trigger history_stays before update or delete or truncate on pgveil.incident_history \
         for each statement execute function pgveil.history_stays()",
    ),
];
