//! `pgveil log who-saw`: who saw one person's data.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::ExitCode;

use indicatif::{ProgressBar, ProgressStyle};
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use super::report::{Since, since};
use super::{connect, log};
use crate::audit::{self, Found, Search, Seen, Tables};
use crate::clock::Now;
use crate::config::{self, Config};
use crate::crypto::Keyring;
use crate::event::{Event, Shown};
use crate::policy::problem::render;
use crate::store::{self, Store};
use crate::{catalog, keys, policy};

/// Arguments of `pgveil log who-saw`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The person: the kind of the policy's `subject`, a colon, the key as PostgreSQL prints it.
    #[arg(long, value_name = "KIND:KEY", value_parser = subject)]
    subject: (String, String),
    /// Only since then: a period up to now such as P90D, a date, or a time such as 2026-11-20T08:00:00Z.
    #[arg(long, value_name = "WHEN", value_parser = when)]
    since: Option<Since>,
    /// Show the newest so many; all are counted.
    #[arg(long, value_name = "COUNT", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    limit: u32,
    /// One JSON object: subject, since, total, accesses, unknown, unfinished, begins, copied, missing.
    #[arg(long)]
    json: bool,
    /// Read this folder of the access log, and not PostgreSQL's copy.
    #[arg(long)]
    dir: Option<PathBuf>,
    /// The config file.
    #[arg(long, default_value = "pgveil.toml")]
    config: PathBuf,
}

fn subject(text: &str) -> Result<(String, String), String> {
    match text.split_once(':') {
        Some((kind, key)) if !kind.is_empty() && !key.is_empty() => Ok((kind.to_owned(), key.to_owned())),
        _ => Err("a kind, a colon and a key, such as user:42".to_owned()),
    }
}

fn when(text: &str) -> Result<Since, String> {
    match text.parse::<Date>().ok().filter(|_| text.len() == 10).map(|date| date.to_zoned(TimeZone::UTC)) {
        Some(Ok(midnight)) => Ok(Since::Time(midnight.timestamp())),
        _ => since(text),
    }
}

pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let config = config::load(&args.config)?;
    let (kind, key) = (&args.subject.0, &args.subject.1);
    let tables = tables(&config, kind)?;
    let ring = keys::load(&config.keys.path, &keys::Unlock::from(&config.keys.unlock))?;
    let now = Timestamp::from_microsecond(Now::read().unix_us)?;
    let since = args.since.as_ref().map(|since| since.before(now)).transpose()?;
    let search = Search {
        people: spellings(key).iter().map(|key| ring.subject_pseudonym(kind, key.as_bytes())).collect(),
        since_us: since.map_or(0, Timestamp::as_microsecond),
        limit: args.limit as usize,
        tables,
    };
    drop::<Keyring>(ring);
    let copy = config.store.ship && args.dir.is_none();
    let found = if copy { copied(&config, &search)? } else { read(args, &config, &search)? };
    let from = match copy {
        true => "PostgreSQL".to_owned(),
        false => args.dir.as_ref().unwrap_or(&config.audit.dir).display().to_string(),
    };
    if args.json {
        println!("{}", json(args, &found, since, &from)?);
    } else {
        lines(args, &found, since, &from).iter().for_each(|line| println!("{line}"));
    }
    Ok(ExitCode::SUCCESS)
}

/// The tables of that kind of people, and all others.
fn tables(config: &Config, kind: &str) -> anyhow::Result<Tables> {
    let policy = policy::parse(&catalog::read_policy(&config.policy)?)
        .map_err(|problems| anyhow::anyhow!("the policy has problems:\n{}", render(&problems)))?;
    let known: Vec<String> = policy.tables.iter().map(|table| table.qualified()).collect();
    let of_kind = |table: &&policy::checked::Table| table.subject.as_ref().is_some_and(|s| *s.kind == *kind);
    let theirs: Vec<String> = policy.tables.iter().filter(of_kind).map(|table| table.qualified()).collect();
    if theirs.is_empty() {
        let kinds: BTreeSet<String> =
            policy.tables.iter().filter_map(|table| Some(table.subject.as_ref()?.kind.to_string())).collect();
        let kinds: Vec<String> = kinds.into_iter().collect();
        anyhow::bail!("no table of the policy has people of kind \"{kind}\"; it has: {}", kinds.join(", "));
    }
    Ok(Tables { theirs, known })
}

