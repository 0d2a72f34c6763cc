//! `pgveil alerts`: do the sinks take what they are sent?

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Subcommand;
use serde::Serialize;

use crate::clock::Now;
use crate::config::{self, Config};
use crate::crypto::Keyring;
use crate::keys;
use crate::notify::{Message, Place, Sink, Source};

/// Arguments of `pgveil alerts`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Send one test alert to each sink of [[alerts.sinks]], once, and say what became of it. Exit code 1 if one of them
    /// has not taken it.
    #[command(after_help = "Examples:\n  pgveil alerts test\n  pgveil alerts test --sink pager --json")]
    Test(Test),
}

#[derive(Debug, clap::Args)]
struct Test {
    /// The config file.
    #[arg(long, default_value = "pgveil.toml")]
    config: PathBuf,
    /// Only this sink.
    #[arg(long, value_name = "NAME")]
    sink: Option<String>,
    /// One JSON object for each sink.
    #[arg(long)]
    json: bool,
}

/// What became of it.
#[derive(Serialize)]
struct Outcome<'a> {
    sink: &'a str,
    kind: &'static str,
    ok: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    duration_ms: u64,
}

pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let Action::Test(args) = &args.action;
    let config = config::load(&args.config)?;
    let chosen: Vec<_> =
        config.sinks.iter().filter(|sink| args.sink.as_ref().is_none_or(|name| *name == sink.name)).collect();
    if chosen.is_empty() {
        let names: Vec<&str> = config.sinks.iter().map(|sink| sink.name.as_str()).collect();
        match (&args.sink, names.is_empty()) {
            (Some(name), false) => anyhow::bail!("there is no sink \"{name}\"; there are: {}", names.join(", ")),
            _ => anyhow::bail!("{} has no [[alerts.sinks]]", args.config.display()),
        }
    }
    let keyring = keys::load(&config.keys.path, &keys::Unlock::from(&config.keys.unlock))?;
    let message = Message::test(&place(&config, &keyring).source, Now::read().unix_us);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut all = true;
    for settings in chosen {
        let before = Now::read();
        let sent = match Sink::new(settings) {
            Ok(sink) => runtime.block_on(sink.send(&message)).map_err(|failure| failure.to_string()),
            Err(error) => Err(error.to_string()),
        };
        all &= sent.is_ok();
        let outcome = Outcome {
            sink: &settings.name,
            kind: settings.kind.as_str(),
            ok: sent.is_ok(),
            error: sent.err(),
            duration_ms: Now::read().since_us(before) / 1_000,
        };
        print(&outcome, args.json)?;
    }
    Ok(if all { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn print(outcome: &Outcome<'_>, json: bool) -> anyhow::Result<()> {
    let Outcome { sink, kind, duration_ms, .. } = outcome;
    match &outcome.error {
        _ if json => println!("{}", serde_json::to_string(outcome)?),
        None => println!("{sink} ({kind}): taken, {duration_ms} ms"),
        Some(error) => println!("{sink} ({kind}): FAILED: {error}"),
    }
    Ok(())
}

/// The log that sinks follow, and what they say about it.
pub(super) fn place(config: &Config, keyring: &Keyring) -> Place {
    let source =
        Source { deployment: hex::encode(keyring.deployment_id()), instance: config.listen.postgres.to_string() };
    Place { dir: config.audit.dir.clone(), cursors: config.audit.dir.join("sinks"), source }
}
