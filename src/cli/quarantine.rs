//! `pgveil quarantine`: the logins that are refused.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::bail;
use clap::Subcommand;

use crate::catalog;
use crate::clock::Now;
use crate::config::{self, Config};
use crate::desk::quarantine::{ENTRIES_MAX, Entry, edit, fits, read};
use crate::policy::{self, problem::render};

/// Arguments of `pgveil quarantine`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "A running proxy takes changes over within a second, ends the login's sessions, and records both \
    in the access log."
)]
pub(super) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Say which logins are refused, since when and why.
    #[command(after_help = "Example:\n  pgveil quarantine list --json --config pgveil.toml")]
    List(List),
    /// Refuse a login, and end its sessions.
    #[command(after_help = "Example:\n  pgveil quarantine add analyst --reason \"laptop stolen\" --config pgveil.toml")]
    Add(Add),
    /// Let a login in again.
    #[command(after_help = "Example:\n  pgveil quarantine release analyst --config pgveil.toml")]
    Release(Release),
}

#[derive(Debug, clap::Args)]
struct List {
    /// The config file, whose [quarantine] section names the file.
    #[arg(long, default_value = "pgveil.toml")]
    config: PathBuf,
    /// One JSON object per login.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct Add {
    /// The PostgreSQL role.
    role: String,
    /// Why, for whoever has to decide about its release.
    #[arg(long)]
    reason: String,
    /// The config file, whose [quarantine] section names the file.
    #[arg(long, default_value = "pgveil.toml")]
    config: PathBuf,
}

#[derive(Debug, clap::Args)]
struct Release {
    /// The PostgreSQL role.
    role: String,
    /// The config file, whose [quarantine] section names the file.
    #[arg(long, default_value = "pgveil.toml")]
    config: PathBuf,
}

pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    match &args.action {
        Action::List(args) => list(args),
        Action::Add(args) => add(args),
        Action::Release(args) => release(args),
    }
}

fn list(args: &List) -> anyhow::Result<ExitCode> {
    let config = config::load(&args.config)?;
    let entries = read(&config.quarantine)?.unwrap_or_default();
    for entry in &entries {
        if args.json {
            println!("{}", serde_json::to_string(entry)?);
        } else {
            let Entry { role, since, reason } = entry;
            println!("{}  since {since}  {}", role.escape_debug(), reason.escape_debug());
        }
    }
    if entries.is_empty() && !args.json {
        println!("no login is quarantined");
    }
    Ok(ExitCode::SUCCESS)
}

fn add(args: &Add) -> anyhow::Result<ExitCode> {
    let config = config::load(&args.config)?;
    let role = &args.role;
    possible(role, &config)?;
    let new = Entry::new(role, &args.reason, Now::read().unix_us);
    let added = edit(&config.quarantine, |entries| {
        if entries.iter().any(|entry| entry.role == *role) {
            return Ok(Some(false));
        }
        if entries.len() >= ENTRIES_MAX {
            return Ok(None);
        }
        entries.push(new);
        Ok(Some(true))
    })?;
    match added {
        Some(true) => println!("{role:?} is quarantined; release it with: pgveil quarantine release {role}"),
        Some(false) => println!("{role:?} is quarantined already"),
        None => bail!("{ENTRIES_MAX} logins are quarantined, and no more can be; release some: pgveil quarantine list"),
    }
    Ok(ExitCode::SUCCESS)
}

/// Who cannot be shut out.
fn possible(role: &str, config: &Config) -> anyhow::Result<()> {
    if !fits(role) {
        bail!("this is no name of a role");
    }
    if role == config.control.url.user() {
        bail!(
            "{role:?} is pgveil's own login ([control]); it never comes in through the proxy, revoke it in PostgreSQL"
        );
    }
    let policy = match policy::parse(&catalog::read_policy(&config.policy)?) {
        Ok(policy) => policy,
        Err(problems) => bail!("{}", render(&problems)),
    };
    if policy.detect.exempt.iter().any(|exempt| exempt == role) {
        bail!("{role:?} is exempt from every rule ([detect] exempt); remove it there first");
    }
    Ok(())
}

fn release(args: &Release) -> anyhow::Result<ExitCode> {
    let config = config::load(&args.config)?;
    let released = edit(&config.quarantine, |entries| {
        let before = entries.len();
        entries.retain(|entry| entry.role != args.role);
        Ok(entries.len() < before)
    })?;
    if !released {
        eprintln!("{:?} is not quarantined: pgveil quarantine list", args.role);
        return Ok(ExitCode::FAILURE);
    }
    println!("{:?} is released", args.role);
    Ok(ExitCode::SUCCESS)
}
