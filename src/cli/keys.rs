//! `pgveil keys`: make, list and rotate the keys of the keyring file.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Subcommand;

use crate::clock::Now;
use crate::config;
use crate::crypto::{Keyring, SealMode};
use crate::keys::{self, Cost, Unlock};

/// Arguments of `pgveil keys`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Make a keyring file, mode 0600, with a fresh deployment id. Never overwrites one.
    #[command(after_help = "Examples:\n  pgveil keys init --config pgveil.toml\n  \
        pgveil keys init --keyring keyring.toml --prompt\n  \
        pgveil keys init --keyring keyring.toml --key-file kek --create-key-file")]
    Init(Init),
    /// Check the whole keyring file and list its columns: ids, keys, ages. Shows no key.
    #[command(after_help = "Example:\n  pgveil keys list --config pgveil.toml --json")]
    List(List),
    /// Give a randomized column a new key. Old cells stay readable; reload the proxies (SIGHUP or restart) afterwards.
    #[command(after_help = "Example:\n  pgveil keys rotate public.users.full_name --config pgveil.toml")]
    Rotate(Rotate),
}

#[derive(Debug, clap::Args)]
struct Init {
    #[command(flatten)]
    place: Place,
    /// First make the key file: 64 random hex digits, mode 0600.
    #[arg(long)]
    create_key_file: bool,
}

#[derive(Debug, clap::Args)]
struct List {
    #[command(flatten)]
    place: Place,
    /// One JSON object per column.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct Rotate {
    /// schema.table.column
    column: String,
    /// Which database's, if the keyring has the column in several.
    #[arg(long)]
    database: Option<String>,
    #[command(flatten)]
    place: Place,
}

/// Which keyring, and what unlocks it: as the config file says, unless said here.
#[derive(Debug, clap::Args)]
pub(super) struct Place {
    /// The config file, whose [keys] section names the keyring and what unlocks it.
    #[arg(long, default_value = "pgveil.toml", conflicts_with = "keyring")]
    config: PathBuf,
    /// The keyring file; the config file is not read.
    #[arg(long)]
    keyring: Option<PathBuf>,
    #[command(flatten)]
    unlock: UnlockArgs,
}

#[derive(Debug, clap::Args)]
#[group(multiple = false)]
struct UnlockArgs {
    /// The passphrase is in this environment variable.
    #[arg(long, value_name = "NAME")]
    passphrase_env: Option<String>,
    /// The passphrase is this file's first line; mode 0600.
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
    /// This file holds the key: 32 bytes or 64 hex digits; mode 0600.
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// Ask for the passphrase on the terminal (the default with --keyring).
    #[arg(long)]
    prompt: bool,
}

impl Place {
    /// The config file, read or not.
    pub(super) fn config(&self) -> &Path {
        &self.config
    }

    /// The keyring file and what unlocks it.
    pub(super) fn resolve(&self) -> anyhow::Result<(PathBuf, Unlock)> {
        let given = self.unlock.given();
        if let Some(keyring) = &self.keyring {
            return Ok((keyring.clone(), given.unwrap_or(Unlock::Prompt)));
        }
        let config = config::load(&self.config)?;
        Ok((config.keys.path, given.unwrap_or_else(|| Unlock::from(&config.keys.unlock))))
    }
}

impl UnlockArgs {
    fn given(&self) -> Option<Unlock> {
        let env = self.passphrase_env.clone().map(Unlock::PassphraseEnv);
        let file = || self.passphrase_file.clone().map(Unlock::PassphraseFile);
        let key = || self.key_file.clone().map(Unlock::KeyFile);
        env.or_else(file).or_else(key).or_else(|| self.prompt.then_some(Unlock::Prompt))
    }
}

impl From<&config::Unlock> for Unlock {
    fn from(unlock: &config::Unlock) -> Self {
        match unlock {
            config::Unlock::PassphraseEnv(name) => Self::PassphraseEnv(name.clone()),
            config::Unlock::PassphraseFile(path) => Self::PassphraseFile(path.clone()),
            config::Unlock::KeyFile(path) => Self::KeyFile(path.clone()),
        }
    }
}

pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    match &args.action {
        Action::Init(args) => init(args)?,
        Action::List(args) => list(args)?,
        Action::Rotate(args) => rotate(args)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn init(args: &Init) -> anyhow::Result<()> {
    let (path, unlock) = args.place.resolve()?;
    if args.create_key_file {
        let Unlock::KeyFile(key_file) = &unlock else {
            anyhow::bail!("--create-key-file needs --key-file, or `key_file` in the config's [keys]");
        };
        anyhow::ensure!(!path.exists(), "{} exists already; a keyring is never overwritten", path.display());
        keys::create_key_file(key_file)?;
        println!("{}: a new key file", key_file.display());
    }
    let ring = keys::init(&path, &unlock, Cost::STANDARD)?;
    println!("{}: a new keyring, deployment {}", path.display(), hex::encode(ring.deployment_id()));
    println!("Keep copies of it and of what unlocks it, in different places: without both, sealed columns are lost.");
    Ok(())
}

fn list(args: &List) -> anyhow::Result<()> {
    let (path, unlock) = args.place.resolve()?;
    let ring = keys::load(&path, &unlock)?;
    let today = Now::read().unix_us / 1_000_000;
    if args.json {
        for line in json_lines(&ring, today) {
            println!("{line}");
        }
        return Ok(());
    }
    println!("{}: OK, deployment {}", path.display(), hex::encode(ring.deployment_id()));
    if ring.columns().next().is_none() {
        println!("no columns yet: `pgveil apply` gives them their ids and keys");
    }
    for info in ring.columns() {
        let (column, days) = (info.column, age_days(info.newest_key_unix_s, today));
        let state = if column.retired { ", retired" } else { "" };
        println!(
            "{:>5}  {}.{}  {}, {} key{}, newest {} ({days} days old){state}",
            column.id,
            column.database,
            column.column,
            mode(column.mode),
            info.keys,
            if info.keys == 1 { "" } else { "s" },
            info.newest_key,
        );
    }
    Ok(())
}

fn json_lines(ring: &Keyring, today: i64) -> impl Iterator<Item = serde_json::Value> {
    ring.columns().map(move |info| {
        serde_json::json!({
            "column_id": info.column.id,
            "system_identifier": info.column.system_identifier.to_string(),
            "database": info.column.database,
            "column": info.column.column,
            "mode": mode(info.column.mode),
            "retired": info.column.retired,
            "keys": info.keys,
            "newest_key": info.newest_key,
            "newest_key_unix_s": info.newest_key_unix_s,
            "newest_key_age_days": age_days(info.newest_key_unix_s, today),
        })
    })
}

fn rotate(args: &Rotate) -> anyhow::Result<()> {
    let (path, unlock) = args.place.resolve()?;
    let info = keys::rotate(&path, &unlock, args.database.as_deref(), &args.column, Now::read())?;
    println!("{}: key {} seals column {} from now on", path.display(), info.id, args.column);
    println!("Reload every proxy that uses this keyring: one that has not cannot open cells of the new key.");
    Ok(())
}

fn mode(mode: SealMode) -> &'static str {
    match mode {
        SealMode::Randomized => "randomized",
        SealMode::Deterministic => "deterministic",
    }
}

fn age_days(then: i64, today: i64) -> i64 {
    (today - then).max(0) / 86_400
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        keys: Args,
    }

    fn pgveil_keys(line: &[&str]) -> anyhow::Result<ExitCode> {
        run(&Line::try_parse_from([&["keys"], line].concat())?.keys)
    }

    #[test]
    fn a_key_file_and_its_keyring_are_made_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        let (ring, kek) = (path("keyring.toml"), path("kek"));
        let place = ["--keyring", &ring, "--key-file", &kek];
        let line = |action: &'static str| [&[action][..], &place].concat();
        assert!(pgveil_keys(&line("init")).unwrap_err().to_string().contains("key file"), "there is no key file yet");
        pgveil_keys(&[&line("init")[..], &["--create-key-file"]].concat()).unwrap();
        pgveil_keys(&line("list")).unwrap();
        let again = pgveil_keys(&[&line("init")[..], &["--create-key-file"]].concat()).unwrap_err();
        assert!(again.to_string().contains("never overwritten"), "{again}");
        pgveil_keys(&line("list")).unwrap();
    }

    #[test]
    fn one_thing_unlocks_and_one_thing_names_the_keyring() {
        for wrong in [
            &["list", "--passphrase-env", "A", "--key-file", "b"][..],
            &["list", "--keyring", "k", "--config", "c"],
            &["rotate"],
            &[],
        ] {
            assert!(Line::try_parse_from([&["keys"], wrong].concat()).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_column_is_one_json_object() {
        let ring = Keyring::for_tests(&[1; 32], "app", &[(7, "public.users.email")]).unwrap();
        let lines: Vec<_> = json_lines(&ring, 2 * 86_400 + 5).collect();
        assert_eq!(lines.len(), 1);
        assert_eq!(lines[0]["column_id"], 7);
        assert_eq!(lines[0]["column"], "public.users.email");
        assert_eq!(lines[0]["mode"], "randomized");
        assert_eq!(lines[0]["newest_key_age_days"], 2);
    }
}
