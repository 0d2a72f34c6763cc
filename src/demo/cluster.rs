//! A private, throw-away PostgreSQL: one temporary folder, scram-sha-256, generated passwords, a free port.
//!
//! In: the binaries' folder, extra lines of configuration. Out: a running server that stops and disappears when the
//! [`Cluster`] is dropped, and also when this process dies without dropping it. Never: the system's own clusters.

use std::fmt::Write as _;
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use crate::error::{Error, Result};

/// The oldest major version of PostgreSQL that is served.
pub const MAJOR_MIN: u32 = 15;

/// The superuser of every private cluster.
pub const SUPERUSER: &str = "postgres";

/// Where a PostgreSQL server's programs are.
#[derive(Clone, Debug)]
pub struct Binaries {
    /// The folder of `initdb`, `pg_ctl`, `postgres`, `psql`, `pg_dump`.
    pub dir: PathBuf,
    /// Major version.
    pub major: u32,
}

impl Binaries {
    /// The newest server at least [`MAJOR_MIN`]: `PGVEIL_TEST_PGBIN` if set, else Debian's folders, `pg_config`, and
    /// PostgreSQL's own default.
    ///
    /// # Errors
    /// None is found; says what to install.
    pub fn find() -> Result<Self> {
        if let Some(dir) = std::env::var_os("PGVEIL_TEST_PGBIN") {
            let dir = PathBuf::from(dir);
            let shown = dir.display().to_string();
            return Self::at(dir)
                .ok_or_else(|| Error::Config(format!("PGVEIL_TEST_PGBIN={shown}: no PostgreSQL server there")));
        }
        let mut dirs: Vec<PathBuf> = fs::read_dir("/usr/lib/postgresql")
            .map(|entries| entries.flatten().map(|entry| entry.path().join("bin")).collect())
            .unwrap_or_default();
        if let Ok(output) = Command::new("pg_config").arg("--bindir").output() {
            dirs.push(PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()));
        }
        dirs.push(PathBuf::from("/usr/local/pgsql/bin"));
        let found = dirs.into_iter().filter_map(Self::at).max_by_key(|binaries| binaries.major);
        found.filter(|binaries| binaries.major >= MAJOR_MIN).ok_or_else(|| {
            Error::Config(format!("no PostgreSQL server {MAJOR_MIN} or newer found: apt-get install postgresql"))
        })
    }

    fn at(dir: PathBuf) -> Option<Self> {
        if !dir.join("initdb").exists() {
            return None;
        }
        let output = Command::new(dir.join("postgres")).arg("--version").output().ok()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let digits: String =
            text.chars().skip_while(|c| !c.is_ascii_digit()).take_while(char::is_ascii_digit).collect();
        Some(Self { dir, major: digits.parse().ok()? })
    }

    /// One of the programs.
    pub fn program(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }
}

/// A running private server.
#[derive(Debug)]
pub struct Cluster {
    binaries: Binaries,
    folder: PathBuf,
    port: u16,
    password: String,
    user: Option<User>,
    reaper: Child,
}

