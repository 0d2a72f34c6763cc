//! `pgveil demo`: everything at once, on this machine, in temporary folders.

use std::process::ExitCode;

use anyhow::Context as _;

use crate::demo::{self, Ended};

/// Arguments of `pgveil demo`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  pgveil demo --once")]
pub(super) struct Args {
    /// Leave after the tour; exit code 0 only if every claim of it held.
    #[arg(long)]
    once: bool,
}

pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let program = std::env::current_exe().context("where this program is")?;
    match demo::run(program, args.once)? {
        Ended::Whole => Ok(ExitCode::SUCCESS),
        Ended::Interrupted => Ok(ExitCode::FAILURE),
    }
}
