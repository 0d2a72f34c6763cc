//! The commands. Each is one file with its arguments, its help and its `run`.
//!
//! In: the command line. Out: text on stdout, problems on stderr, exit code 0 (done), 1 (said no or failed),
//! 2 (wrong usage). Never: decisions; those are made below.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "this is the room that talks to a terminal")]

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod alerts;
mod apply;
mod check;
mod connect;
mod demo;
mod diff;
mod doctor;
mod explain;
mod health;
mod incidents;
mod keys;
mod log;
mod quarantine;
mod report;
mod serve;
mod systemd;
mod who;

/// A transparent privacy proxy for PostgreSQL: seals tagged columns, masks by role, logs every access, watches for
/// breaches.
#[derive(Debug, Parser)]
#[command(name = "pgveil", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Send a test alert to the sinks of the configuration.
    Alerts(alerts::Args),
    /// Make the database what the policy says: domains, sealed columns. One transaction; `--dry-run` prints it.
    Apply(apply::Args),
    /// Read config and policy, say every problem at once; against the live catalog too if it can be reached.
    Check(check::Args),
    /// A private PostgreSQL with invented patients, the proxy in front, and a tour that checks every claim it makes.
    Demo(demo::Args),
    /// Say in what the database is not what the policy says.
    Diff(diff::Args),
    /// Prove, column by column, that nothing has a hole: what is stored, who reads it, what goes around.
    Doctor(doctor::Args),
    /// Say what would happen to a statement of a role, and why; nothing is run.
    Explain(explain::Args),
    /// Ask the pgveil that runs whether it can serve; for probes.
    Health(health::Args),
    /// What alerts became, and what is done about it: from detection to the notification's draft.
    Incidents(incidents::Args),
    /// Make, list and rotate the keys of the keyring file.
    Keys(keys::Args),
    /// Check the access log, or read it.
    Log(log::Args),
    /// List, shut out or let in again the logins that are refused.
    Quarantine(quarantine::Args),
    /// Add up the access log: what enforcing an observed policy would change.
    Report(report::Args),
    /// Serve: clients connect here instead of to PostgreSQL.
    Serve(serve::Args),
}

/// Runs the command line's command. Wrong usage ends the process with code 2 (clap's own).
pub fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Alerts(args) => alerts::run(&args),
        Command::Apply(args) => apply::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Demo(args) => demo::run(&args),
        Command::Diff(args) => diff::run(&args),
        Command::Doctor(args) => doctor::run(&args),
        Command::Explain(args) => explain::run(&args),
        Command::Health(args) => health::run(&args),
        Command::Incidents(args) => incidents::run(&args),
        Command::Keys(args) => keys::run(&args),
        Command::Log(args) => log::run(&args),
        Command::Quarantine(args) => quarantine::run(&args),
        Command::Report(args) => report::run(&args),
        Command::Serve(args) => serve::run(&args),
    };
    done.unwrap_or_else(|error| {
        eprintln!("pgveil: {error:#}");
        ExitCode::FAILURE
    })
}
