//! `pgveil log`: check the access log offline, or read it.

mod proof;
mod prune;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Subcommand;
use jiff::Timestamp;

use super::keys::Place;
use crate::audit::{self, Anchor, Follow, Report, Trust, VerifierKey, VerifyError};
use crate::config;
use crate::event::{Event, EventKind, Shown};
use crate::keys;

/// Arguments of `pgveil log`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Check every record, every checkpoint and the end of the log. Exit code 1 names the first place that is not as
    /// it was written.
    #[command(after_help = "Examples:\n  pgveil log verify --config pgveil.toml\n  \
        pgveil log verify --dir audit --keyring keyring.toml --key-file kek\n  \
        pgveil log verify --anchor /mnt/elsewhere/pgveil.anchors\n  \
        pgveil log verify --dir audit --no-key\n  \
        pgveil log verify --dir copy-of-audit --public-key pgveil.log/3f0c…+1a2b3c4d+AXo9…")]
    Verify(Box<Verify>),
    /// Print the public key of the log's signatures. Whoever is given it can check the log, and cannot make one.
    #[command(after_help = "Examples:\n  pgveil log key\n  \
        pgveil log key --keyring keyring.toml --key-file kek > for-the-auditor")]
    Key(Key),
    /// Remove the oldest segments, and leave a signed note that proves what is left to continue them.
    #[command(after_help = "Examples:\n  pgveil log prune --keep P7Y --dry-run\n  \
        pgveil log prune --before 2026-01-01T00:00:00Z --anchor /mnt/elsewhere/pgveil.anchors\n\n\
        Not while pgveil serves: [audit] keep = \"P7Y\" has it do that itself.")]
    Prune(Box<prune::Args>),
    /// Print a proof that a record is in the log, or that the log still begins as it once was, for whoever has the public key.
    #[command(after_help = "Examples:\n  pgveil log prove --seq 4711 --record line > 4711.tlog-proof\n  \
        pgveil log prove --since /mnt/elsewhere/pgveil.anchors > grown")]
    Prove(Box<proof::Prove>),
    /// Check such a proof, without the log and without the keyring.
    #[command(after_help = "Examples:\n  \
        pgveil log check-proof 4711.tlog-proof --record line --public-key pgveil.log/3f0c…+1a2b3c4d+AXo9…\n  \
        pgveil log check-proof grown --public-key pgveil.log/3f0c…+1a2b3c4d+AXo9…")]
    CheckProof(Box<proof::CheckProof>),
    /// Show the newest events.
    #[command(after_help = "Examples:\n  pgveil log tail -n 20\n  pgveil log tail -f --json | jq .touches")]
    Tail(Tail),
    /// Say who saw one person's data, when, from where, what for and what of it; and what the log does not know.
    #[command(after_help = "Examples:\n  pgveil log who-saw --subject user:42 --since P90D\n  \
        pgveil log who-saw --subject user:42 --since 2026-08-24 --json | jq '.accesses[].actor.role'\n\n\
        From PostgreSQL's copy of the log where [store] ship = true, by an index; else from the log itself, all of it. The\n\
        keyring is needed: the log knows people by pseudonyms only.")]
    WhoSaw(Box<super::who::Args>),
}

#[derive(Debug, clap::Args)]
struct Verify {
    /// The log's directory; with it the config file's [audit] section is not needed.
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Check hashes, roots and the head only, no MACs or signatures: whoever rewrote the whole log is not noticed.
    #[arg(long, conflicts_with = "keyring")]
    no_key: bool,
    /// Check signatures with this instead of MACs with the keyring: what `pgveil log key` printed.
    #[arg(long, value_name = "VKEY", conflicts_with_all = ["keyring", "no_key"], value_parser = verifier_key)]
    public_key: Option<VerifierKey>,
    /// A file that [audit] anchors names, from where it was kept: the log must still have the roots that are signed in
    /// it. Finds an older copy of everything put back. May be given more than once.
    #[arg(long = "anchor", value_name = "FILE", conflicts_with = "no_key")]
    anchors: Vec<PathBuf>,
    /// One JSON object.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    place: Place,
}

