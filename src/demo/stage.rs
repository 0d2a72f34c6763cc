//! The demo's set: a private cluster, a folder with policy, keyring and configuration, the proxy as a child process,
//! and `psql` as everybody's client.

use std::fs;
use std::io::Write as _;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread::sleep;
use std::time::Duration;

use super::cluster::{Binaries, Cluster, free_port, generated_password};
use super::leash::Leashed;
use super::people::Load;
use crate::error::{Error, Result};

/// The demo's database.
pub(super) const DATABASE: &str = "medico";

const POLICY: &str = include_str!("../../policies/medico.toml");
const SCHEMA: &str = include_str!("schema.sql");
const ROLES: &[&str] = &["pgveil", "app", "analyst", "support"];

/// Which way a query goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// Straight to PostgreSQL, past the proxy.
    Direct,
    /// Through pgveil.
    Proxy,
}

/// A result as `psql` gives it; NULL is `NULL`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rows {
    pub(super) columns: Vec<String>,
    pub(super) rows: Vec<Vec<String>>,
}

/// Everything that runs.
pub(super) struct Stage {
    // Dropped in this order: the proxy, the cluster, the folder.
    proxy: Leashed,
    pub(super) cluster: Cluster,
    folder: tempfile::TempDir,
    program: PathBuf,
    password: String,
    port: u16,
    admin: u16,
}

impl Stage {
    /// Builds all of it; `say` is told what is done. `program` is the pgveil binary.
    pub(super) fn build(program: PathBuf, say: &mut dyn FnMut(&str)) -> Result<Self> {
        let binaries = Binaries::find()?;
        let cluster = Cluster::start(&binaries, "log_statement = 'all'\n", "")?;
        say(&format!("a private PostgreSQL {} (scram-sha-256, generated passwords)", binaries.major));
        let password = generated_password();
        let roles: String = ROLES.iter().map(|r| format!("create role {r} login password '{password}';")).collect();
        cluster.sql("postgres", &roles)?;
        cluster.sql("postgres", &format!("create database {DATABASE} owner pgveil"))?;
        cluster.sql_as("pgveil", &password, DATABASE, SCHEMA)?;
        say("the Medico schema: users, appointments, medical_records, communications, consent_records");
        let folder = tempfile::Builder::new()
            .prefix("pgveil-demo-")
            .tempdir()
            .map_err(|source| Error::io("a temporary folder", source))?;
        let (port, admin) = (free_port()?, free_port()?);
        write(folder.path(), "policy.toml", POLICY)?;
        write(folder.path(), "passphrase", &generated_password())?;
        write(folder.path(), "pgveil.toml", &config(&cluster, &password, port, admin))?;
        say("policies/medico.toml, and a generated passphrase for the keyring");
        said(&program, folder.path(), &["keys", "init"])?;
        let script = said(&program, folder.path(), &["apply", "--superuser"])?;
        cluster.sql(DATABASE, &script)?;
        said(&program, folder.path(), &["apply", "--lenses"])?;
        say(
            "pgveil keys init; pgveil apply --lenses: tagged columns are sealed, and the analyst has views in place of tables",
        );
        let log = fs::File::create(folder.path().join("proxy.log"))
            .and_then(|file| Ok((file.try_clone()?, file)))
            .map_err(|source| Error::io("the proxy's log file", source))?;
        let mut serve = Command::new(&program);
        serve.current_dir(folder.path()).args(["serve", "--config", "pgveil.toml"]).stdout(log.0).stderr(log.1);
        let proxy = Leashed::spawn(&mut serve).map_err(|source| Error::io("pgveil serve", source))?;
        let mut stage = Self { proxy, cluster, folder, program, password, port, admin };
        stage.wait_ready()?;
        say(&format!("pgveil serve, on 127.0.0.1:{port}"));
        Ok(stage)
    }

    fn wait_ready(&mut self) -> Result<()> {
        for _ in 0..1_500 {
            if self.http("/readyz").is_some_and(|answer| answer.starts_with("HTTP/1.1 200")) {
                return Ok(());
            }
            if self.proxy.ended().is_some() {
                break;
            }
            sleep(Duration::from_millis(20));
        }
        Err(Error::Config(format!("pgveil serve did not get ready:\n{}", self.log())))
    }