impl Cluster {
    /// Makes a cluster below a new temporary folder and starts it. `conf` is appended to `postgresql.conf`; `hba`
    /// lines come before "everybody by scram-sha-256".
    ///
    /// # Errors
    /// What `initdb` or `pg_ctl` said.
    pub fn start(binaries: &Binaries, conf: &str, hba: &str) -> Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("pgveil-pg-")
            .tempdir()
            .map_err(|source| Error::io("temporary folder for a PostgreSQL cluster", source))?
            .keep();
        let user = unprivileged(&folder)?;
        // From here on the folder is the reaper's to remove, whatever happens to this process.
        let reaper = reaper(binaries, &folder, user.as_ref())?;
        let password = generated_password();
        let mut cluster = Self { binaries: binaries.clone(), folder, port: 0, password, user, reaper };
        cluster.initdb(conf, hba)?;
        cluster.boot()?;
        Ok(cluster)
    }

    fn initdb(&self, conf: &str, hba: &str) -> Result<()> {
        let user = self.user.as_ref();
        set_mode(&self.folder, 0o755)?;
        for name in ["data", "socket"] {
            let dir = self.folder.join(name);
            fs::create_dir(&dir).map_err(|source| Error::io(dir.display().to_string(), source))?;
            set_mode(&dir, if name == "data" { 0o700 } else { 0o755 })?;
            own(&dir, user)?;
        }
        let pwfile = self.folder.join("socket/superuser");
        write(&pwfile, &self.password, user)?;
        set_mode(&pwfile, 0o600)?;
        let mut command = as_user(user, &self.binaries.program("initdb"));
        command
            .args(["--no-sync", "--encoding=UTF8", "--locale=C.UTF-8", "--auth=scram-sha-256", "--username", SUPERUSER])
            .arg("--pwfile")
            .arg(&pwfile)
            .arg("--pgdata")
            .arg(self.data());
        let done = run(&mut command, "initdb");
        let removed = fs::remove_file(&pwfile).map_err(|source| Error::io("the superuser's password file", source));
        done.and(removed)?;
        let settings = format!(
            "listen_addresses = '127.0.0.1'\nunix_socket_directories = '{socket}'\nfsync = off\nfull_page_writes = off\n\
             synchronous_commit = off\nmax_connections = 200\nshared_buffers = 64MB\n\
             password_encryption = 'scram-sha-256'\n{conf}\n",
            socket = self.folder.join("socket").display(),
        );
        let file = self.data().join("postgresql.auto.conf");
        write(&file, &settings, user)?;
        let everybody = "local all all scram-sha-256\nhost all all 127.0.0.1/32 scram-sha-256\nlocal replication all scram-sha-256\n";
        write(&self.data().join("pg_hba.conf"), &format!("{hba}\n{everybody}"), user)
    }

    /// Starts the server on a free port; another process may take the port first, so it is tried a few times.
    fn boot(&mut self) -> Result<()> {
        let mut last = Ok(());
        for _ in 0..5 {
            self.port = free_port()?;
            last = self.resume();
            if last.is_ok() {
                break;
            }
        }
        last
    }

    /// Starts the server again, on the port it had.
    ///
    /// # Errors
    /// What `pg_ctl` said.
    pub fn resume(&self) -> Result<()> {
        let port = format!("-p {}", self.port);
        let mut command = self.pg_ctl("start");
        command.arg("--log").arg(self.log_file()).arg("--options").arg(port);
        run(&mut command, "pg_ctl start").map(drop)
    }

    /// Stops the server, ending its sessions; the files stay.
    ///
    /// # Errors
    /// What `pg_ctl` said.
    pub fn stop(&self) -> Result<()> {
        run(self.pg_ctl("stop").args(["--mode", "fast"]), "pg_ctl stop").map(drop)
    }

    fn pg_ctl(&self, verb: &str) -> Command {
        let mut command = as_user(self.user.as_ref(), &self.binaries.program("pg_ctl"));
        command.args([verb, "--wait", "--silent", "--timeout", "60", "--pgdata"]).arg(self.data());
        command
    }

    /// The data folder.
    pub fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// The server's own log.
    pub fn log_file(&self) -> PathBuf {
        self.data().join("server.log")
    }

    /// The port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The generated password of [`SUPERUSER`].
    pub fn password(&self) -> &str {
        &self.password
    }

    /// Has the folder stay where it is when the server has stopped, which it then does cleanly: somebody will look
    /// into it and remove it. Returns the folder; while the server runs there is a `data/postmaster.pid` in it.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn keep(&self) -> Result<&Path> {
        write(&self.folder.join("keep"), "", None)?;
        Ok(&self.folder)
    }

    /// The binaries it runs on.
    pub fn binaries(&self) -> &Binaries {
        &self.binaries
    }

    /// Runs SQL as the superuser with `psql`; rows come back unaligned, tab-separated.
    ///
    /// # Errors
    /// What `psql` printed when a statement failed.
    pub fn sql(&self, database: &str, sql: &str) -> Result<String> {
        self.sql_as(SUPERUSER, &self.password, database, sql)
    }

    /// As [`Cluster::sql`], as another role.
    ///
    /// # Errors
    /// What `psql` printed when a statement failed.
    pub fn sql_as(&self, role: &str, password: &str, database: &str, sql: &str) -> Result<String> {
        let mut command = Command::new(self.binaries.program("psql"));
        command.args(["-X", "-q", "-A", "-t", "-F", "\t", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1"]);
        command.args(["-p", &self.port.to_string(), "-U", role, "-d", database, "-c", sql]);
        let output = run(command.env("PGPASSWORD", password), "psql")?;
        Ok(String::from_utf8_lossy(&output.stdout).trim_end_matches('\n').to_owned())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // The reaper waits for the end of its input; then it stops the server and removes the folder.
        drop(self.reaper.stdin.take());
        let _ = self.reaper.wait();
    }
}

/// `$1` the folder, `$2` pg_ctl, or runuser with `$3` the account and `$4` pg_ctl.
const REAPER: &str = r#"trap '' INT TERM HUP
cat >/dev/null
how=immediate
[ ! -e "$1/keep" ] || how=fast
[ ! -f "$1/data/postmaster.pid" ] || "$2" ${3:+-u "$3" -- "$4"} -D "$1/data" -m "$how" -w -t 60 stop
[ -e "$1/keep" ] || rm -rf "$1""#;

/// A process that outlives us by seconds: when the pipe from us closes, for whatever reason, it cleans up.
fn reaper(binaries: &Binaries, folder: &Path, user: Option<&User>) -> Result<Child> {
    let pg_ctl = binaries.program("pg_ctl");
    let mut command = Command::new("sh");
    command.args(["-c", REAPER, "sh"]).arg(folder);
    match user {
        Some(user) => command.args(["runuser", &user.name]).arg(pg_ctl),
        None => command.arg(pg_ctl),
    };
    command
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|source| Error::io("sh", source))
}