/// The key as it may have stood in a row, a parameter or the statement's text: as typed, and where that can be a uuid, as
/// PostgreSQL prints it. Of numbers only what is typed: where keys are text, 042 and 42 are two people.
fn spellings(key: &str) -> BTreeSet<String> {
    let mut all = BTreeSet::from([key.to_owned()]);
    let digits: String = key.chars().filter(|c| !matches!(c, '-' | '{' | '}')).collect::<String>().to_lowercase();
    if digits.len() == 32 && digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        let [a, b, c, d, e] = [0..8, 8..12, 12..16, 16..20, 20..32].map(|part| &digits[part]);
        all.insert(format!("{a}-{b}-{c}-{d}-{e}"));
    }
    all
}

fn copied(config: &Config, search: &Search) -> anyhow::Result<Found> {
    let store = Store::new(connect::control(&config.control)?);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let found = runtime.block_on(store::who_saw(&store, search));
    found.map_err(|error| anyhow::anyhow!("{error}\n(--dir {} reads the log itself)", config.audit.dir.display()))
}

/// A bar is shown for more than this, if somebody looks.
const BAR_BYTES: u64 = 64 << 20;

fn read(args: &Args, config: &Config, search: &Search) -> anyhow::Result<Found> {
    let dir = args.dir.as_ref().unwrap_or(&config.audit.dir);
    let bar = ProgressBar::hidden();
    bar.set_style(ProgressStyle::with_template("{bar:40} {bytes} of {total_bytes}, {eta} left")?);
    let found = audit::who_saw(dir, search, &mut |read, total| {
        if bar.length().is_none() && total > BAR_BYTES {
            bar.set_length(total);
            bar.set_draw_target(indicatif::ProgressDrawTarget::stderr());
        }
        bar.set_position(read);
    })?;
    bar.finish_and_clear();
    Ok(found)
}

fn time(at_us: i64) -> String {
    Timestamp::from_microsecond(at_us).map_or_else(|_| at_us.to_string(), |at| format!("{at:.0}"))
}

fn json(args: &Args, found: &Found, since: Option<Timestamp>, from: &str) -> anyhow::Result<String> {
    let access = |seen: &Seen| -> anyhow::Result<serde_json::Value> {
        let mut object = Vec::new();
        seen.event.write_json(&mut object);
        let mut access: serde_json::Value = serde_json::from_slice(&object)?;
        access["log"] = seen.log.into();
        access["seq"] = seen.seq.into();
        access["people"] = seen.people.into();
        Ok(access)
    };
    let accesses = found.newest.iter().map(access).collect::<anyhow::Result<Vec<_>>>()?;
    let answer = serde_json::json!({
        "subject": format!("{}:{}", args.subject.0, args.subject.1), "from": from,
        "since": since.map(|since| since.to_string()), "total": found.total, "accesses": accesses,
        "unknown": found.unknown, "unfinished": found.unfinished, "begins": found.begins_us.map(time),
        "copied": found.copied_us.map(time), "missing": found.missing,
    });
    Ok(serde_json::to_string_pretty(&answer)?)
}

fn lines(args: &Args, found: &Found, since: Option<Timestamp>, from: &str) -> Vec<String> {
    let whom = format!("{}:{}", args.subject.0, args.subject.1).escape_debug().to_string();
    let since = since.map_or_else(String::new, |since| format!(" since {since}"));
    let mut lines: Vec<String> = found.newest.iter().flat_map(access).collect();
    lines.push(match found.total {
        0 => format!("{whom}: no access recorded{since} ({from})"),
        1 => format!("{whom}: 1 access recorded{since} ({from})"),
        total if total > found.newest.len() as u64 => {
            format!("{whom}: {total} accesses recorded{since}, the newest {} shown ({from})", found.newest.len())
        }
        total => format!("{whom}: {total} accesses recorded{since} ({from})"),
    });
    let unknown = found.unknown;
    if unknown.events > 0 {
        lines.push(format!(
            "not known whose: {} statements on such tables with {} rows whose people were not in result or statement, and {} \
             people beyond those that a record names",
            unknown.events, unknown.rows, unknown.people
        ));
    }
    if found.unfinished > 0 {
        let number = found.unfinished;
        lines.push(format!("not known at all: {number} statements that were under way when a proxy died"));
    }
    match found.begins_us {
        Some(begins_us) => lines.push(format!("the log begins {}", time(begins_us))),
        None => lines.push("the log is empty".to_owned()),
    }
    if let Some(copied_us) = found.copied_us {
        lines.push(format!("newest copy into PostgreSQL: {}", time(copied_us)));
    }
    if found.missing > 0 {
        let missing = found.missing;
        lines.push(format!("{missing} records are missing: see `pgveil log verify`, and of a copy pgveil.ship_gaps"));
    }
    lines
}

