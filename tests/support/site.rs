//! One database with its policy, keyring, configuration and proxy.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use pgveil::demo::cluster::{Cluster, free_port};
use pgveil::demo::leash::Leashed;
use tokio_postgres::{Client, NoTls};

use super::{CANARY, PASSWORD, cluster, find_in_files, http, site_folder};

/// What a [`Site`] is made of. `Site::new("leak")` gives an empty protected database.
pub struct SiteBuilder {
    name: String,
    schema: String,
    policy: String,
    config: String,
    listen: String,
    audit: String,
    upstream_port: Option<u16>,
    upstream: String,
    passthrough: Vec<String>,
    cluster: &'static Cluster,
}

impl SiteBuilder {
    /// SQL run by `pgveil`, the tables' owner, before `pgveil apply`. `app`, `analyst` and `support` get all rights
    /// on all tables and sequences of `public` afterwards.
    pub fn schema(mut self, sql: &str) -> Self {
        self.schema.push_str(sql);
        self
    }

    /// The policy file, whole. Without it: an empty policy whose roles are `app` (restricted) and `analyst`.
    pub fn policy(mut self, toml: &str) -> Self {
        toml.clone_into(&mut self.policy);
        self
    }

    /// Further sections of `pgveil.toml`, such as `[limits]`.
    pub fn config(mut self, toml: &str) -> Self {
        self.config.push_str(toml);
        self
    }

    /// Further lines of `[listen]`.
    pub fn listen(mut self, toml: &str) -> Self {
        self.listen.push_str(toml);
        self
    }

    /// Further lines of `[audit]`, such as `durability = "async"`.
    pub fn audit(mut self, toml: &str) -> Self {
        self.audit.push_str(toml);
        self
    }

    /// An existing database that is served without a policy.
    pub fn passthrough(mut self, database: &str) -> Self {
        self.passthrough.push(database.to_owned());
        self
    }

    /// Sends the proxy (not its control connection) to another port.
    pub fn upstream(mut self, port: u16) -> Self {
        self.upstream_port = Some(port);
        self
    }

    /// Further lines of `[upstream]`.
    pub fn upstream_lines(mut self, toml: &str) -> Self {
        self.upstream.push_str(toml);
        self
    }

    /// In another cluster than the shared one.
    pub fn on(mut self, cluster: &'static Cluster) -> Self {
        self.cluster = cluster;
        self
    }

    /// Makes database, policy, keyring and configuration; nothing of pgveil has run except `keys init`.
    pub fn prepare(self) -> Site {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let database = format!("{}_{}", self.name, NUMBER.fetch_add(1, Ordering::Relaxed));
        let cluster = self.cluster;
        sql(cluster, "postgres", &format!("create database {database} owner pgveil"));
        if !self.schema.is_empty() {
            cluster.sql_as("pgveil", PASSWORD, &database, &self.schema).unwrap_or_else(|e| panic!("{e}"));
        }
        sql(
            cluster,
            &database,
            "grant all on all tables in schema public to app, analyst, support, trusty;
             grant all on all sequences in schema public to app, analyst, support, trusty;
             grant create on schema public to app;",
        );
        let dir = site_folder();
        let postgres_port = free_port().expect("a free port");
        let others = std::iter::repeat_with(|| free_port().expect("a free port"));
        let admin_port = others.take(100).find(|port| *port != postgres_port).expect("another free port");
        let site = Site { database, cluster, dir, postgres_port, admin_port, proxy: None, starts: 0 };
        site.write("policy.toml", &self.policy);
        site.write("passphrase", "correct horse battery staple 7c1b");
        site.write("pgveil.toml", &self.toml(&site));
        fs::set_permissions(site.path("passphrase"), private()).expect("mode 0600");
        site.pgveil_ok(&["keys", "init"]);
        site
    }

    fn toml(&self, site: &Site) -> String {
        let quoted: Vec<String> = self.passthrough.iter().map(|name| format!("{name:?}")).collect();
        format!(
            "[listen]\npostgres = \"127.0.0.1:{}\"\nadmin = \"127.0.0.1:{}\"\n{}\n\
             [upstream]\nhost = \"127.0.0.1\"\nport = {}\n{}\n\
             [control]\nurl = \"postgresql://pgveil:{PASSWORD}@127.0.0.1:{}/{}\"\n\
             [databases]\npassthrough = [{}]\n\
             [policy]\npath = \"policy.toml\"\n\
             [keys]\nprovider = \"file\"\npath = \"keyring.toml\"\npassphrase_file = \"passphrase\"\n\
             [audit]\ndir = \"audit\"\n{}\n{}\n",
            site.postgres_port,
            site.admin_port,
            self.listen,
            self.upstream_port.unwrap_or(self.cluster.port()),
            self.upstream,
            self.cluster.port(),
            site.database,
            quoted.join(", "),
            self.audit,
            self.config,
        )
    }

