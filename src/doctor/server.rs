//! The server and the way to it: TLS, the clock, what its log would print.
//!
//! In: settings as the server has them, TLS as configured. Out: checks. Never: a line of the server's log.

use tokio_postgres::Client;

use super::{Check, ask};
use crate::clock::Now;
use crate::policy::rules::Rules;

/// More than this is worth a look, microseconds.
const CLOCK_US_MAX: i64 = 2_000_000;

/// One connection as configured.
#[derive(Clone, Debug, Default)]
pub struct Leg {
    /// What is configured, in the configuration's words; `None`: no TLS.
    pub tls: Option<String>,
    /// Both ends are on this machine.
    pub local: bool,
    /// It is certain with whom we speak, and that it is encrypted.
    pub certain: bool,
}

/// The connections as configured.
#[derive(Clone, Debug, Default)]
pub struct Legs {
    /// From clients.
    pub clients: Leg,
    /// To the server, for clients.
    pub upstream: Leg,
    /// To the server, for pgveil itself.
    pub control: Leg,
}

const SSL: &str =
    "select s.ssl, coalesce(s.version, ''), coalesce(s.cipher, '') from pg_stat_ssl s where s.pid = pg_backend_pid()";

/// TLS as configured, and on this connection as agreed.
pub(super) async fn tls(client: &Client, legs: &Legs, found: &mut Vec<Check>) {
    for (check, name, leg) in [
        ("tls_clients", "clients → pgveil", &legs.clients),
        ("tls_upstream", "pgveil → server", &legs.upstream),
        ("tls_control", "control → server", &legs.control),
    ] {
        found.push(match &leg.tls {
            Some(tls) if leg.certain || leg.local => Check::ok(check, format!("{name}: {tls}")),
            Some(tls) => {
                let message = format!("{name}: {tls}; who is in between can read along");
                let advice = "[listen] tls required = true towards clients, mode = \"verify-full\" towards the server";
                Check::warning(check, message).todo_by_hand(advice)
            }
            None if leg.local => Check::ok(check, format!("{name}: no TLS, and it does not leave this machine")),
            None => {
                let check = Check::warning(check, format!("{name}: no TLS, over a network"));
                check.todo_by_hand("set tls in pgveil.toml")
            }
        });
    }
    match ask(client, SSL, &[]).await {
        Ok(rows) => {
            let Some(row) = rows.first() else { return };
            let message = if row.get(0) {
                format!("agreed on the control connection: {} {}", row.get::<_, String>(1), row.get::<_, String>(2))
            } else {
                "the control connection is in clear".to_owned()
            };
            let fine = row.get(0) || legs.control.local || legs.control.tls.is_none();
            found.push(if fine { Check::ok("tls_agreed", message) } else { Check::warning("tls_agreed", message) });
        }
        Err(error) => found.push(Check::warning("tls_agreed", format!("pg_stat_ssl was not read: {}", error.said))),
    }
}

/// The server's clock against ours.
pub(super) async fn clock(client: &Client, found: &mut Vec<Check>) {
    let before = Now::read();
    let asked = ask(client, "select (extract(epoch from clock_timestamp()) * 1000000)::int8", &[]).await;
    let after = Now::read();
    let theirs: Option<i64> = asked.ok().and_then(|rows| rows.first().map(|row| row.get(0)));
    let Some(theirs) = theirs else {
        return found.push(Check::warning("clock", "the server did not say what time it is"));
    };
    let off = theirs - i64::midpoint(before.unix_us, after.unix_us);
    let uncertain = (after.unix_us - before.unix_us).abs();
    found.push(if off.abs() <= CLOCK_US_MAX + uncertain {
        Check::ok("clock", format!("the server's differs from ours by {} ms", off.abs() / 1_000))
    } else {
        let message = format!("the server's clock differs from ours by {} s", off.abs() / 1_000_000);
        Check::warning("clock", message).todo_by_hand("let NTP set both clocks: logs and windows go by ours")
    });
}

