//! `pgveil diff`: in what the database is not what the policy says.

use std::path::PathBuf;
use std::process::ExitCode;

use super::apply::carry_out;
use crate::lens::{ApplyMode, Lenses, Statement};

/// Arguments of `pgveil diff`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  pgveil diff --lenses\n  \
    pgveil diff --lenses; [ $? = 1 ] && pgveil apply --lenses   # only where something differs\n\n\
    Nothing is changed. `+` is made, `-` is taken away, `~` becomes another, `!` is in the way. Exit code: 0 when nothing\n\
    differs, 1 when something does, 2 for wrong usage or when the database or policy cannot be read.")]
pub(super) struct Args {
    /// The config file.
    #[arg(long, default_value = "pgveil.toml")]
    config: PathBuf,
    /// Also in what the lenses are not the policy's, as `pgveil apply --lenses` would make them.
    #[arg(long)]
    lenses: bool,
}

/// Exit code of trouble, as of diff(1).
const TROUBLE: u8 = 2;

pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    Ok(differences(args).unwrap_or_else(|error| {
        eprintln!("pgveil: {error:#}");
        ExitCode::from(TROUBLE)
    }))
}

fn differences(args: &Args) -> anyhow::Result<ExitCode> {
    let lenses = if args.lenses { Lenses::Apply } else { Lenses::Keep };
    let mode = ApplyMode { dry_run: true, lenses, own_tables: false, superuser: false };
    let mut statements: Vec<Statement> = Vec::new();
    let applied = carry_out(&args.config, mode, &mut |_, _, statement| statements.push(statement.clone()))?;
    let mut counts = [0; 3];
    for statement in &statements {
        let (sign, count) = match statement.sql.split_whitespace().next().unwrap_or_default() {
            "drop" | "revoke" | "delete" => ('-', 1),
            "alter" => ('~', 2),
            _ => ('+', 0),
        };
        counts[count] += 1;
        println!("{sign} -- {}", statement.why.replace('\n', " "));
        statement.sql.lines().for_each(|line| println!("{sign} {line}"));
    }
    let plan = &applied.plan;
    let waiting = plan.waiting.iter().map(|column| format!("{column} is to be sealed, and its table holds rows"));
    let refused = plan.refused.iter().map(|problem| problem.message.clone());
    let obstacles: Vec<String> = waiting.chain(refused).collect();
    obstacles.iter().for_each(|obstacle| println!("! {obstacle}"));
    if statements.is_empty() && obstacles.is_empty() {
        println!("the database is what the policy says");
        return Ok(ExitCode::SUCCESS);
    }
    let [made, taken, changed] = counts;
    println!("{made} to make, {taken} to take away, {changed} to change, {} in the way", obstacles.len());
    Ok(ExitCode::FAILURE)
}
