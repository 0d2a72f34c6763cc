//! `pgveil apply`: the database becomes what the policy says.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::connect;
use crate::clock::Now;
use crate::error::Error;
use crate::lens::{self, Applied, ApplyMode, Lenses, Progress, Statement};
use crate::policy::problem::render;
use crate::sql::schema::Schema;
use crate::{catalog, config, keys, policy};

/// Arguments of `pgveil apply`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  pgveil apply --dry-run --config pgveil.toml   # prints the SQL, changes nothing\n  \
    pgveil apply --config pgveil.toml             # runs it in one transaction\n  \
    pgveil apply --lenses                         # also gives roles with a lower clearance views in place of tables\n  \
    pgveil apply --remove                         # takes the views away again and gives the tables back\n  \
    pgveil apply --superuser | psql -U postgres -d app   # what only a superuser can make\n\n\
    Exit code: 0 when every encrypted column of the policy is sealed, 1 when some are not (said which and why), \
    2 for wrong usage."
)]
pub(super) struct Args {
    /// The config file.
    #[arg(long, default_value = "pgveil.toml")]
    config: PathBuf,
    /// Print the SQL and change nothing.
    #[arg(long)]
    dry_run: bool,
    /// Also make the lenses: for each role of the policy that may not see everything, views in place of the tables,
    /// which PostgreSQL itself enforces. The role loses its rights on the tables; `--remove` gives them back.
    #[arg(long)]
    lenses: bool,
    /// Remove all lenses, give the tables back to their roles, and do nothing else. Sealed columns stay sealed.
    #[arg(long, conflicts_with_all = ["lenses", "superuser"])]
    remove: bool,
    /// Print, and do nothing else, the SQL that a superuser has to run in the same database: the verifier function that
    /// `[auth] mode = "terminate"` needs, the event trigger that tells the proxy of DDL at once, and where the control
    /// account may not, the owner of lenses and the right that purposes need.
    #[arg(long, conflicts_with_all = ["dry_run", "lenses"])]
    superuser: bool,
}

/// Plans against the live catalog, and carries it out unless it is a dry run.
pub(super) fn carry_out(path: &Path, mode: ApplyMode, progress: Progress<'_>) -> anyhow::Result<Applied> {
    let config = config::load(path)?;
    let policy = policy::parse(&catalog::read_policy(&config.policy)?)
        .map_err(|problems| anyhow::anyhow!("the policy has problems:\n{}", render(&problems)))?;
    let connect = connect::control(&config.control)?;
    let mode = ApplyMode { own_tables: config.store.ship, ..mode };
    let unlock = (&config.keys.unlock).into();
    let ring = keys::load(&config.keys.path, &unlock)?;
    let known = |schema: &Schema, column: &str| catalog::column_id(&ring, schema, column);
    let mut allocate = |bindings: &[keys::ColumnBinding]| {
        let ids = keys::allocate(&config.keys.path, &unlock, bindings, Now::read());
        let ids = ids.map_err(|error| Error::Key(error.to_string()))?;
        Ok(ids.into_iter().map(|id| (id.column_id, id.new)).collect())
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(runtime.block_on(lens::apply(&connect, &policy, mode, &known, &mut allocate, progress))?)
}

pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let lenses = match () {
        () if args.remove => Lenses::Remove,
        () if args.lenses => Lenses::Apply,
        () => Lenses::Keep,
    };
    let mode =
        ApplyMode { dry_run: args.dry_run || args.superuser, lenses, own_tables: false, superuser: args.superuser };
    let mut progress = |number: usize, count: usize, statement: &Statement| {
        if args.superuser {
            // Not asked for.
        } else if args.dry_run {
            if number == 1 {
                println!("begin;\nset local search_path = pg_catalog;");
            }
            println!("{statement}");
            if number == count {
                println!("commit;");
            }
        } else {
            println!("[{number}/{count}] {}", statement.why);
        }
    };
    let applied = carry_out(&args.config, mode, &mut progress)?;
    if args.superuser {
        print_script(&applied.plan.superuser);
        return Ok(ExitCode::SUCCESS);
    }
    Ok(report(args, &applied))
}

fn print_script(statements: &[Statement]) {
    if statements.is_empty() {
        return println!("-- nothing is missing");
    }
    println!("begin;");
    statements.iter().for_each(|statement| println!("{statement}"));
    println!("commit;");
}

fn report(args: &Args, applied: &Applied) -> ExitCode {
    let (plan, observes) = (&applied.plan, applied.observes);
    let comment = if args.dry_run { "-- " } else { "" };
    let say = |text: &str| println!("{comment}{}", text.replace('\n', &format!("\n{comment}")));
    for (column, id) in &applied.ids {
        say(&format!("{column} has column id {id}"));
    }
    if plan.statements.is_empty() {
        say("nothing to do");
    } else if args.dry_run {
        say(&format!("{} statements; nothing was changed", plan.statements.len()));
    } else if args.remove {
        say("done: the lenses are gone");
    } else {
        say(&format!("done: {} columns sealed", plan.sealed.len()));
    }
    if args.remove && applied.own_tables {
        say("pgveil's own tables stay, with the access log in them; only who drops schema pgveil drops them");
    }
    if !args.lenses && !plan.lenses.is_empty() {
        let until = match observes {
            true => "Do that when the policy enforces: it only observes, and lenses hold whatever it says.",
            false => "Until then pgveil refuses whatever SQL could show them more.",
        };
        say(&format!(
            "\nRoles that may not see everything have no lens, or another than the policy's: `pgveil apply --lenses`\n\
             makes it (with --dry-run it is printed). {until}"
        ));
    }
    if args.lenses && observes {
        say(
            "\nThe policy only observes (mode = \"observe\"), and PostgreSQL does not: roles with a lens are held to it.",
        );
    }
    if !plan.waiting.is_empty() {
        let until = match observes {
            true => {
                "Until then they are plaintext; once the policy enforces, statements that name their tables are refused (PV026):"
            }
            false => "Until then pgveil refuses statements that name their tables (PV026):",
        };
        say(&format!(
            "\nThese columns hold rows and were left as they are; `pgveil seal` (next release) moves them online.\n{until}"
        ));
        plan.waiting.iter().for_each(|column| say(&format!("  {column}")));
    }
    if !plan.refused.is_empty() {
        eprintln!("\nThese columns cannot be sealed as things stand:\n{}", render(&plan.refused));
    }
    if plan.complete() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