/// What makes the server's log, or its views, hold values; and what they would have to be.
const PRINTS: &str = "select name, setting from pg_settings where \
     name = 'log_statement' and setting in ('mod', 'all') \
     or name in ('log_min_duration_statement', 'log_min_duration_sample', 'auto_explain.log_min_duration') \
       and setting <> '-1' \
     or name = 'log_transaction_sample_rate' and setting <> '0' \
     or name = 'log_parameter_max_length_on_error' and setting <> '0' \
     or name = 'log_min_error_statement' and setting not in ('fatal', 'panic') \
     or name in ('debug_print_parse', 'debug_print_rewritten', 'debug_print_plan') and setting = 'on' \
     or name = 'track_activities' and setting = 'on' order by 1";

const LENGTH: &str = "select setting from pg_settings where name = 'log_parameter_max_length'";

const OVERRIDES: &str = "select distinct split_part(c, '=', 1) from pg_db_role_setting s, unnest(s.setconfig) as c \
     where s.setdatabase in (0, (select oid from pg_database where datname = current_database())) \
       and (c like 'log\\_%' or c like 'auto\\_explain.%' or c like 'debug\\_print%') order by 1";

/// Values of plaintext protected columns that the server would write down.
pub(super) async fn logging(client: &Client, rules: &Rules, found: &mut Vec<Check>) {
    let plain = |oid: &u32, attnum: &i16| !rules.sealed.contains_key(&(*oid, *attnum));
    let any = rules.tables.values().any(|table| table.levels.keys().any(|attnum| plain(&table.oid, attnum)));
    if !any {
        return found.push(Check::ok("server_log", "no protected column is in plaintext, so no log can print one"));
    }
    let (prints, overrides) = match (ask(client, PRINTS, &[]).await, ask(client, OVERRIDES, &[]).await) {
        (Ok(prints), Ok(overrides)) => (prints, overrides),
        (Err(error), _) | (_, Err(error)) => {
            return found.push(Check::warning("server_log", format!("settings were not read: {}", error.said)));
        }
    };
    let length = ask(client, LENGTH, &[]).await.ok().and_then(|rows| rows.first().map(|row| row.get::<_, String>(0)));
    let names: Vec<String> = prints.iter().map(|row| row.get(0)).collect();
    let statements =
        ["log_statement", "log_min_duration_statement", "log_min_duration_sample", "log_transaction_sample_rate"];
    let prints_statements = names.iter().any(|name| statements.contains(&&**name));
    for row in &prints {
        let (name, setting): (String, String) = (row.get(0), row.get(1));
        let off = match &*name {
            "log_statement" => "'ddl'",
            "log_min_error_statement" => "'panic'",
            "debug_print_parse" | "debug_print_rewritten" | "debug_print_plan" => "off",
            "log_transaction_sample_rate" | "log_parameter_max_length_on_error" => "0",
            _ => "-1",
        };
        let what = match &*name {
            "track_activities" => {
                "running statements are shown to their own role, superusers and members of pg_read_all_stats"
            }
            "log_min_error_statement" => "statements that fail are logged with their literals",
            _ => "the server's log holds literals of plaintext columns",
        };
        let message = format!("{name} = {setting}: {what}");
        if name == "track_activities" {
            found.push(Check::ok("server_log", message));
            continue;
        }
        let check = Check::warning("server_log", message).sql(format!("alter system set {name} = {off}"));
        found.push(check.sql("select pg_catalog.pg_reload_conf()"));
    }
    if prints_statements && length.as_deref().is_some_and(|length| length != "0") {
        let message = "log_parameter_max_length is not 0: what statements are logged are logged with their parameters";
        let sql = "alter system set log_parameter_max_length = 0";
        found.push(Check::warning("server_log", message).sql(sql).sql("select pg_catalog.pg_reload_conf()"));
    }
    if !overrides.is_empty() {
        let names: Vec<String> = overrides.iter().map(|row| row.get(0)).collect();
        let message = format!("set for a role or database of its own: {}", super::few(&names));
        found.push(Check::warning("server_log", message).sql("select * from pg_catalog.pg_db_role_setting"));
    }
    if names.iter().all(|name| name == "track_activities") && overrides.is_empty() {
        found.push(Check::ok("server_log", "prints no statement and no parameter"));
    }
}
