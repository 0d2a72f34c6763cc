//! `pgveil doctor`: proves, column by column, that nothing has a hole.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use serde::Serialize;

use super::connect;
use crate::catalog::{self, Connect};
use crate::config::{self, Config, ControlUrl, TlsMode, UpstreamTls};
use crate::doctor::{self, Check, Given, Leg, Legs, Severity, Step};
use crate::policy::{self, Policy};
use crate::{keys, policy::rules::Rules};

/// Arguments of `pgveil doctor`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  pgveil doctor --config pgveil.toml\n  \
    pgveil doctor --role analyst=postgresql://analyst@db:5432/app\n  \
    pgveil doctor --full --json\n\n\
    Passwords come from the URL, PGPASSWORD or the password file.\n\
    Exit code: 0 when there is no hole (warnings do not fail), 1 when there is one, 2 for wrong usage.")]
pub(super) struct Args {
    /// The config file.
    #[arg(long, default_value = "pgveil.toml")]
    config: PathBuf,
    /// Also connect as this role, past the proxy, and try what it sees. May be given several times.
    #[arg(long = "role", value_name = "NAME=URL", value_parser = named)]
    roles: Vec<(String, ControlUrl)>,
    /// Read tables of any size whole.
    #[arg(long)]
    full: bool,
    /// One JSON object: ok, holes, warnings, checks.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Report {
    ok: bool,
    holes: usize,
    warnings: usize,
    checks: Vec<Check>,
}

/// `NAME=URL`. The text is not repeated: it may hold a password.
fn named(text: &str) -> Result<(String, ControlUrl), String> {
    let (name, url) = text.split_once('=').ok_or("is NAME=URL, such as analyst=postgresql://analyst@db/app")?;
    let url = ControlUrl::parse(url, Path::new(""))?;
    if url.config.get_user() != Some(name) {
        return Err(format!("the URL of {name} names another user"));
    }
    Ok((name.to_owned(), url))
}

pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let config = config::load(&args.config)?;
    let mut checks = Vec::new();
    checks.extend(config.warnings.iter().map(|warning| Check::warning("config", warning.clone())));
    let ring = match keys::load(&config.keys.path, &(&config.keys.unlock).into()) {
        Ok(ring) => Some(ring),
        Err(error) => {
            let check = Check::hole("keyring", format!("the keyring does not open: {error}"));
            checks.push(check.step(Step::Run("pgveil keys list".into())));
            None
        }
    };
    if let Some(policy) = policy(&config, &mut checks)? {
        let given = Given { policy: &policy, keyring: ring.as_ref(), full: args.full, legs: legs(&config) };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(examine(args, &config, &given, &mut checks))?;
    }
    checks.push(doctor::hardware());
    checks.extend(doctor::access_log(&config.audit.dir, ring.as_ref().map(|ring| ring.audit_key())));
    if let Some(ring) = &ring {
        let public = crate::audit::VerifierKey::new(ring.audit_key(), ring.deployment_id());
        checks.extend(doctor::anchors(&config.audit.anchors, &config.audit.dir, ring.audit_key(), &public));
    }
    let count = |severity| checks.iter().filter(|check| check.severity == severity).count();
    let (holes, warnings) = (count(Severity::Hole), count(Severity::Warning));
    let report = Report { ok: holes == 0, holes, warnings, checks };
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print(&report);
    }
    Ok(if report.ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn policy(config: &Config, checks: &mut Vec<Check>) -> anyhow::Result<Option<Policy>> {
    match policy::parse(&catalog::read_policy(&config.policy)?) {
        Ok(policy) => {
            let (tables, roles) = (policy.tables.len(), policy.roles.len());
            checks.push(Check::ok("policy", format!("loads: {tables} tables, {roles} roles")));
            Ok(Some(policy))
        }
        Err(problems) => {
            checks.extend(problems.iter().map(|problem| {
                let place = format!("{}:{}", problem.file, problem.line);
                let check = Check::hole("policy", format!("does not load: {place}: {}", problem.message));
                check.step(Step::Run("pgveil check --offline".into()))
            }));
            Ok(None)
        }
    }
}

async fn examine(args: &Args, config: &Config, given: &Given<'_>, checks: &mut Vec<Check>) -> anyhow::Result<()> {
    let examined = match connect::control(&config.control)?.open(Arc::default()).await {
        Ok(client) => doctor::examine(&client, given).await,
        Err(error) => Err(error),
    };
    let (found, rules) = match examined {
        Ok(examined) => examined,
        Err(error) => {
            let message = format!("nothing in the database was looked at, so nothing is proved: {error}");
            checks.push(Check::hole("control", message).step(Step::Run("pgveil check".into())));
            return Ok(());
        }
    };
    checks.extend(found);
    for (name, url) in &args.roles {
        let Some(rules) = &rules else {
            checks.push(Check::warning(
                "as_role",
                format!("{name} was not tried: policy and catalog contradict each other"),
            ));
            continue;
        };
        checks.extend(as_role(config, name, url, rules).await);
    }
    Ok(())
}

async fn as_role(config: &Config, name: &str, url: &ControlUrl, rules: &Rules) -> Vec<Check> {
    let client = match connection(config, url) {
        Ok(connect) => connect.open(Arc::default()).await.map_err(anyhow::Error::from),
        Err(error) => Err(error),
    };
    match client {
        Ok(client) => doctor::as_role(&client, name, rules).await,
        Err(error) => vec![Check::warning("as_role", format!("no connection as {name}: {error:#}"))],
    }
}

/// Like `[control]`, under another name: its named password sources are its own, so they do not count.
fn connection(config: &Config, url: &ControlUrl) -> anyhow::Result<Connect> {
    let mut control = config.control.clone();
    control.tls = url.tls.clone().unwrap_or_else(|| config.upstream.tls.clone());
    control.url = url.clone();
    (control.password_env, control.password_file) = (None, None);
    connect::control(&control)
}

fn legs(config: &Config) -> Legs {
    let towards = |tls: &UpstreamTls, local: bool| {
        let mode = match tls.mode {
            TlsMode::Disable => None,
            TlsMode::Require => Some("require"),
            TlsMode::VerifyCa => Some("verify-ca"),
            TlsMode::VerifyFull => Some("verify-full"),
        };
        Leg { tls: mode.map(str::to_owned), local, certain: tls.mode == TlsMode::VerifyFull }
    };
    let host = &*config.upstream.host;
    let local =
        host == "localhost" || host.starts_with('/') || host.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback());
    let listen = config.listen.tls.as_ref();
    let required = listen.is_some_and(|tls| tls.required);
    let words = |required: bool| if required { "required" } else { "offered" }.to_owned();
    Legs {
        clients: Leg {
            tls: listen.map(|_| words(required)),
            local: config.listen.postgres.ip().is_loopback(),
            certain: required,
        },
        upstream: towards(&config.upstream.tls, local),
        control: towards(&config.control.tls, config.control.url.hosts_are_local()),
    }
}

