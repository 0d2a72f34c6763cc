//! `pgveil report`: the access log, added up.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Subcommand;
use indicatif::{ProgressBar, ProgressStyle};
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp};

use crate::audit::{self, Observed, Shape, Summary};
use crate::clock::Now;
use crate::config;
use crate::error::Code;
use crate::event::{Becomes, Would};

/// Arguments of `pgveil report`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    report: Report,
}

#[derive(Debug, Subcommand)]
enum Report {
    /// What enforcing the policy would change, by role and shape of statement: from what was recorded while it said
    /// mode = "observe".
    #[command(after_help = "Examples:\n  pgveil report observe\n  pgveil report observe --since P7D\n  \
        pgveil report observe --since 2026-11-20T08:00:00Z --json | jq '.shapes[] | select(.refused)'\n\n\
        Only statements that the log holds are counted; with [audit] statements = \"all\" that is every one. The log is\n\
        not checked: that does `pgveil log verify`.")]
    Observe(Observe),
}

#[derive(Debug, clap::Args)]
struct Observe {
    /// Only what was recorded since then: a period up to now such as P7D or PT12H, or a time such as
    /// 2026-11-20T08:00:00Z.
    #[arg(long, value_name = "WHEN", value_parser = since)]
    since: Option<Since>,
    /// One JSON object: since, shapes, totals, left_out.
    #[arg(long)]
    json: bool,
    /// The log's directory; the config file is then not read.
    #[arg(long)]
    dir: Option<PathBuf>,
    /// The config file, whose [audit] section names the directory.
    #[arg(long, default_value = "pgveil.toml")]
    config: PathBuf,
}

#[derive(Clone, Debug)]
pub(super) enum Since {
    Period(Box<Span>),
    Time(Timestamp),
}

/// A period up to now, or a time.
pub(super) fn since(text: &str) -> Result<Since, String> {
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(Since::Time(time));
    }
    match text.parse::<Span>() {
        Ok(span) if text.starts_with('P') && span.is_positive() => Ok(Since::Period(Box::new(span))),
        _ => Err("neither a period such as P7D nor a time such as 2026-11-20T08:00:00Z".to_owned()),
    }
}

impl Since {
    pub(super) fn before(&self, now: Timestamp) -> anyhow::Result<Timestamp> {
        match self {
            Since::Time(time) => Ok(*time),
            Since::Period(span) => Ok(now.to_zoned(TimeZone::UTC).checked_sub(**span)?.timestamp()),
        }
    }
}

pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let Report::Observe(args) = &args.report;
    let dir = match &args.dir {
        Some(dir) => dir.clone(),
        None => config::load(&args.config)?.audit.dir,
    };
    let now = Timestamp::from_microsecond(Now::read().unix_us)?;
    let since = args.since.as_ref().map(|since| since.before(now)).transpose()?;
    let summary = add_up(&dir, since)?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&json(&summary, since))?);
    } else {
        lines(&summary, &dir.display().to_string(), since).iter().for_each(|line| println!("{line}"));
    }
    Ok(ExitCode::SUCCESS)
}

/// A bar is shown for more than this, if somebody looks.
const BAR_BYTES: u64 = 16 << 20;

/// The bar moves once in this many events.
const BAR_EVERY: u64 = 4_096;

fn add_up(dir: &std::path::Path, since: Option<Timestamp>) -> anyhow::Result<Summary> {
    let since_us = since.map_or(i64::MIN, Timestamp::as_microsecond);
    let (mut events, _) = audit::events_since(dir, since_us, u64::MAX)?;
    let bar = if events.bytes() > BAR_BYTES { ProgressBar::new(events.bytes()) } else { ProgressBar::hidden() };
    bar.set_style(ProgressStyle::with_template("{bar:40} {bytes} of {total_bytes}, {eta} left")?);
    let mut observed = Observed::default();
    let mut read = 0u64;
    while let Some((seq, event)) = events.next() {
        read += 1;
        if read.is_multiple_of(BAR_EVERY) {
            bar.set_position(events.bytes_read());
        }
        if event.at_us >= since_us {
            observed.add(seq, &event);
        }
    }
    bar.finish_and_clear();
    match events.failed() {
        Some(error) => Err(error.into()),
        None => Ok(observed.summary()),
    }
}

fn time(at_us: i64) -> String {
    Timestamp::from_microsecond(at_us).map_or_else(|_| at_us.to_string(), |at| format!("{at:.0}"))
}

/// What a code of the log means; a newer version may have written one that this one does not have.
fn meaning(code: &str) -> &'static str {
    Code::ALL.iter().find(|known| known.as_str() == code).map_or("(not a code of this version)", |code| code.meaning())
}

/// The way out of a refusal.
fn way_out(would: &Would) -> &str {
    if would.until_lens { "pgveil apply --lenses" } else { would.hint.as_deref().unwrap_or("") }
}

