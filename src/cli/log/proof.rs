//! `pgveil log prove` and `check-proof`: one record, or one checkpoint after another, shown to somebody without the log.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::audit::{self, GrowthProof, Note, RecordProof, Trust, VerifierKey, VerifyError};
use crate::cli::keys::Place;
use crate::config;
use crate::keys;

/// Arguments of `pgveil log prove`.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("what").required(true))]
pub(super) struct Prove {
    /// The number of the record to prove.
    #[arg(long, value_name = "N", group = "what")]
    seq: Option<u64>,
    /// Prove that the log still begins as it was when this checkpoint was signed: a file with a note, or with anchors, whose
    /// last counts.
    #[arg(long, value_name = "NOTE", group = "what")]
    since: Option<PathBuf>,
    /// To this checkpoint instead of the newest in the log.
    #[arg(long, value_name = "NOTE")]
    against: Option<PathBuf>,
    /// Write the record's line there; a proof is of exactly these bytes.
    #[arg(long, value_name = "FILE", requires = "seq")]
    record: Option<PathBuf>,
    /// The log's directory; with it the config file's [audit] section is not needed.
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Check signatures with this instead of the keyring: what `pgveil log key` printed.
    #[arg(long, value_name = "VKEY", conflicts_with = "keyring", value_parser = super::verifier_key)]
    public_key: Option<VerifierKey>,
    #[command(flatten)]
    place: Place,
}

/// Arguments of `pgveil log check-proof`.
#[derive(Debug, clap::Args)]
pub(super) struct CheckProof {
    /// What `pgveil log prove` printed.
    proof: PathBuf,
    /// What `pgveil log key` printed.
    #[arg(long, value_name = "VKEY", value_parser = super::verifier_key)]
    public_key: VerifierKey,
    /// The record's line, for a proof with an index.
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
}

fn read(path: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(path).map_err(|error| anyhow::anyhow!("{}: {error}", path.display()))
}

fn note(path: &Path) -> anyhow::Result<Note> {
    Note::last_of(&read(path)?).ok_or_else(|| anyhow::anyhow!("{}: there is no checkpoint in it", path.display()))
}

pub(super) fn prove(args: &Prove) -> anyhow::Result<ExitCode> {
    let dir = match &args.dir {
        Some(dir) => dir.clone(),
        None => config::load(args.place.config())?.audit.dir,
    };
    let ring = match &args.public_key {
        Some(_) => None,
        None => {
            let (path, unlock) = args.place.resolve()?;
            Some(keys::load(&path, &unlock)?)
        }
    };
    let key = ring.as_ref().map(|ring| ring.audit_key());
    let trust = Trust { key, public: args.public_key.as_ref(), ..Trust::default() };
    let against = args.against.as_deref().map(note).transpose()?;
    let made = match (args.seq, &args.since) {
        (Some(seq), _) => audit::prove_record(&dir, trust, seq, against.as_ref()).map(|(proof, line)| {
            let written = args.record.as_ref().map_or(Ok(()), |file| std::fs::write(file, format!("{line}\n")));
            (proof.to_string(), written)
        }),
        (None, Some(since)) => {
            audit::prove_growth(&dir, trust, &note(since)?, against.as_ref()).map(|proof| (proof.to_string(), Ok(())))
        }
        (None, None) => anyhow::bail!("--seq or --since says what to prove"),
    };
    match made {
        Ok((text, written)) => {
            written?;
            print!("{text}");
            Ok(ExitCode::SUCCESS)
        }
        Err(VerifyError::Break(found)) => {
            eprintln!("{}: NOT as it was written: {found}", dir.display());
            Ok(ExitCode::FAILURE)
        }
        Err(VerifyError::Unreadable(error)) => Err(error.into()),
    }
}

pub(super) fn check(args: &CheckProof) -> anyhow::Result<ExitCode> {
    let text = read(&args.proof)?;
    let (checked, holds) = if let Some(proof) = RecordProof::parse(&text) {
        let Some(record) = &args.record else {
            anyhow::bail!("this is about record {}: give its line with --record FILE", proof.seq());
        };
        let checked = proof.check(read(record)?.as_bytes(), &args.public_key);
        (checked, format!("this is record {} of a log of {} and more", proof.seq(), proof.note().size()))
    } else if let Some(proof) = GrowthProof::parse(&text) {
        let (old, new) = (proof.earlier().size(), proof.later().size());
        let holds = format!("the log of {new} records begins with the {old} records of the earlier checkpoint");
        (proof.check(&args.public_key), holds)
    } else {
        anyhow::bail!("{}: no proof; `pgveil log prove` makes them", args.proof.display());
    };
    match checked {
        Ok(()) => {
            println!("OK: {holds}");
            Ok(ExitCode::SUCCESS)
        }
        Err(why) => {
            eprintln!("NOT proven: {why}");
            Ok(ExitCode::FAILURE)
        }
    }
}
