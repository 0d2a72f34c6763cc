//! `pgveil check`: is what is written what can be enforced?

use std::path::PathBuf;
use std::process::ExitCode;

/// Arguments of `pgveil check`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  pgveil check --config pgveil.toml")]
pub(super) struct Args {
    /// The config file.
    #[arg(long, default_value = "pgveil.toml")]
    config: PathBuf,
}

pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let config = crate::config::load(&args.config)?;
    for warning in &config.warnings {
        println!("warning: {warning}");
    }
    println!("{}: OK", args.config.display());
    Ok(ExitCode::SUCCESS)
}