// ---- for people ----------------------------------------------------------------------------------------------------

fn print(report: &Report) {
    let mut groups: BTreeMap<(Option<&str>, Option<&str>), Vec<&Check>> = BTreeMap::new();
    for check in &report.checks {
        groups.entry((check.table.as_deref(), check.column.as_deref())).or_default().push(check);
    }
    let mut table = None;
    for ((of, column), checks) in groups {
        if of != table || (of.is_none() && table.is_none() && column.is_none()) {
            println!(
                "{}{}",
                if table.is_some() || of.is_some() { "\n" } else { "" },
                of.unwrap_or("database and server")
            );
            table = of;
        }
        let indent = if column.is_some() { "    " } else { "  " };
        if let Some(column) = column {
            let worst = checks.iter().map(|check| check.severity).max().unwrap_or(Severity::Ok);
            let fine: Vec<&str> =
                checks.iter().filter(|c| c.severity == Severity::Ok).map(|c| c.message.as_str()).collect();
            println!(
                "  {} {column}: {}",
                sign(worst),
                if fine.is_empty() { "see below".into() } else { fine.join(" · ") }
            );
        }
        for check in checks {
            if column.is_none() || check.severity != Severity::Ok {
                line(check, indent);
            }
        }
    }
    let warnings = format!("{} warning{}", report.warnings, if report.warnings == 1 { "" } else { "s" });
    match report.holes {
        0 => println!("\nno hole ({} checks, {warnings})", report.checks.len()),
        1 => println!("\n1 hole ({} checks, {warnings})", report.checks.len()),
        holes => println!("\n{holes} holes ({} checks, {warnings})", report.checks.len()),
    }
}

fn line(check: &Check, indent: &str) {
    println!("{indent}{} {:<15} {}", sign(check.severity), check.check, check.message);
    for step in &check.way_out {
        let text = match step {
            Step::Run(command) => format!("$ {command}"),
            Step::Sql(sql) => format!("{sql};"),
            Step::Do(what) => format!("→ {what}"),
        };
        println!("{indent}    {}", text.replace('\n', &format!("\n{indent}    ")));
    }
}

fn sign(severity: Severity) -> char {
    match severity {
        Severity::Ok => '✓',
        Severity::Warning => '!',
        Severity::Hole => '✗',
    }
}