#[derive(Debug, clap::Args)]
struct Key {
    #[command(flatten)]
    place: Place,
}

fn verifier_key(text: &str) -> Result<VerifierKey, String> {
    VerifierKey::parse(text).ok_or_else(|| "no such key; give the whole line that `pgveil log key` printed".to_owned())
}

#[derive(Debug, clap::Args)]
struct Tail {
    /// The log's directory; the config file is then not read.
    #[arg(long)]
    dir: Option<PathBuf>,
    /// The config file, whose [audit] section names the directory.
    #[arg(long, default_value = "pgveil.toml")]
    config: PathBuf,
    /// How many.
    #[arg(short = 'n', long, default_value_t = 10, value_name = "COUNT")]
    lines: usize,
    /// Go on with new events as they are written.
    #[arg(short, long)]
    follow: bool,
    /// One JSON object per event, as in the log.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    match &args.action {
        Action::Verify(args) => verify(args),
        Action::Key(args) => {
            let (path, unlock) = args.place.resolve()?;
            let ring = keys::load(&path, &unlock)?;
            println!("{}", VerifierKey::new(ring.audit_key(), ring.deployment_id()));
            Ok(ExitCode::SUCCESS)
        }
        Action::Prune(args) => prune::run(args),
        Action::Prove(args) => proof::prove(args),
        Action::CheckProof(args) => proof::check(args),
        Action::Tail(args) => tail(args),
        Action::WhoSaw(args) => super::who::run(args),
    }
}

fn verify(args: &Verify) -> anyhow::Result<ExitCode> {
    let dir = match &args.dir {
        Some(dir) => dir.clone(),
        None => config::load(args.place.config())?.audit.dir,
    };
    let ring = if args.no_key || args.public_key.is_some() {
        None
    } else {
        let (path, unlock) = args.place.resolve()?;
        Some(keys::load(&path, &unlock)?)
    };
    let public = match &ring {
        Some(ring) => Some(VerifierKey::new(ring.audit_key(), ring.deployment_id())),
        None => args.public_key.clone(),
    };
    let checked = anchors(&args.anchors, public.as_ref()).and_then(|anchors| {
        let key = ring.as_ref().map(|ring| ring.audit_key());
        audit::verify(&dir, Trust { key, public: public.as_ref(), anchors: &anchors })
    });
    match checked {
        Ok(report) if args.json => {
            let mut answer = serde_json::to_value(&report)?;
            answer["ok"] = true.into();
            println!("{answer}");
        }
        Ok(report) => {
            println!("{}: OK", dir.display());
            println!("{}", said(&report, public.is_some()));
        }
        Err(VerifyError::Break(found)) => {
            if args.json {
                println!("{}", serde_json::json!({ "ok": false, "break": found, "message": found.to_string() }));
            } else {
                eprintln!("{}: NOT as it was written: {found}", dir.display());
            }
            return Ok(ExitCode::FAILURE);
        }
        Err(VerifyError::Unreadable(error)) => return Err(error.into()),
    }
    Ok(ExitCode::SUCCESS)
}

/// What all files of anchors hold; without a key nothing in them can be believed.
fn anchors(files: &[PathBuf], key: Option<&VerifierKey>) -> Result<Vec<Anchor>, VerifyError> {
    let mut all = Vec::new();
    if let Some(key) = key {
        for file in files {
            all.append(&mut audit::anchors(file, key)?);
        }
    }
    Ok(all)
}

