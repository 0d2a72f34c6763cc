//! `pgveil check`: is what is written what can be enforced?

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use serde::Serialize;

use super::connect;
use crate::catalog::{self, Connect};
use crate::config::{self, Config, ControlUrl};
use crate::crypto::Keyring;
use crate::error::Error;
use crate::keys;
use crate::notify;
use crate::policy::problem::{Problem, render};
use crate::policy::{self, Policy, reveal};

/// Arguments of `pgveil check`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  pgveil check --config pgveil.toml\n  \
    pgveil check --against postgresql://veil@staging:5432/app?sslmode=verify-full\n  \
    pgveil check --offline --json")]
pub(super) struct Args {
    /// The config file.
    #[arg(long, default_value = "pgveil.toml")]
    config: PathBuf,
    /// Compare with this database instead of [control]'s.
    #[arg(long, value_name = "URL", conflicts_with = "offline")]
    against: Option<String>,
    /// Compare with no database.
    #[arg(long)]
    offline: bool,
    /// One JSON object: ok, problems, warnings, reveals.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Default, Serialize)]
struct Report {
    ok: bool,
    problems: Vec<Problem>,
    warnings: Vec<String>,
    reveals: Vec<String>,
    #[serde(skip)]
    summary: String,
}

pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let mut report = Report::default();
    if let Err(problems) = examine(args, &mut report)? {
        report.problems.extend(problems);
    }
    report.ok = report.problems.is_empty();
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print(args, &report);
    }
    Ok(if report.ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn print(args: &Args, report: &Report) {
    if !report.ok {
        eprintln!("{}", render(&report.problems));
        let count = report.problems.len();
        eprintln!("\n{count} problem{}", if count == 1 { "" } else { "s" });
    }
    for warning in &report.warnings {
        println!("warning: {warning}");
    }
    for line in &report.reveals {
        println!("note: {line}");
    }
    if report.ok {
        println!("{}: OK: {}", args.config.display(), report.summary);
    }
}

/// The outer error: a file that cannot be read, a database that was named and cannot be reached.
fn examine(args: &Args, report: &mut Report) -> anyhow::Result<Result<(), Vec<Problem>>> {
    let text = std::fs::read_to_string(&args.config)
        .map_err(|source| crate::error::Error::io(format!("config file {}", args.config.display()), source))?;
    let config = match config::parse(&args.config, &text) {
        Ok(config) => config,
        Err(problems) => return Ok(Err(problems)),
    };
    report.warnings.extend(config.warnings.iter().cloned());
    let policy = match policy::parse(&catalog::read_policy(&config.policy)?) {
        Ok(policy) => policy,
        Err(problems) => return Ok(Err(problems)),
    };
    let file = args.config.display().to_string();
    for sink in &config.sinks {
        if let Err(error) = notify::Sink::new(sink) {
            report.problems.push(Problem::whole(&file, format!("sink {}: {error}", sink.name), None));
        }
    }
    report.reveals = reveal::lines(&policy);
    let columns = policy.tables.iter().flat_map(|t| &t.columns).filter(|c| c.sealing.is_some()).count();
    report.summary =
        format!("{} tables, {columns} encrypted columns, {} roles", policy.tables.len(), policy.roles.len());
    if args.offline {
        report.warnings.extend(policy.warnings);
        return Ok(Ok(()));
    }
    let connect = match &args.against {
        None => connect::control(&config.control)?,
        Some(url) => against(url, &config)?,
    };
    let keyring = match keys::load(&config.keys.path, &(&config.keys.unlock).into()) {
        Ok(keyring) => Some(keyring),
        Err(error) => {
            report.warnings.push(format!("column ids were not checked: {error}"));
            None
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    if args.against.is_none()
        && let Some(verifiers) = connect::verifiers(&config)?
        && let Err(error) = runtime.block_on(verifiers.check())
    {
        match error {
            Error::Unreachable(_) => {}
            wrong => report.problems.push(Problem::whole(&args.config.display().to_string(), wrong.to_string(), None)),
        }
    }
    match runtime.block_on(compare(&connect, &policy, keyring.as_ref())) {
        Ok(Ok(warnings)) => {
            report.warnings.extend(warnings);
            Ok(Ok(()))
        }
        Ok(Err(problems)) => Ok(Err(problems)),
        Err(error) if args.against.is_some() => Err(error.into()),
        Err(error) => {
            report.warnings.extend(policy.warnings);
            report.warnings.push(format!("not compared with the database: {error}"));
            Ok(Ok(()))
        }
    }
}

fn against(url: &str, config: &Config) -> anyhow::Result<Connect> {
    let url =
        ControlUrl::parse(url, std::path::Path::new("")).map_err(|reason| anyhow::anyhow!("--against: {reason}"))?;
    let mut control = config.control.clone();
    control.tls = url.tls.clone().unwrap_or_else(|| config.upstream.tls.clone());
    control.url = url;
    connect::control(&control)
}

async fn compare(
    connect: &Connect,
    policy: &Policy,
    keyring: Option<&Keyring>,
) -> crate::error::Result<Result<Vec<String>, Vec<Problem>>> {
    let client = connect.open(Arc::default()).await?;
    let schema = catalog::load(&client).await?;
    let schema = Arc::new(schema);
    // Without a keyring every column gets an id of its own, so that everything else is still checked.
    let invented: RefCell<HashMap<String, u32>> = RefCell::default();
    let ids = |column: &str| match keyring {
        Some(keyring) => catalog::column_id(keyring, &schema, column),
        None => {
            let (_, encrypted) = policy.column(column)?;
            let mut invented = invented.borrow_mut();
            let next = u32::try_from(invented.len()).unwrap_or(u32::MAX);
            Some((*invented.entry(column.to_owned()).or_insert(next), encrypted.sealing.as_ref()?.mode))
        }
    };
    Ok(policy::compile(policy, schema.clone(), &ids, 0).map(|rules| rules.warnings))
}