/// Whom PostgreSQL runs as when we are root, which it refuses to be.
#[derive(Clone, Debug)]
struct User {
    name: String,
    uid: u32,
    gid: u32,
}

/// `None` when we are not root ourselves: the owner of what we just made is who we are.
fn unprivileged(ours: &Path) -> Result<Option<User>> {
    let uid = fs::metadata(ours).map_err(|source| Error::io(ours.display().to_string(), source))?.uid();
    if uid != 0 {
        return Ok(None);
    }
    let accounts = fs::read_to_string("/etc/passwd").map_err(|source| Error::io("/etc/passwd", source))?;
    let account = |name: &str| {
        accounts.lines().find_map(|line| {
            let mut parts = line.split(':');
            let user = User {
                name: parts.next().filter(|n| *n == name)?.to_owned(),
                uid: parts.nth(1)?.parse().ok()?,
                gid: parts.next()?.parse().ok()?,
            };
            Some(user)
        })
    };
    account("postgres")
        .or_else(|| account("nobody"))
        .map(Some)
        .ok_or_else(|| Error::Config("PostgreSQL does not run as root, and there is no user postgres or nobody".into()))
}

fn as_user(user: Option<&User>, program: &Path) -> Command {
    let mut command = match user {
        Some(user) => {
            let mut command = Command::new("runuser");
            command.args(["-u", &user.name, "--"]).arg(program);
            command
        }
        None => Command::new(program),
    };
    command.current_dir("/").env("LC_ALL", "C").process_group(0);
    command
}

fn run(command: &mut Command, what: &str) -> Result<Output> {
    let output =
        command.stdin(Stdio::null()).output().map_err(|source| Error::io(format!("cannot run {what}"), source))?;
    if output.status.success() {
        return Ok(output);
    }
    let said = [String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)].concat();
    Err(Error::Config(format!("{what} failed: {}", said.trim())))
}

fn write(file: &Path, text: &str, user: Option<&User>) -> Result<()> {
    fs::write(file, text).map_err(|source| Error::io(file.display().to_string(), source))?;
    own(file, user)
}

fn own(path: &Path, user: Option<&User>) -> Result<()> {
    let Some(user) = user else { return Ok(()) };
    chown(path, Some(user.uid), Some(user.gid)).map_err(|source| Error::io(path.display().to_string(), source))
}

fn set_mode(path: &Path, mode: u32) -> Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
        .map_err(|source| Error::io(path.display().to_string(), source))
}

/// 192 bits from the operating system as hexadecimal text.
pub fn generated_password() -> String {
    let mut bytes = [0_u8; 24];
    // Without randomness no secret may be made; a process that cannot have it cannot go on.
    getrandom::fill(&mut bytes).expect("the operating system gives randomness");
    bytes.iter().fold(String::with_capacity(48), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// A TCP port nobody listens on at this moment: below 32768 if there is one, for from there on Linux gives ports to
/// outgoing connections, of which tests open thousands (`net.ipv4.ip_local_port_range`).
///
/// # Errors
/// The system has none.
pub fn free_port() -> Result<u16> {
    let none = |source| Error::io("a free port", source);
    for _ in 0..100 {
        let drawn = getrandom::u32().map_err(|refused| none(refused.into()))?;
        // 16384 + at most 16383.
        let port = 0x4000 | (drawn & 0x3fff) as u16;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
    TcpListener::bind(("127.0.0.1", 0)).and_then(|listener| Ok(listener.local_addr()?.port())).map_err(none)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_serves_and_disappears() {
        let cluster = Cluster::start(&Binaries::find().unwrap(), "", "").unwrap();
        assert_eq!(cluster.sql("postgres", "select 40 + 2").unwrap(), "42");
        assert!(cluster.sql_as(SUPERUSER, "wrong", "postgres", "select 1").is_err());
        let folder = cluster.folder.clone();
        assert!(folder.exists());
        drop(cluster);
        assert!(!folder.exists());
    }

    #[test]
    fn a_kept_cluster_stops_cleanly_and_stays() {
        let cluster = Cluster::start(&Binaries::find().unwrap(), "", "").unwrap();
        let (folder, log) = (cluster.keep().unwrap().to_owned(), cluster.log_file());
        drop(cluster);
        assert!(!folder.join("data/postmaster.pid").exists());
        assert!(fs::read_to_string(log).unwrap().contains("database system is shut down"));
        fs::remove_dir_all(folder).unwrap();
    }
}