    /// Prepares, applies the policy, serves, and waits until the proxy is ready.
    pub fn start(self) -> Site {
        let mut site = self.prepare();
        site.pgveil_ok(&["apply"]);
        site.serve();
        site
    }
}

/// A prepared or running site. Dropping it stops the proxy, then searches everything it wrote for [`CANARY`].
pub struct Site {
    /// The database's name.
    pub database: String,
    cluster: &'static Cluster,
    dir: tempfile::TempDir,
    postgres_port: u16,
    admin_port: u16,
    proxy: Option<Leashed>,
    starts: u32,
}

impl Site {
    /// A site whose database is called after `name` (lower case, digits, `_`).
    #[expect(clippy::new_ret_no_self, reason = "a site is begun with its name and finished with `start`")]
    pub fn new(name: &str) -> SiteBuilder {
        SiteBuilder {
            name: name.to_owned(),
            schema: String::new(),
            policy: "version = 1\n[roles.app]\nclearance = \"restricted\"\n[roles.analyst]\nclearance = \"internal\"\n"
                .to_owned(),
            config: String::new(),
            listen: String::new(),
            audit: String::new(),
            upstream_port: None,
            upstream: String::new(),
            passthrough: Vec::new(),
            cluster: cluster(),
        }
    }

    /// Starts `pgveil serve` and waits for `/readyz`.
    pub fn serve(&mut self) {
        self.serve_by(&[]);
    }

    /// As [`Site::serve`], by a command that becomes it: `["sh", "-c", "ulimit -n 100; exec \"$0\" \"$@\""]`.
    pub fn serve_by(&mut self, around: &[&str]) {
        self.spawn_by(around);
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            if http(self.admin_port, "/readyz").is_some_and(|(status, _)| status == 200) {
                return;
            }
            let ended = self.proxy.as_mut().and_then(Leashed::ended);
            assert!(ended.is_none(), "pgveil serve ended ({ended:?}):\n{}", self.log());
            assert!(Instant::now() < deadline, "pgveil is not ready after 30 s:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Starts `pgveil serve` without waiting.
    pub fn spawn(&mut self) {
        self.spawn_by(&[]);
    }

    fn spawn_by(&mut self, around: &[&str]) {
        self.starts += 1;
        let log = File::create(self.path(&format!("proxy.{}.log", self.starts))).expect("a log file");
        let mut line = [around, &[env!("CARGO_BIN_EXE_pgveil"), "serve", "--config", "pgveil.toml"]].concat();
        let mut serve = Command::new(line.remove(0));
        serve.current_dir(self.dir.path()).args(line);
        serve.stdout(log.try_clone().expect("a second handle")).stderr(log);
        self.proxy = Some(Leashed::spawn(&mut serve).expect("pgveil starts"));
    }

    /// Waits up to `seconds` for the proxy to end by itself; its exit code, or `None` if a signal ended it.
    pub fn wait_exit(&mut self, seconds: u64) -> Option<i32> {
        let deadline = Instant::now() + Duration::from_secs(seconds);
        let proxy = self.proxy.as_mut().expect("the proxy was started");
        loop {
            if let Some(status) = proxy.ended() {
                self.proxy = None;
                return status.code();
            }
            assert!(Instant::now() < deadline, "pgveil serve still runs after {seconds} s");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// SIGTERM, then waits for the drain; its exit code.
    pub fn terminate(&mut self) -> Option<i32> {
        self.signal("TERM");
        self.wait_exit(60)
    }

    /// The proxy's process id.
    pub fn process_id(&self) -> u32 {
        self.proxy.as_ref().expect("the proxy runs").id()
    }

    /// Sends a signal by name.
    pub fn signal(&self, name: &str) {
        self.proxy.as_ref().expect("the proxy runs").signal(name);
    }

    /// kill -9.
    pub fn kill(&mut self) {
        self.proxy = None;
    }

    /// `pgveil ARGS --config pgveil.toml` in the site's folder.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pgveil"));
        command.current_dir(self.dir.path()).args(args).args(["--config", "pgveil.toml"]).stdin(Stdio::null());
        command
    }

    /// Runs a command to its end.
    pub fn pgveil(&self, args: &[&str]) -> Output {
        self.command(args).output().expect("pgveil runs")
    }

    /// Runs a command that must succeed; what it printed.
    pub fn pgveil_ok(&self, args: &[&str]) -> String {
        let output = self.pgveil(args);
        let said = [String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)].concat();
        assert!(output.status.success(), "pgveil {args:?} failed ({}):\n{said}", output.status);
        said
    }

    /// A path in the site's folder: `policy.toml`, `pgveil.toml`, `keyring.toml`, `passphrase`, `audit`.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes a file into the site's folder.
    pub fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).expect("the site's folder is writable");
    }

