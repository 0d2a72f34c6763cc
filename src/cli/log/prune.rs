//! `pgveil log prune`: the oldest segments go, provably.

use std::path::PathBuf;
use std::process::ExitCode;

use jiff::Timestamp;

use crate::audit::{self, Keep, Until, VerifierKey, VerifyError};
use crate::cli::keys::Place;
use crate::clock::Now;
use crate::config;
use crate::event::{Event, EventKind};
use crate::keys;

/// Arguments of `pgveil log prune`.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("until").required(true))]
pub(super) struct Args {
    /// Records from before then go, such as 2026-01-01T00:00:00Z.
    #[arg(long, value_name = "WHEN", group = "until")]
    before: Option<Timestamp>,
    /// Records older than this go, such as P7Y.
    #[arg(long, value_name = "PERIOD", group = "until", value_parser = keep)]
    keep: Option<Keep>,
    /// Say what would go, and change nothing.
    #[arg(long)]
    dry_run: bool,
    /// A file of anchors: the log must fit it, and what is pruned can be checked against it later. May be given more than
    /// once; those of [audit] anchors are used in any case.
    #[arg(long = "anchor", value_name = "FILE")]
    anchors: Vec<PathBuf>,
    /// One JSON object.
    #[arg(long)]
    json: bool,
    /// The log's directory; with it the config file's [audit] section is not needed.
    #[arg(long)]
    dir: Option<PathBuf>,
    #[command(flatten)]
    place: Place,
}

fn keep(text: &str) -> Result<Keep, String> {
    Keep::parse(text).ok_or_else(|| "no period; write P7Y for seven years, P90D for ninety days".to_owned())
}

pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let now = Now::read();
    let (settings, mut files) = match &args.dir {
        Some(dir) => (audit::Settings::new(dir), Vec::new()),
        None => {
            let config = config::load(args.place.config())?;
            (crate::desk::Settings::from(&config.audit).audit, config.audit.anchors)
        }
    };
    files.retain(|file| file.exists());
    files.extend(args.anchors.iter().cloned());
    let (path, unlock) = args.place.resolve()?;
    let ring = keys::load(&path, &unlock)?;
    let public = VerifierKey::new(ring.audit_key(), ring.deployment_id());
    let before_us = match (&args.before, &args.keep) {
        (Some(before), _) => before.as_microsecond(),
        (None, Some(keep)) => keep.before_us(now.unix_us),
        (None, None) => anyhow::bail!("--before or --keep says what may go"),
    };
    let found = super::anchors(&files, Some(&public)).and_then(|anchors| {
        let until = Until { before_us, needed_from: None, anchors: &anchors };
        audit::prunable(&settings.dir, ring.audit_key(), until)
    });
    let found = match found {
        Ok(found) => found,
        Err(VerifyError::Break(found)) => {
            eprintln!("{}: NOT as it was written, nothing is pruned: {found}", settings.dir.display());
            return Ok(ExitCode::FAILURE);
        }
        Err(VerifyError::Unreadable(error)) => return Err(error.into()),
    };
    if let (Some(found), false) = (&found, args.dry_run) {
        let (mut log, recovered) = audit::open(&settings, ring.audit_key().clone(), ring.deployment_id(), now.unix_us)?;
        anyhow::ensure!(recovered.broken.is_none(), "the log is not what was written; see `pgveil log verify`");
        let mut event = Event::new(EventKind::Log, now.unix_us);
        event.note = Some(found.sentence());
        log.append(&event);
        log.close(now.unix_us)?;
        audit::prune(&settings.dir, ring.audit_key(), found, now.unix_us)?;
    }
    let (segments, first, last) = found.as_ref().map_or((0, 0, 0), |it| (it.segments(), it.first_seq, it.last_seq));
    if args.json {
        let said = serde_json::json!({
            "segments": segments, "first_seq": first, "last_seq": last, "pruned": segments > 0 && !args.dry_run,
        });
        println!("{said}");
    } else if segments == 0 {
        println!("{}: nothing to prune: no closed segment is that old", settings.dir.display());
    } else {
        let word = if args.dry_run { "would be pruned" } else { "pruned" };
        println!("{}: {word}: {segments} segments, records {first} to {last}", settings.dir.display());
    }
    Ok(ExitCode::SUCCESS)
}
