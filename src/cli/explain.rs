//! `pgveil explain`: what would happen to a statement, and why.

use std::collections::HashSet;
use std::io::Read;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use super::connect;
use crate::catalog::{self, leading_index};
use crate::config::{self, SubjectKeys};
use crate::plan::report::{Asker, Index, LensState, Report, Verdict};
use crate::plan::{Cache, Request};
use crate::policy::path::{split, through};
use crate::policy::problem::render;
use crate::policy::rules::{ClassId, Rules, SealedColumn};
use crate::sql::name::quoted;
use crate::{keys, policy};

/// Arguments of `pgveil explain`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  pgveil explain \"select email from users where id = 7\" --as analyst\n  \
    pgveil explain \"select * from users where email = $1\" --as app --json\n  \
    pgveil explain \"select * from people\" --as clinic --purpose research\n  \
    pgveil explain - --as analyst < report.sql\n\n\
    Nothing is run: the policy, the keyring's column ids and the catalog are read. Constants of the statement are never\n\
    printed. Under mode = \"observe\" it says what enforcing would do. Exit code: 0 when the statement would be forwarded, 1 when it would be refused, 2 for wrong usage.")]
pub(super) struct Args {
    /// The SQL text; `-` reads it from standard input.
    sql: String,
    /// The login that would send it. One without an entry in the policy gets `default_role`.
    #[arg(long = "as", value_name = "ROLE")]
    role: String,
    /// What it acts for; without this what the policy says for when nothing is claimed.
    #[arg(long, value_name = "PURPOSE")]
    purpose: Option<String>,
    /// The config file.
    #[arg(long, default_value = "pgveil.toml")]
    config: PathBuf,
    /// One JSON object: decision, role, search_path, refusal, statements, indexes.
    #[arg(long)]
    json: bool,
}

/// Exit code of wrong usage.
const WRONG_USAGE: u8 = 2;

pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let sql = match args.sql.as_str() {
        "-" => {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text)?;
            text
        }
        text => text.to_owned(),
    };
    if sql.trim().is_empty() {
        eprintln!("pgveil explain: there is no statement; give it as an argument, or `-` and on standard input");
        return Ok(ExitCode::from(WRONG_USAGE));
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let report = runtime.block_on(explain(args, &sql))?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        report.lines().iter().for_each(|line| println!("{line}"));
    }
    let refused = match report.decision {
        Verdict::Refused => true,
        Verdict::Unknown => report.role.lens == LensState::Missing,
        Verdict::Pass | Verdict::Act => false,
    };
    Ok(if refused { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Rules as the proxy would make them now, and its planner's answer.
async fn explain(args: &Args, sql: &str) -> anyhow::Result<Report> {
    let config = config::load(&args.config)?;
    let problems = |problems: Vec<_>| anyhow::anyhow!("the policy has problems:\n{}", render(&problems));
    let policy = policy::parse(&catalog::read_policy(&config.policy)?).map_err(problems)?;
    let ring = keys::load(&config.keys.path, &(&config.keys.unlock).into())?;
    let client = connect::control(&config.control)?.open(Arc::default()).await?;
    let schema = Arc::new(catalog::load(&client).await?);
    let named = schema.clone();
    let ids = |column: &str| catalog::column_id(&ring, &named, column);
    let mut rules = policy::compile(&policy, schema, &ids, 1).map_err(problems)?;
    catalog::trust(Some(&client), &mut rules).await?;
    let path = catalog::search_path(&client, &args.role).await?;
    let class = class(&args.role, args.purpose.as_deref(), &rules)?;
    let keys = if config.audit.subject_keys == SubjectKeys::Add { rules.readers.of(&args.role) } else { 0 };
    let mut report = report(sql, (&args.role, keys), class, &path, &rules);
    let mut indexes = Vec::with_capacity(report.searched.len());
    for column in &report.searched {
        indexes.push(advice(column, leading_index(&client, column.relation_oid, column.attnum).await?, &rules));
    }
    report.indexes = Some(indexes);
    Ok(report)
}

fn class(role: &str, purpose: Option<&str>, rules: &Rules) -> anyhow::Result<ClassId> {
    let own = rules.class_of(role);
    let Some(purpose) = purpose else { return Ok(own) };
    let acts = &rules.class(own).acts;
    if let Some(act) = acts.iter().find(|act| *act.purpose == *purpose) {
        return Ok(act.class);
    }
    let names: Vec<&str> = acts.iter().map(|act| &*act.purpose).collect();
    let allowed = if names.is_empty() { "no purpose".to_owned() } else { names.join(", ") };
    anyhow::bail!("{role} may not act for the purpose \"{purpose}\"; the policy gives it: {allowed}")
}

/// `role`: its name, and the keys that it may be asked for.
fn report(sql: &str, (role, keys): (&str, u16), class: ClassId, path: &str, rules: &Rules) -> Report {
    let mut search_path = through(&split(path), role, rules.class(class).lens.as_deref());
    search_path.iter_mut().filter(|schema| ***schema == *"$user").for_each(|schema| *schema = role.into());
    let request = Request {
        sql,
        parameter_oids: &[],
        extended: true,
        class,
        role,
        keys,
        search_path: &search_path,
        temporary: &HashSet::new(),
        rules,
    };
    Report::new(&request, &Cache::new(0).decide(&request), Asker::Operator)
}

fn advice(column: &SealedColumn, index: Option<String>, rules: &Rules) -> Index {
    let create = match (&index, rules.schema.relation(column.relation_oid)) {
        (None, Some(table)) => {
            let names = [&table.schema, &table.name, &column.column].map(|name| quoted(name));
            Some(format!("create index on {}.{} ({});", names[0], names[1], names[2]))
        }
        _ => None,
    };
    Index { column: format!("{}.{}", column.relation, column.column), index, create }
}
