//! What `SHOW` shows, as rows.
//!
//! In: rules, keyring, roster, metrics' text. Out: an [`Answer`]. Never: a key, a secret of the configuration, a value.

use std::sync::Arc;

use jiff::Timestamp;

use super::command::{ACTIONS, Show};
use crate::crypto::{Keyring, SealMode};
use crate::policy::rules::{Mode, Rules, SealedColumn};
use crate::relay::{Answer, Line};

/// A cell.
type Cell = Option<String>;

fn answer(columns: &[(&'static str, bool)], rows: Vec<Vec<Cell>>) -> Answer {
    Answer { columns: columns.to_vec(), rows, tag: "SHOW" }
}

fn text(shown: impl ToString) -> Cell {
    Some(shown.to_string())
}

fn at(unix_us: i64) -> Cell {
    Timestamp::from_microsecond(unix_us).ok().map(|at| format!("{at:.0}"))
}

pub(super) fn help() -> Answer {
    let shows = Show::ALL.iter().map(|(_, word, what)| vec![text(format!("SHOW {word}")), text(what)]);
    let actions = ACTIONS.iter().map(|(name, what)| vec![text(name), text(what)]);
    answer(&[("command", false), ("what", false)], shows.chain(actions).collect())
}

pub(super) fn version() -> Answer {
    answer(&[("version", false)], vec![vec![text(concat!("pgveil ", env!("CARGO_PKG_VERSION")))]])
}

/// Lines of Prometheus' text format: `name{labels} value`.
pub(super) fn stats(metrics: &str) -> Answer {
    let rows = metrics.lines().filter_map(series).map(|(name, labels, value)| {
        let labels = Some(labels.to_owned()).filter(|labels| !labels.is_empty());
        vec![text(name), labels, text(value)]
    });
    answer(&[("metric", false), ("labels", false), ("value", false)], rows.collect())
}

fn series(line: &str) -> Option<(&str, &str, &str)> {
    let (series, value) = line.rsplit_once(' ').filter(|_| !line.starts_with('#'))?;
    let (name, labels) = series.split_once('{').unwrap_or((series, ""));
    (!name.ends_with("_bucket")).then(|| (name, labels.trim_end_matches('}'), value))
}

pub(super) fn sessions(lines: Vec<Line>, now_us: i64) -> Answer {
    let columns = [
        ("session", true),
        ("role", false),
        ("database", false),
        ("client", false),
        ("application", false),
        ("tls", false),
        ("state", false),
        ("since", false),
        ("age_s", true),
    ];
    let rows = lines.into_iter().map(|line| {
        vec![
            text(line.number),
            text(&line.actor.role),
            text(&line.actor.database),
            line.actor.client.map(|address| address.to_string()),
            text(&line.actor.application),
            text(if line.tls { "on" } else { "off" }),
            text(line.state.word()),
            at(line.since_us),
            text((now_us - line.since_us).max(0) / 1_000_000),
        ]
    });
    answer(&columns, rows.collect())
}

pub(super) fn rules(rules: &Rules) -> Answer {
    let columns = [
        ("relation", false),
        ("column", false),
        ("level", false),
        ("encrypt", false),
        ("column_id", true),
        ("mask", false),
        ("subject", false),
    ];
    let mut rows = Vec::new();
    for table in rules.tables.values() {
        let Some(relation) = rules.schema.relation(table.oid) else { continue };
        for column in &relation.columns {
            let Some(level) = table.levels.get(&column.attnum) else { continue };
            let sealed = rules.sealed.get(&(table.oid, column.attnum));
            let own = |sealed: &Arc<SealedColumn>| (mode(sealed.mode), sealed.id, format!("{:?}", sealed.mask));
            let (encrypt, id, mask) = sealed
                .map(own)
                .map_or((None, None, None), |(mode, id, mask)| (text(mode), text(id), text(mask.to_lowercase())));
            let subject = table.subject.as_ref().filter(|subject| subject.attnum == column.attnum);
            let subject = subject.map(|subject| subject.kind.to_string());
            let level = text(format!("{level:?}").to_lowercase());
            rows.push(vec![text(&table.name), text(&column.name), level, encrypt, id, mask, subject]);
        }
    }
    rows.sort();
    answer(&columns, rows)
}

fn mode(mode: Mode) -> &'static str {
    match mode {
        Mode::Randomized => "randomized",
        Mode::Deterministic => "deterministic",
    }
}

pub(super) fn policy(rules: &Rules, ready: bool, read_us: i64) -> Answer {
    let columns = [
        ("rules_version", true),
        ("mode", false),
        ("database", false),
        ("tables", true),
        ("sealed_columns", true),
        ("roles", true),
        ("sound", false),
        ("catalog_read", false),
    ];
    let row = vec![
        text(rules.version),
        text(if rules.observing() { "observe" } else { "enforce" }),
        text(&rules.schema.database),
        text(rules.tables.len()),
        text(rules.by_id.len()),
        text(rules.class_of.len()),
        text(if ready { "yes" } else { "no" }),
        at(read_us),
    ];
    answer(&columns, vec![row])
}

pub(super) fn keys(ring: &Keyring, now_us: i64) -> Answer {
    let columns = [
        ("column_id", true),
        ("database", false),
        ("column", false),
        ("mode", false),
        ("keys", true),
        ("newest_key", true),
        ("created", false),
        ("age_days", true),
        ("retired", false),
    ];
    let rows = ring.columns().map(|info| {
        vec![
            text(info.column.id),
            text(&info.column.database),
            text(&info.column.column),
            text(match info.column.mode {
                SealMode::Randomized => "randomized",
                SealMode::Deterministic => "deterministic",
            }),
            text(info.keys),
            text(info.newest_key),
            at(info.newest_key_unix_s.saturating_mul(1_000_000)),
            text((now_us / 1_000_000 - info.newest_key_unix_s).max(0) / 86_400),
            text(if info.column.retired { "yes" } else { "no" }),
        ]
    });
    answer(&columns, rows.collect())
}

/// Names and values, one a line.
pub(super) fn pairs(pairs: impl IntoIterator<Item = (String, String)>) -> Answer {
    let rows = pairs.into_iter().map(|(name, value)| vec![Some(name), Some(value)]);
    answer(&[("name", false), ("value", false)], rows.collect())
}

/// What `/metrics` says of the access log.
pub(super) fn audit(writable: bool, settings: &[(String, String)], metrics: &str) -> Answer {
    let told = |name: &str| {
        let found = metrics.lines().filter_map(series).find(|(series, ..)| *series == name);
        (name.trim_start_matches("pgveil_audit_").to_owned(), found.map_or("0", |(.., value)| value).to_owned())
    };
    let own =
        settings.iter().filter_map(|(name, value)| Some((name.strip_prefix("audit.")?.to_owned(), value.clone())));
    let counts = [
        "pgveil_audit_queue_depth",
        "pgveil_audit_records_total",
        "pgveil_audit_written_bytes_total",
        "pgveil_audit_last_fsync_timestamp_seconds",
        "pgveil_audit_errors_total",
        "pgveil_audit_anchor_errors_total",
        "pgveil_audit_intents_without_outcome",
    ];
    let state = ("writable".to_owned(), if writable { "yes" } else { "no" }.to_owned());
    pairs(std::iter::once(state).chain(own).chain(counts.map(told)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const METRICS: &str = "# HELP pgveil_x What.\n# TYPE pgveil_x counter\npgveil_x{a=\"b c\",d=\"e\"} 7\n\
        pgveil_y 1.5\npgveil_z_bucket{le=\"1\"} 3\npgveil_z_count 3\npgveil_audit_records_total 12\n";

    #[test]
    fn stats_are_the_series_without_buckets() {
        let rows = stats(METRICS).rows;
        let shown: Vec<Vec<&str>> =
            rows.iter().map(|row| row.iter().map(|cell| cell.as_deref().unwrap_or("-")).collect()).collect();
        let expected = [
            ["pgveil_x", "a=\"b c\",d=\"e\"", "7"],
            ["pgveil_y", "-", "1.5"],
            ["pgveil_z_count", "-", "3"],
            ["pgveil_audit_records_total", "-", "12"],
        ];
        assert_eq!(shown, expected);
    }

    #[test]
    fn the_log_is_told_with_its_settings() {
        let settings = [("audit.dir".to_owned(), "/log".to_owned()), ("log.level".to_owned(), "info".to_owned())];
        let rows = audit(false, &settings, METRICS).rows;
        let value = |name: &str| rows.iter().find(|row| row[0].as_deref() == Some(name)).and_then(|row| row[1].clone());
        assert_eq!(value("writable").as_deref(), Some("no"));
        assert_eq!(value("dir").as_deref(), Some("/log"));
        assert_eq!(value("records_total").as_deref(), Some("12"));
        assert_eq!(value("level"), None);
    }

    #[test]
    fn keys_are_shown_by_id_and_age() {
        let ring = Keyring::for_tests(&[1; 32], "app", &[(7, "public.users.email")]).unwrap();
        let rows = keys(&ring, 3 * 86_400 * 1_000_000).rows;
        assert_eq!(rows.len(), 1);
        assert_eq!((rows[0][0].as_deref(), rows[0][2].as_deref()), (Some("7"), Some("public.users.email")));
        assert_eq!(rows[0].len(), keys(&ring, 0).columns.len());
    }
}