/// When and who; what; how many.
fn access(seen: &Seen) -> Vec<String> {
    let event = &seen.event;
    let mut who = format!("{}  {}", time(event.at_us), log::word(&event.action().access));
    if let Some(actor) = &event.actor {
        who.push_str(&format!("  {}@{}  by {}", actor.role, actor.database, log::word(&actor.auth)));
        if let Some(certificate) = &actor.certificate {
            who.push_str(&format!(", certificate {certificate}"));
        }
        if !actor.application.is_empty() {
            who.push_str(&format!(", {}", actor.application));
        }
        who.push_str(&actor.client.map_or_else(|| ", local".to_owned(), |client| format!(", {client}")));
        if let Some(purpose) = &actor.purpose {
            who.push_str(&format!(", for {purpose}"));
        }
    }
    let mut lines = vec![who.escape_debug().to_string()];
    lines.extend(columns(event).map(|line| format!("    {}", line.escape_debug())));
    let mut how = format!("    rows: {}  people: {}", event.rows, seen.people);
    if event.subjects.unknown_rows > 0 {
        how.push_str(&format!(" (+ {} rows of unknown people)", event.subjects.unknown_rows));
    }
    for extra in [&event.code, &event.sqlstate].into_iter().flatten() {
        how.push_str(&format!("  {}", extra.escape_debug()));
    }
    lines.push(how);
    lines
}

/// Columns by what became of them.
fn columns(event: &Event) -> impl Iterator<Item = String> + '_ {
    const WORDS: [(Shown, &str); 6] = [
        (Shown::Clear, "clear"),
        (Shown::Masked, "masked"),
        (Shown::Sealed, "sealed"),
        (Shown::Written, "written"),
        (Shown::Searched, "searched"),
        (Shown::Refused, "refused"),
    ];
    WORDS.into_iter().filter_map(|(shown, word)| {
        let touches = event.action().touches.iter().filter(|touch| touch.shown == shown);
        let names: Vec<String> = touches.map(|touch| format!("{}.{}", touch.relation, touch.column)).collect();
        (!names.is_empty()).then(|| format!("{word}: {}", names.join(", ")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_looked_for_as_it_may_have_stood() {
        let of = |key: &str| spellings(key).into_iter().collect::<Vec<_>>();
        assert_eq!(of("42"), ["42"]);
        assert_eq!(of("042"), ["042"]);
        assert_eq!(of("a:b"), ["a:b"]);
        let uuid = "6f9619ff-8b86-d011-b42d-00cf4fc964ff";
        assert_eq!(of(uuid), [uuid]);
        assert_eq!(of("{6F9619FF8B86D011B42D00CF4FC964FF}"), [uuid, "{6F9619FF8B86D011B42D00CF4FC964FF}"]);
    }

    #[test]
    fn a_subject_is_a_kind_and_a_key() {
        assert_eq!(subject("user:a:b").unwrap(), ("user".to_owned(), "a:b".to_owned()));
        for wrong in ["user", "user:", ":42", ""] {
            assert!(subject(wrong).is_err(), "{wrong}");
        }
        let now = "2026-11-22T10:00:00Z".parse().unwrap();
        assert_eq!(when("2026-08-24").unwrap().before(now).unwrap().to_string(), "2026-08-24T00:00:00Z");
        assert_eq!(when("P1D").unwrap().before(now).unwrap().to_string(), "2026-11-21T10:00:00Z");
        assert!(when("2026-13-24").is_err());
    }
}