    /// The whole answer of the admin port.
    pub(super) fn http(&self, path: &str) -> Option<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.admin)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n").ok()?;
        std::io::read_to_string(stream).ok()
    }

    /// What the proxy logged.
    pub(super) fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("proxy.log")).unwrap_or_default()
    }

    /// The demo's folder: `policy.toml`, `pgveil.toml`, `audit`.
    pub(super) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The admin port.
    pub(super) fn admin(&self) -> u16 {
        self.admin
    }

    /// The connection string for a role.
    pub(super) fn url(&self, role: &str, way: Way) -> String {
        let port = if way == Way::Proxy { self.port } else { self.cluster.port() };
        format!("postgresql://{role}:{}@127.0.0.1:{port}/{DATABASE}", self.password)
    }

    /// Runs a pgveil command in the demo's folder.
    pub(super) fn pgveil(&self, args: &[&str]) -> Result<Output> {
        run(Command::new(&self.program).current_dir(self.folder.path()).args(args), "pgveil")
    }

    /// Asks as a role; `Err` holds the server's message.
    pub(super) fn ask(&self, role: &str, way: Way, sql: &str) -> Result<Rows, String> {
        let mut psql = self.psql(role, way);
        psql.args(["-A", "-F", "\u{1f}", "-R", "\u{1e}", "-P", "footer=off", "-P", "null=NULL", "-c", sql]);
        let output = psql.stdin(Stdio::null()).output().map_err(|error| format!("psql: {error}"))?;
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).trim().to_owned());
        }
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let mut records = text.trim_end_matches(['\n', '\u{1e}']).split('\u{1e}');
        let fields = |record: &str| record.split('\u{1f}').map(str::to_owned).collect::<Vec<_>>();
        let columns = records.next().map(fields).unwrap_or_default();
        Ok(Rows { columns, rows: records.map(fields).collect() })
    }

    /// COPY FROM STDIN through the proxy as `app`.
    pub(super) fn load(&self, load: &Load) -> Result<()> {
        let mut psql = self.psql("app", Way::Proxy);
        let mut child = psql
            .args(["-c", &format!("copy {} from stdin", load.target)])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|source| Error::io("psql", source))?;
        if let Some(mut input) = child.stdin.take() {
            // A write that fails means psql has ended; what it said follows.
            let _ = input.write_all(load.text.as_bytes());
        }
        let output = child.wait_with_output().map_err(|source| Error::io("psql", source))?;
        if output.status.success() {
            return Ok(());
        }
        Err(Error::Config(format!("COPY {}: {}", load.target, String::from_utf8_lossy(&output.stderr).trim())))
    }

    /// A dump of the whole database, as its DBA takes it: past the proxy, as the superuser.
    pub(super) fn dump(&self) -> Result<Vec<u8>> {
        let mut dump = Command::new(self.cluster.binaries().program("pg_dump"));
        dump.args(["-h", "127.0.0.1", "-p", &self.cluster.port().to_string(), "-U", "postgres", DATABASE]);
        let output = run(dump.env("PGPASSWORD", self.cluster.password()), "pg_dump")?;
        if output.status.success() {
            return Ok(output.stdout);
        }
        Err(Error::Config(format!("pg_dump: {}", String::from_utf8_lossy(&output.stderr).trim())))
    }

    fn psql(&self, role: &str, way: Way) -> Command {
        let mut psql = Command::new(self.cluster.binaries().program("psql"));
        psql.args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", &self.url(role, way)]);
        psql
    }
}

fn config(cluster: &Cluster, password: &str, port: u16, admin: u16) -> String {
    let upstream = cluster.port();
    format!(
        "[listen]\npostgres = \"127.0.0.1:{port}\"\nadmin = \"127.0.0.1:{admin}\"\n\
         [upstream]\nhost = \"127.0.0.1\"\nport = {upstream}\n\
         [control]\nurl = \"postgresql://pgveil:{password}@127.0.0.1:{upstream}/{DATABASE}\"\n\
         [policy]\npath = \"policy.toml\"\n\
         [keys]\nprovider = \"file\"\npath = \"keyring.toml\"\npassphrase_file = \"passphrase\"\n\
         [audit]\ndir = \"audit\"\ndurability = \"intent\"\n"
    )
}

fn write(folder: &Path, name: &str, text: &str) -> Result<()> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    let written = options.open(folder.join(name)).and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|source| Error::io(name, source))
}

/// What a command that must succeed says.
fn said(program: &Path, folder: &Path, args: &[&str]) -> Result<String> {
    let mut command = Command::new(program);
    let output = run(command.current_dir(folder).args(args).args(["--config", "pgveil.toml"]), "pgveil")?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = [String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)].concat();
    Err(Error::Config(format!("pgveil {}: {}", args.join(" "), said.trim())))
}

fn run(command: &mut Command, what: &str) -> Result<Output> {
    command.stdin(Stdio::null()).output().map_err(|source| Error::io(what, source))
}