/// An intact log in sentences, one a line.
fn said(report: &Report, signatures: bool) -> String {
    let Report { records, segments, events, checkpoints, signed, proven_seq, .. } = report;
    let mut text = String::new();
    if let Some(pruned) = &report.pruned {
        let (at, root) = (Timestamp::from_microsecond(pruned.at_us).unwrap_or(Timestamp::UNIX_EPOCH), &pruned.root);
        text.push_str(&format!("records 1 to {} were pruned on {at:.0}, root {root}\n", pruned.records));
    }
    text.push_str(&format!(
        "{records} records in {segments} segments: {events} events, {checkpoints} checkpoints, {signed} signed checkpoints"
    ));
    text.push_str(match (report.keyed, signatures) {
        (true, _) => ", every MAC and signature right",
        (false, true) => ", every signature right (MACs not checked: no audit key)",
        (false, false) => " (MACs and signatures not checked: no key)",
    });
    if signatures && !report.keyed {
        // The signature is a record too.
        text.push_str(&match records.saturating_sub(proven_seq + 1) {
            0 => format!("\nsigned to its end, record {proven_seq}"),
            rest => format!("\nsigned to record {proven_seq}; {rest} records after the signature are chained only"),
        });
    }
    if report.anchors > 0 {
        text.push_str(&format!("\n{} anchored checkpoints are of this log", report.anchors));
    }
    if report.anchors_pruned > 0 {
        let unknown = report.anchors_pruned;
        text.push_str(&format!(
            "\n{unknown} anchored checkpoints are over pruned records whose roots were not kept: not checked"
        ));
    }
    if report.torn_bytes > 0 {
        let bytes = report.torn_bytes;
        text.push_str(&format!("\n{bytes} bytes of an unfinished record at the end: a crash, or a write just now"));
    }
    if report.abandoned > 0 {
        let again = report.abandoned;
        text.push_str(&format!("\n{again} records were repeated in the next segment after a failed fsync"));
    }
    text
}

