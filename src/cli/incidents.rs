//! `pgveil incidents`: what alerts became, and what is done about it.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Subcommand;
use jiff::Timestamp;
use tokio_postgres::Client;

use super::connect;
use crate::catalog;
use crate::clock::Now;
use crate::config::{self, Config};
use crate::detect::incident::{Progress, Step, Verdict};
use crate::error::Result;
use crate::event::{Actor, ActorAuth, Alert, Event, EventKind};
use crate::keys;
use crate::policy;
use crate::report::{self, Facts};
use crate::store::Store;
use crate::store::incidents::{self, Change, Incident, Remarks, SignalOf};

/// Arguments of `pgveil incidents`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    action: Action,
    /// The config file.
    #[arg(long, default_value = "pgveil.toml", global = true)]
    config: PathBuf,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Incidents that are open, the newest first.
    #[command(after_help = "Examples:\n  pgveil incidents list\n  pgveil incidents list --all --json | jq '.[].actor'")]
    List {
        /// Those that are closed too, a thousand at most.
        #[arg(long)]
        all: bool,
        /// One JSON list.
        #[arg(long)]
        json: bool,
    },
    /// One incident: its alerts, its clocks, its history.
    #[command(after_help = "Example:\n  pgveil incidents show INC-7")]
    Show {
        #[command(flatten)]
        which: Which,
        /// One JSON object: incident, signals, history.
        #[arg(long)]
        json: bool,
    },
    /// Say that personal data is concerned, with reasonable certainty. The 72 hours start.
    #[command(after_help = "Example:\n  pgveil incidents aware INC-7 --owner 'R. Vos' --at 2026-11-20T08:00:00Z")]
    Aware {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        said: Said,
        /// Who sees to it from now on.
        #[arg(long)]
        owner: Option<String>,
    },
    /// Say that it goes on no more.
    #[command(after_help = "Example:\n  pgveil incidents contain INC-7 --note 'role locked, passwords changed'")]
    Contain {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        said: Said,
    },
    /// Say that the authority was told, or the people concerned.
    #[command(after_help = "Examples:\n  pgveil incidents notify INC-7\n  \
        pgveil incidents notify INC-7 --delay-reason 'the logs had to be restored first'\n  \
        pgveil incidents notify INC-7 --subjects")]
    Notify {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        said: Said,
        /// The people concerned (Article 34), not the authority.
        #[arg(long, conflicts_with = "delay_reason")]
        subjects: bool,
        /// Why it was later than 72 hours.
        #[arg(long)]
        delay_reason: Option<String>,
    },
    /// End it, with a verdict.
    #[command(
        after_help = "Examples:\n  pgveil incidents close INC-7 --verdict incident --root-cause 'shared password'\n  \
        pgveil incidents close INC-8 --verdict benign --note 'yearly export, announced'"
    )]
    Close {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        said: Said,
        /// What it was: false_positive, benign or incident.
        #[arg(long, value_parser = verdict)]
        verdict: Verdict,
        /// Why it could happen.
        #[arg(long)]
        root_cause: Option<String>,
        /// Why the authority was not told of it: no risk to anybody is likely (Article 33(1)).
        #[arg(long, value_name = "WHY")]
        not_notified: Option<String>,
    },
    /// Draft a notification, from the access log and the incident's history. Markdown.
    #[command(after_help = "Examples:\n  pgveil incidents report INC-7 --art33 > inc-7.md\n  \
        pgveil incidents report INC-7 --art34")]
    Report {
        #[command(flatten)]
        which: Which,
        /// To the supervisory authority.
        #[arg(long, required_unless_present = "art34", conflicts_with = "art34")]
        art33: bool,
        /// To the people concerned.
        #[arg(long)]
        art34: bool,
    },
    /// Go the whole way with an invented alert, and print the complete draft. It is kept as a drill, closed, and counted
    /// nowhere.
    #[command(after_help = "Example:\n  pgveil incidents drill > drill.md")]
    Drill {
        /// Who does it; else the user who is logged in here.
        #[arg(long)]
        by: Option<String>,
    },
}

#[derive(Debug, clap::Args)]
struct Which {
    /// Its number, such as INC-7 or 7.
    #[arg(value_name = "ID", value_parser = number)]
    id: i64,
}

#[derive(Debug, clap::Args)]
struct Said {
    /// When, if not now, such as 2026-11-20T08:00:00Z.
    #[arg(long, value_name = "TIME")]
    at: Option<Timestamp>,
    /// Who does it; else the user who is logged in here.
    #[arg(long)]
    by: Option<String>,
    /// Anything else, for the history.
    #[arg(long)]
    note: Option<String>,
    /// One JSON object: the incident as it is then.
    #[arg(long)]
    json: bool,
}