    /// The proxy's port.
    pub fn port(&self) -> u16 {
        self.postgres_port
    }

    /// The admin port.
    pub fn admin_port(&self) -> u16 {
        self.admin_port
    }

    /// Connection string through the proxy.
    pub fn url(&self, role: &str) -> String {
        format!("postgresql://{role}:{PASSWORD}@127.0.0.1:{}/{}", self.postgres_port, self.database)
    }

    /// Connection string past the proxy.
    pub fn direct_url(&self, role: &str) -> String {
        format!("postgresql://{role}:{PASSWORD}@127.0.0.1:{}/{}", self.cluster.port(), self.database)
    }

    /// A client through the proxy.
    pub async fn client(&self, role: &str) -> Client {
        connect(&self.url(role)).await.unwrap_or_else(|e| panic!("{role}: {e:?}\n{}", self.log()))
    }

    /// A client past the proxy.
    pub async fn direct(&self, role: &str) -> Client {
        connect(&self.direct_url(role)).await.unwrap_or_else(|e| panic!("{role}: {e:?}"))
    }

    /// SQL as the superuser, past the proxy; rows unaligned, tab-separated.
    pub fn sql(&self, text: &str) -> String {
        sql(self.cluster, &self.database, text)
    }

    /// `psql` through the proxy with these arguments.
    pub fn psql(&self, role: &str, args: &[&str]) -> Output {
        let mut command = Command::new(cluster().binaries().program("psql"));
        command.args(["-X", "-d", &self.url(role)]).args(args).stdin(Stdio::null());
        command.output().expect("psql runs")
    }

    /// Everything the proxy wrote to stdout and stderr, all starts of it.
    pub fn log(&self) -> String {
        (1..=self.starts)
            .map(|n| fs::read(self.path(&format!("proxy.{n}.log"))).unwrap_or_default())
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .collect()
    }

    /// What `/metrics` says.
    pub fn metrics(&self) -> String {
        http(self.admin_port, "/metrics").expect("the admin port answers").1
    }

    /// The sum of all series of a metric whose labels contain `labels`; 0 if there is none.
    pub fn metric(&self, name: &str, labels: &str) -> f64 {
        self.metrics()
            .lines()
            .filter(|line| !line.starts_with('#') && line.contains(labels))
            .filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' '])))
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum()
    }

    /// The access log's folder.
    pub fn audit_dir(&self) -> PathBuf {
        self.path("audit")
    }

    /// Every event of the access log, oldest first.
    pub fn events(&self) -> Vec<serde_json::Value> {
        let text = self.pgveil_ok(&["log", "tail", "--json", "-n", "10000000"]);
        text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect()
    }

    /// Fails if the canary is in anything the proxy wrote.
    pub fn assert_no_canary(&self) {
        let hexed = hex::encode(CANARY);
        let needles: [&[u8]; 2] = [CANARY.as_bytes(), hexed.as_bytes()];
        if let Some(file) = find_in_files(self.dir.path(), &needles) {
            panic!("a value leaked into {}", file.display());
        }
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- the proxy of {} said ---\n{}", self.database, tail(&self.log(), 40));
            return self.kill();
        }
        if self.proxy.is_some() {
            let metrics = http(self.admin_port, "/metrics").map(|(_, text)| text).unwrap_or_default();
            self.write("metrics.txt", &metrics);
        }
        self.kill();
        self.assert_no_canary();
    }
}

fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

fn private() -> fs::Permissions {
    std::os::unix::fs::PermissionsExt::from_mode(0o600)
}

fn sql(cluster: &Cluster, database: &str, text: &str) -> String {
    cluster.sql(database, text).unwrap_or_else(|e| panic!("{e}\nin: {text}"))
}

/// A tokio-postgres client whose connection runs by itself.
pub async fn connect(url: &str) -> Result<Client, tokio_postgres::Error> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    tokio::spawn(async move {
        let _ = connection.await;
    });
    Ok(client)
}

/// A folder of the site as text, for messages.
pub fn listing(dir: &Path) -> String {
    fs::read_dir(dir).map(|d| d.flatten().map(|e| format!("{:?} ", e.file_name())).collect()).unwrap_or_default()
}