fn tail(args: &Tail) -> anyhow::Result<ExitCode> {
    let dir = match &args.dir {
        Some(dir) => dir.clone(),
        None => config::load(&args.config)?.audit.dir,
    };
    let mut out = std::io::stdout().lock();
    let newest = audit::last_events(&dir, args.lines.max(1))?;
    let seen = newest.last().map_or(0, |(seq, _)| *seq);
    for (_, event) in newest.iter().take(args.lines) {
        if show(&mut out, event, args.json).is_err() {
            return Ok(ExitCode::SUCCESS);
        }
    }
    if args.follow {
        let mut log = Follow::after(&dir, seen)?;
        loop {
            for (_, event) in log.poll()? {
                if show(&mut out, &event, args.json).is_err() {
                    // Whoever read us has gone.
                    return Ok(ExitCode::SUCCESS);
                }
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn show(out: &mut impl Write, event: &Event, json: bool) -> std::io::Result<()> {
    if json {
        let mut line = Vec::new();
        event.write_json(&mut line);
        line.push(b'\n');
        out.write_all(&line)?;
    } else {
        writeln!(out, "{}", sentence(event))?;
    }
    out.flush()
}

/// One line for people: when, who, what, which columns, how many, how it ended.
fn sentence(event: &Event) -> String {
    let at = Timestamp::from_microsecond(event.at_us).map_or_else(|_| event.at_us.to_string(), |at| format!("{at:.3}"));
    let mut line = format!("{at}  {:<12}", kind(event.kind));
    if let Some(actor) = &event.actor {
        line.push_str(&format!(
            " {}@{}#{}",
            actor.role.escape_debug(),
            actor.database.escape_debug(),
            event.connection
        ));
    }
    if let Some(text) = &event.action().text {
        line.push_str(&format!("  {}", text.escape_debug().take(200).collect::<String>()));
    }
    for (shown, word) in [
        (Shown::Clear, "clear"),
        (Shown::Masked, "masked"),
        (Shown::Sealed, "sealed"),
        (Shown::Written, "written"),
        (Shown::Searched, "searched"),
        (Shown::Refused, "refused"),
    ] {
        let columns: Vec<_> = event
            .action()
            .touches
            .iter()
            .filter(|touch| touch.shown == shown)
            .map(|touch| format!("{}.{}", touch.relation, touch.column))
            .collect();
        if !columns.is_empty() {
            line.push_str(&format!("  {word}: {}", columns.join(", ")));
        }
    }
    if let Some(would) = &event.action().would {
        line.push_str(&format!("  would: {}", would.words()));
    }
    if event.kind == EventKind::Statement {
        let people = event.subjects.known.len() as u64 + event.subjects.more;
        line.push_str(&format!("  rows: {}  people: {people}", event.rows));
        if event.subjects.unknown_rows > 0 {
            line.push_str(&format!(" (+ {} rows of unknown people)", event.subjects.unknown_rows));
        }
    }
    if let Some(alert) = &event.alert {
        line.push_str(&format!("  {} {}: {}", alert.severity, alert.rule, alert.message));
    }
    for extra in [&event.code, &event.sqlstate, &event.note].into_iter().flatten() {
        line.push_str(&format!("  {}", extra.escape_debug()));
    }
    line
}

/// The word of the log.
pub(super) fn word(value: &impl serde::Serialize) -> String {
    serde_json::to_value(value).ok().and_then(|word| word.as_str().map(str::to_owned)).unwrap_or_default()
}

fn kind(kind: EventKind) -> &'static str {
    match kind {
        EventKind::Start => "start",
        EventKind::Stop => "stop",
        EventKind::Login => "login",
        EventKind::LoginFailed => "login-failed",
        EventKind::Logout => "logout",
        EventKind::Intent => "intent",
        EventKind::Statement => "statement",
        EventKind::Refused => "refused",
        EventKind::Tamper => "tamper",
        EventKind::Untyped => "untyped",
        EventKind::Policy => "policy",
        EventKind::Bypass => "BYPASS",
        EventKind::Log => "log",
        EventKind::Alert => "ALERT",
        EventKind::Console => "console",
        EventKind::Killed => "killed",
        EventKind::Quarantined => "quarantined",
        EventKind::Released => "released",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Action, Alert, Becomes, Changed, Touch, Would};

    #[test]
    fn a_sentence_says_who_saw_what() {
        let mut event = Event::new(EventKind::Statement, 1_700_000_000_123_456);
        event.connection = 7;
        let touch = Touch { relation: "public.users".into(), column: "email".into(), shown: Shown::Clear };
        let text = Some("SELECT email FROM users\nWHERE id = $1".into());
        event.action = Some(Action { text, touches: vec![touch], ..Action::none() }.into());
        event.rows = 3;
        event.subjects.unknown_rows = 3;
        let line = sentence(&event);
        assert!(line.starts_with("2023-11-14T22:13:20.123Z  statement"), "{line}");
        assert!(line.contains(r"users\nWHERE") && !line.contains('\n'), "{line}");
        assert!(line.contains("clear: public.users.email  rows: 3  people: 0 (+ 3 rows of unknown people)"), "{line}");
        let changed = Changed { relation: "public.users".into(), column: "nick".into(), becomes: Becomes::Masked };
        let would = Would {
            until_lens: true,
            columns: vec![changed],
            filtered: vec!["public.users".into()],
            redacted: true,
            ..Would::refused("PV013", "")
        };
        event.action = Some(Action { would: Some(would.into()), ..event.action().clone() }.into());
        let line = sentence(&event);
        let said = "would: refused PV013 until its lens is there; masked: public.users.nick; \
                    rows filtered: public.users; error redacted  rows: 3";
        assert!(line.contains(said), "{line}");
        let mut event = Event::new(EventKind::Alert, 0);
        event.alert = Some(Alert {
            rule: "bulk".into(),
            severity: "medium".into(),
            observed: 101,
            threshold: 100,
            window_s: 900,
            address: None,
            action: crate::detect::Action::Alert,
            message: "many".into(),
        });
        assert!(sentence(&event).ends_with("medium bulk: many"));
    }
}