fn number(text: &str) -> std::result::Result<i64, String> {
    let digits = text.strip_prefix("INC-").or(text.strip_prefix("inc-")).unwrap_or(text);
    digits.parse().map_err(|_| "no number of an incident; like INC-7 or 7".to_owned())
}

fn verdict(word: &str) -> std::result::Result<Verdict, String> {
    let known = Verdict::named(word).filter(|verdict| *verdict != Verdict::Open);
    known.ok_or_else(|| "one of: false_positive, benign, incident".to_owned())
}

/// Whoever is logged in here.
fn who(by: Option<&String>) -> String {
    let named = || ["SUDO_USER", "USER", "LOGNAME"].iter().find_map(|name| std::env::var(name).ok());
    by.cloned().or_else(named).unwrap_or_else(|| "unknown".to_owned())
}

pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let config = config::load(&args.config)?;
    let store = Store::new(connect::control(&config.control)?);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        store.ready().await?;
        match &args.action {
            Action::List { all, json } => {
                let found = store.within(async |client| incidents::list(client, *all).await).await?;
                list(&found, *json)
            }
            Action::Show { which, json } => show(&read(&store, which.id).await?, *json),
            Action::Report { which, art34, .. } => {
                println!("{}", draft(&config, &store, &read(&store, which.id).await?, *art34).await?);
                Ok(())
            }
            Action::Drill { by } => drill(&config, &store, &who(by.as_ref())).await,
            Action::Aware { which, said, owner } => {
                let remarks = Remarks { owner: owner.clone(), ..remarks(said) };
                step(&store, which.id, &Step::Aware, said, &remarks).await
            }
            Action::Contain { which, said } => step(&store, which.id, &Step::Contain, said, &remarks(said)).await,
            Action::Notify { which, said, subjects: true, .. } => {
                step(&store, which.id, &Step::NotifySubjects, said, &remarks(said)).await
            }
            Action::Notify { which, said, delay_reason, .. } => {
                let told = Step::Notify { delay_reason: delay_reason.clone() };
                step(&store, which.id, &told, said, &remarks(said)).await
            }
            Action::Close { which, said, verdict, root_cause, not_notified } => {
                let remarks = Remarks { root_cause: root_cause.clone(), ..remarks(said) };
                let close = Step::Close { verdict: *verdict, not_notified: not_notified.clone() };
                step(&store, which.id, &close, said, &remarks).await
            }
        }
    })?;
    Ok(ExitCode::SUCCESS)
}

fn remarks(said: &Said) -> Remarks {
    Remarks { by: who(said.by.as_ref()), note: said.note.clone(), ..Remarks::default() }
}

async fn step(store: &Store, id: i64, step: &Step, said: &Said, remarks: &Remarks) -> anyhow::Result<()> {
    let now = Now::read().unix_us;
    let at = said.at.map_or(now, Timestamp::as_microsecond);
    let after = store.within(async |client| incidents::step(client, id, step, (at, now), remarks).await).await?;
    if said.json {
        println!("{}", serde_json::to_string(&after)?);
    } else {
        println!("{}", sentence(&after));
    }
    Ok(())
}

/// An incident with all that belongs to it.
struct Whole {
    incident: Incident,
    signals: Vec<SignalOf>,
    history: Vec<Change>,
}

async fn whole(client: &Client, id: i64) -> Result<Whole> {
    Ok(Whole {
        incident: incidents::find(client, id).await?,
        signals: incidents::signals(client, id).await?,
        history: incidents::history(client, id).await?,
    })
}

async fn read(store: &Store, id: i64) -> Result<Whole> {
    store.within(async |client| whole(client, id).await).await
}

fn list(found: &[Incident], json: bool) -> anyhow::Result<()> {
    if json {
        println!("{}", serde_json::to_string(found)?);
    } else if found.is_empty() {
        println!("no incidents; closed ones are shown with --all");
    } else {
        found.iter().for_each(|incident| println!("{}", sentence(incident)));
    }
    Ok(())
}

fn show(whole: &Whole, json: bool) -> anyhow::Result<()> {
    let Whole { incident, signals, history } = whole;
    if json {
        println!("{}", serde_json::json!({ "incident": incident, "signals": signals, "history": history }));
        return Ok(());
    }
    println!("{}", sentence(incident));
    for signal in signals {
        println!("  {} × {} ({}): {}", signal.signals, signal.rule, signal.severity, signal.message);
    }
    for (name, said) in [
        ("owner", &incident.owner),
        ("root cause", &incident.root_cause),
        ("delay", &incident.delay_reasons),
        ("notes", &incident.notes),
    ] {
        if let Some(said) = said {
            println!("  {name}: {}", said.escape_debug());
        }
    }
    for change in history {
        println!("  {}  {:<17} by {}", at(change.at_us), change.change, change.by.escape_debug());
    }
    Ok(())
}