fn json(summary: &Summary, since: Option<Timestamp>) -> serde_json::Value {
    let shape = |shape: &Shape| {
        let would = &shape.would;
        let refused = would.refused.as_ref().map(|code| {
            serde_json::json!({ "code": code, "meaning": meaning(code), "way_out": way_out(would),
                "until_lens": would.until_lens })
        });
        serde_json::json!({
            "role": shape.role, "fingerprint": shape.fingerprint, "text": shape.text, "count": shape.count,
            "first": time(shape.first_us), "last": time(shape.last_us), "refused": refused,
            "columns": would.columns, "filtered": would.filtered, "redacted": would.redacted,
        })
    };
    let shapes: Vec<_> = summary.shapes.iter().map(shape).collect();
    serde_json::json!({
        "since": since.map(|since| since.to_string()), "shapes": shapes, "totals": summary.totals,
        "left_out": summary.left_out,
    })
}

fn lines(summary: &Summary, dir: &str, since: Option<Timestamp>) -> Vec<String> {
    let mut lines: Vec<String> = summary.shapes.iter().flat_map(shape).collect();
    if summary.left_out > 0 {
        let (shown, more) = (summary.shapes.len(), summary.left_out);
        lines.push(format!("only {shown} shapes are told apart; {more} executions of others would change too"));
        lines.push(String::new());
    }
    if summary.totals.is_empty() {
        let since = since.map_or_else(String::new, |since| format!(" since {since}"));
        lines.push(format!("{dir} holds no statement that was made under mode = \"observe\"{since}"));
        return lines;
    }
    let total = |changed: u64, statements: u64, whose: &str| match changed {
        0 => format!("nothing would change: 0 of {statements} statements{whose}"),
        _ => format!("{changed} of {statements} statements{whose} would change"),
    };
    for of in &summary.totals {
        lines.push(total(of.changed, of.statements, &format!(" of {}", shown(&of.role))));
    }
    if summary.totals.len() > 1 {
        let sum = |of: fn(&audit::Total) -> u64| summary.totals.iter().map(of).sum::<u64>();
        lines.push(total(sum(|of| of.changed), sum(|of| of.statements), ""));
    }
    lines
}

/// A name or text as one line of a terminal.
fn shown(text: &str) -> String {
    text.replace(char::is_control, " ")
}

fn shape(shape: &Shape) -> Vec<String> {
    let times = if shape.count == 1 { "once" } else { "times" };
    let count = if shape.count == 1 { String::new() } else { format!("{} ", shape.count) };
    let when = match (time(shape.first_us), time(shape.last_us)) {
        (first, last) if first == last => first,
        (first, last) => format!("{first} to {last}"),
    };
    let fingerprint = if shape.fingerprint.is_empty() { String::new() } else { format!(", {}", shape.fingerprint) };
    let mut lines = vec![
        format!("{}: {count}{times}, {when}{fingerprint}", shown(&shape.role)),
        format!("  {}", shown(&shape.text)),
    ];
    let would = &shape.would;
    for (becomes, words) in Becomes::WORDS {
        let columns = would.columns_that(becomes);
        if !columns.is_empty() {
            lines.push(shown(&format!("  {words}: {}", columns.join(", "))));
        }
    }
    if !would.filtered.is_empty() {
        lines.push(shown(&format!("  rows filtered: {}", would.filtered.join(", "))));
    }
    if would.redacted {
        lines.push("  places of its error or notice in which a value can stand: taken out".to_owned());
    }
    if let Some(code) = &would.refused {
        let until = if would.until_lens { "until the role's lens is in the database, refused" } else { "refused" };
        lines.push(shown(&format!("  {until}: {code} {}", meaning(code))));
        let way_out = way_out(would);
        if !way_out.is_empty() {
            lines.push(shown(&format!("    way out: {way_out}")));
        }
    }
    lines.push(String::new());
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn since_is_a_period_or_a_time() {
        let now: Timestamp = "2026-11-22T10:00:00Z".parse().unwrap();
        let before = |text: &str| since(text).map(|since| since.before(now).unwrap().to_string());
        assert_eq!(before("P7D").unwrap(), "2026-11-15T10:00:00Z");
        assert_eq!(before("P1MT1H").unwrap(), "2026-10-22T09:00:00Z");
        assert_eq!(before("2026-11-20T08:00:00+01:00").unwrap(), "2026-11-20T07:00:00Z");
        for wrong in ["7 days", "-P7D", "P0D", "", "2026-11-20"] {
            assert!(before(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn every_code_has_its_meaning() {
        assert_eq!(meaning("PV013"), "A plaintext column above the role's clearance.");
        assert!(meaning("PV998").contains("not a code"));
    }
}