/// One line: number, how bad, how far, who, what, and the nearest deadline.
fn sentence(incident: &Incident) -> String {
    let Incident { id, actor, database, signals, progress, drill, .. } = incident;
    let mut line = format!(
        "INC-{id}  {:<8}  {:<9}  {} in {}: {signals} × {}, {} to {}",
        incident.severity.as_str(),
        progress.stage(),
        actor.escape_debug(),
        database.escape_debug(),
        incident.rules.join(", "),
        at(incident.first_us),
        at(incident.last_us),
    );
    if progress.verdict != Verdict::Open {
        line.push_str(&format!("  verdict: {}", progress.verdict.as_str()));
    }
    if let Some(due) = progress.authority_due_us() {
        line.push_str(&format!("  notify by {}", at(due)));
    }
    if *drill {
        line.push_str("  (drill)");
    }
    line
}

fn at(us: i64) -> String {
    Timestamp::from_microsecond(us).map_or_else(|_| us.to_string(), |at| format!("{at:.0}"))
}

/// Until when its actor's doings count.
fn until(progress: &Progress, now_us: i64) -> i64 {
    progress.contained_us.or(progress.closed_us).unwrap_or(now_us)
}

async fn draft(config: &Config, store: &Store, whole: &Whole, art34: bool) -> anyhow::Result<String> {
    let categories = report::categories(&policy_of(config)?);
    let light = report::light(&categories);
    let (incident, now_us) = (&whole.incident, Now::read().unix_us);
    let until_us = until(&incident.progress, now_us);
    let (evidence, auth) = if incident.drill {
        (report::synthetic(&categories, incident.since_us, incident.last_us), vec!["scram-sha-256".to_owned()])
    } else {
        let shipped =
            store.within(async |client| incidents::evidence(client, incident, until_us, &light).await).await?;
        match shipped {
            (evidence, auth, true) => (evidence, auth),
            // Not copied, or not yet.
            (_, _, false) => report::evidence(&config.audit.dir, incident, until_us, &light)?,
        }
    };
    let facts = Facts {
        incident,
        signals: &whole.signals,
        history: &whole.history,
        evidence: &evidence,
        auth: &auth,
        until_us,
        categories: &categories,
        organization: &config.organization,
        now_us,
    };
    Ok(if art34 { report::art34(&facts) } else { report::art33(&facts) })
}

fn policy_of(config: &Config) -> anyhow::Result<policy::Policy> {
    let files = catalog::read_policy(&config.policy)?;
    policy::parse(&files).map_err(|problems| anyhow::anyhow!(policy::problem::render(&problems)))
}

async fn drill(config: &Config, store: &Store, by: &str) -> anyhow::Result<()> {
    let keyring = keys::load(&config.keys.path, &keys::Unlock::from(&config.keys.unlock))?;
    let deployment = hex::encode(keyring.deployment_id());
    let remarks = Remarks { by: by.to_owned(), note: Some("a drill".to_owned()), ..Remarks::default() };
    let steps = [
        Step::Aware,
        Step::Contain,
        Step::Notify { delay_reason: None },
        Step::NotifySubjects,
        Step::Close { verdict: Verdict::Incident, not_notified: None },
    ];
    let alert = invented(Now::read().unix_us);
    let done = store
        .within(async |client| {
            let id = incidents::drill(client, &deployment, &alert).await?.id;
            for step in &steps {
                let now = Now::read().unix_us;
                incidents::step(client, id, step, (now, now), &remarks).await?;
            }
            whole(client, id).await
        })
        .await?;
    println!("{}", draft(config, store, &done, false).await?);
    eprintln!("the drill is kept as INC-{}", done.incident.id);
    Ok(())
}

fn invented(at_us: i64) -> Event {
    let mut event = Event::new(EventKind::Alert, at_us);
    let actor = Actor {
        role: "drill".to_owned(),
        database: "drill".to_owned(),
        auth: ActorAuth::ScramSha256,
        certificate: None,
        application: String::new(),
        client: None,
        purpose: None,
        purpose_by: None,
        person: None,
    };
    event.actor = Some(actor.into());
    event.alert = Some(Alert {
        rule: "bulk".to_owned(),
        severity: "high".to_owned(),
        observed: 501,
        threshold: 100,
        window_s: 900,
        address: None,
        action: Default::default(),
        message: "\"drill\" accessed at least 501 records in 15 minutes (invented)".to_owned(),
    });
    event
}
