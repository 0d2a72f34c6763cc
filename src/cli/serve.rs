//! `pgveil serve`: configuration → keys → rules → desk → admin port → relay, in that order; each refuses to go on with
//! what it found wrong, except that rules wait for a PostgreSQL that is not up yet. Ends in the opposite order.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;
use tokio::task::{JoinHandle, JoinSet};

use super::{alerts, connect, systemd};
use crate::admin::{self, Door, Facts};
use crate::auth::Verifiers;
use crate::catalog::{self, Acting, Keeper};
use crate::config::{self, Config, LogFormat, Statements, SubjectKeys};
use crate::console::Console;
use crate::crypto::Keyring;
use crate::desk::{self, Desk, Quarantine, Response};
use crate::error::Error;
use crate::keys;
use crate::metrics::Meters;
use crate::notify;
use crate::plan;
use crate::relay::{Drain, Operator, Phase, Proxy, Roster, ServerFiles, ServerTls, Settings, Upstream, World};
use crate::session;
use crate::store;

/// How long the access log may take to write what is queued when everything else has ended.
const LOG_DEADLINE: Duration = Duration::from_secs(30);
/// How long the copy of what the log took last may take.
const SHIP_DEADLINE: Duration = Duration::from_secs(5);
/// How often the admin port learns what it cannot see itself.
const REPORT: Duration = Duration::from_millis(250);
/// The same number on Linux (but MIPS), the BSDs and macOS.
const SIGXFSZ: i32 = 25;
/// Sockets that have not logged in, at the same time, when few sessions are allowed.
const STRANGERS_MIN: usize = 128;

/// Arguments of `pgveil serve`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  pgveil serve --config pgveil.toml\n\n\
    SIGTERM: stop accepting, end idle sessions, let statements finish ([listen] drain_timeout_s). A second one: now.\n\
    SIGHUP: read the keyring, the policy and the TLS certificates anew; what is wrong changes nothing.")]
pub(super) struct Args {
    /// The config file.
    #[arg(long, default_value = "pgveil.toml")]
    config: PathBuf,
}

pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let config = config::load(&args.config)?;
    start_logging(&config)?;
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    let keyring = Arc::new(keys::load(&config.keys.path, &keys::Unlock::from(&config.keys.unlock))?);
    // The relay has threads of its own; these two carry the catalog, the admin port and the acceptor.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(serve(config, keyring))?;
    Ok(ExitCode::SUCCESS)
}

/// Log lines go to stderr. Our own hold no values, so `RUST_LOG` may ask for more than `[log] level`. Records of the
/// `log` crate are not collected at any level: sqlparser writes the expressions it reads into them.
fn start_logging(config: &Config) -> anyhow::Result<()> {
    use tracing::subscriber::set_global_default;
    use tracing_subscriber::EnvFilter;
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(config.log.level));
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match config.log.format {
        LogFormat::Text => set_global_default(lines.with_ansi(false).finish())?,
        LogFormat::Json => set_global_default(lines.json().finish())?,
    }
    Ok(())
}

async fn serve(config: Config, keyring: Arc<Keyring>) -> anyhow::Result<()> {
    // Signals that come while starting up are not lost.
    let mut stop = Stop::new()?;
    // A file-size limit is a full disk to the access log, which knows what to do, and no reason to die.
    let _limit = signal(SignalKind::from_raw(SIGXFSZ))?;
    let metrics = admin::install()?;
    let meters = Arc::new(Meters::new());
    let settings = relay_settings(&config)?;
    let keeper = Keeper::new(catalog_settings(&config)?, keyring.clone())?;
    let (path, unlock) = (config.keys.path.clone(), keys::Unlock::from(&config.keys.unlock));
    keeper.load_keys_with(move || keys::load(&path, &unlock).map_err(|error| Error::Key(error.to_string())));
    match keeper.load().await {
        // The ports open; the keeper goes on trying.
        Err(Error::Unreachable(_)) => {}
        loaded => loaded?,
    }
    let verifiers = verifiers(&config).await?;
    let (response, copied) = (response(&config)?, Arc::new(AtomicU64::new(0)));
    let (desk, desk_thread) = open_desk(&config, &keyring, &keeper, &meters, &response, &copied).await?;
    let shipper = ship(&config, &keyring, &meters, copied)?;
    let reloaded = Arc::new(Notify::new());
    let mut watching = keeper.watch(tell(desk.clone(), reloaded.clone()));
    let (drain, roster, tls) = (Arc::new(Drain::default()), Arc::new(Roster::default()), settings.tls.clone());
    let console = Console {
        roles: config.console.clone(),
        keeper: keeper.clone(),
        desk: desk.clone(),
        meters: meters.clone(),
        metrics: rendered(metrics.clone(), desk.clone()),
        drain: drain.clone(),
        roster: roster.clone(),
        tls: tls.clone(),
        settings: config.shown(),
        patience: config.listen.drain_timeout,
    };
    let world = World {
        session: Arc::new(session_settings(&config)),
        keeper: keeper.clone(),
        acting: Arc::new(Acting::new(connect::control(&config.control)?)),
        verifiers,
        plans: Arc::new(plans(&config)),
        desk: desk.clone(),
        response: response.clone(),
        meters: meters.clone(),
        operator: console.roles.any().then(|| Arc::new(console) as Arc<dyn Operator>),
    };
    let proxy = Proxy::bind(settings, world, drain.clone(), roster)?;
    println!("pgveil serves PostgreSQL on {}", proxy.address());
    let facts = Arc::new(Facts::default());
    let following = desk::follow(response, desk.clone(), meters.clone());
    let _sinks = notify::start(&config.sinks, &alerts::place(&config, &keyring), &desk, &meters)?;
    let door = Door { metrics, meters: meters.clone(), desk, upstream: admin_upstream(&config), facts: facts.clone() };
    let _incidents = measure_incidents(&config, &meters)?;
    let _admin = open_admin(&config, door.clone()).await?;
    let helpers = [
        tokio::spawn(reload_certificates(tls)),
        tokio::spawn(report(keeper, facts.clone(), meters)),
        tokio::spawn(admin::upkeep(door)),
        tokio::spawn(systemd::reloads(reloaded)),
        tokio::spawn(systemd::watchdog()),
        tokio::spawn(following),
    ];
    let mut relay = tokio::spawn(proxy.run());
    systemd::ready();
    tokio::select! {
        ended = &mut relay => ended??,
        unfit = &mut watching => {
            // Nobody has been served yet.
            drain.advance(Phase::Over);
            relay.await??;
            desk_thread.stop(LOG_DEADLINE).await;
            match unfit?? {}
        }
        () = stop.called() => {
            facts.draining.store(true, Ordering::Release);
            systemd::stopping();
            tracing::info!("draining: idle sessions end, running statements may finish");
            drain.advance(Phase::Draining);
            tokio::select! {
                ended = &mut relay => ended??,
                () = patience(&config, &mut stop) => {
                    tracing::warn!("draining has taken too long, or was told to hurry: ending every session");
                    drain.advance(Phase::Over);
                    relay.await??;
                }
            }
        }
    }
    watching.abort();
    for helper in helpers {
        helper.abort();
    }
    close(desk_thread, shipper).await?;
    tracing::info!("stopped");
    Ok(())
}

/// What is queued is written, and copied as far as there is time.
async fn close(desk: desk::Thread, shipper: Option<store::ship::Thread>) -> anyhow::Result<()> {
    if !desk.stop(LOG_DEADLINE).await {
        anyhow::bail!("the access log did not take everything within {} s", LOG_DEADLINE.as_secs());
    }
    if let Some(shipper) = shipper
        && !shipper.stop(SHIP_DEADLINE).await
    {
        tracing::info!("the rest of the access log is copied into PostgreSQL at the next start");
    }
    Ok(())
}

/// What `/metrics` says at that moment.
fn rendered(metrics: PrometheusHandle, desk: Desk) -> Box<dyn Fn() -> String + Send + Sync> {
    Box::new(move || {
        desk.measure();
        metrics.render()
    })
}

/// What copies the access log into PostgreSQL, if it is to be.
fn ship(
    config: &Config,
    keyring: &Keyring,
    meters: &Arc<Meters>,
    copied: Arc<AtomicU64>,
) -> anyhow::Result<Option<store::ship::Thread>> {
    if !config.store.ship {
        return Ok(None);
    }
    let settings = store::ship::Settings {
        connect: connect::control(&config.control)?,
        dir: config.audit.dir.clone(),
        deployment: *keyring.deployment_id(),
        copied,
    };
    Ok(Some(store::ship::start(settings, meters.clone())?))
}

/// Incidents are made of what is copied; the task ends with what is returned.
fn measure_incidents(config: &Config, meters: &Arc<Meters>) -> anyhow::Result<JoinSet<()>> {
    let mut tasks = JoinSet::new();
    if config.store.ship {
        let store = store::Store::new(connect::control(&config.control)?);
        tasks.spawn(store::incidents::measure(store, meters.clone()));
    }
    Ok(tasks)
}

/// The admin port's task, which ends with the process.
async fn open_admin(config: &Config, door: Door) -> anyhow::Result<Option<JoinHandle<()>>> {
    let Some(address) = config.listen.admin else { return Ok(None) };
    let listener = admin::bind(address).await?;
    println!("pgveil serves /metrics, /healthz and /readyz on http://{}", listener.local_addr()?);
    Ok(Some(tokio::spawn(async move {
        if let Err(error) = admin::serve(listener, door, std::future::pending()).await {
            tracing::error!(%error, "the admin port has failed");
        }
    })))
}

fn admin_upstream(config: &Config) -> admin::Upstream {
    let upstream = &config.upstream;
    admin::Upstream { host: upstream.host.clone(), port: upstream.port, timeout: upstream.connect_timeout }
}

/// What the admin port cannot see itself: whether there are keys and rules, how old they are.
async fn report(keeper: Keeper, facts: Arc<Facts>, meters: Arc<Meters>) {
    facts.keys.store(true, Ordering::Release);
    let mut shown: Option<Arc<Keyring>> = None;
    loop {
        facts.catalog.store(keeper.ready(), Ordering::Release);
        let rules = keeper.rules();
        meters.rules_version(rules.version);
        meters.observing(rules.observing());
        let (read_us, failures) = keeper.freshness();
        meters.catalog_loaded(read_us);
        meters.bypass_blind(keeper.blind());
        meters.catalog_errors(failures);
        let ring = keeper.keyring();
        if shown.as_ref().is_none_or(|shown| !Arc::ptr_eq(shown, &ring)) {
            for info in ring.columns().filter(|info| !info.column.retired) {
                meters.key_created(&info.column.column, info.newest_key_unix_s);
            }
            shown = Some(ring);
        }
        tokio::time::sleep(REPORT).await;
    }
}

async fn patience(config: &Config, stop: &mut Stop) {
    tokio::select! {
        () = tokio::time::sleep(config.listen.drain_timeout) => {}
        () = stop.called() => {}
    }
}

/// SIGTERM or SIGINT.
struct Stop {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl Stop {
    fn new() -> std::io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn called(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// The policy's reload on SIGHUP is the keeper's.
async fn reload_certificates(tls: Option<Arc<ServerTls>>) {
    let (Some(tls), Ok(mut hangup)) = (tls, signal(SignalKind::hangup())) else { return };
    while hangup.recv().await.is_some() {
        match tls.reload() {
            Ok(()) => tracing::info!("TLS certificate reloaded"),
            Err(error) => tracing::error!(%error, "TLS certificate not reloaded, the old one stays"),
        }
    }
}

/// The keeper's events are about policies: when one is there, a reload has ended.
fn tell(
    desk: Desk,
    reloaded: Arc<Notify>,
) -> impl Fn(crate::event::Event) -> std::pin::Pin<Box<dyn Future<Output = ()> + Send>> {
    move |event| {
        let receipt = desk.event(event);
        reloaded.notify_waiters();
        Box::pin(async move {
            let _ = receipt.await;
        })
    }
}

/// Who is in quarantine is known before anybody is let in.
fn response(config: &Config) -> anyhow::Result<Response> {
    let quarantine = Quarantine::open(config.quarantine.clone(), config.control.url.user())?;
    let logins = quarantine.count();
    if logins > 0 {
        tracing::warn!(logins, "logins are quarantined and refused: pgveil quarantine list");
    }
    Ok(Response { quarantine: Arc::new(quarantine), ..Response::default() })
}

/// Reading the log's tail takes a while on a large log.
async fn open_desk(
    config: &Config,
    keyring: &Arc<Keyring>,
    keeper: &Keeper,
    meters: &Arc<Meters>,
    response: &Response,
    copied: &Arc<AtomicU64>,
) -> anyhow::Result<(Desk, desk::Thread)> {
    let (response, copied) = (response.clone(), config.store.ship.then(|| copied.clone()));
    let settings = desk::Settings { response, copied, ..desk::Settings::from(&config.audit) };
    let (keyring, keeper, meters) = (keyring.clone(), keeper.clone(), meters.clone());
    let opened = tokio::task::spawn_blocking(move || {
        let rules = move || keeper.rules();
        desk::start(settings, keyring.audit_key().clone(), keyring.deployment_id(), rules, meters)
    });
    Ok(opened.await??)
}

/// Whom logins are checked with, if they end here. No source, no service.
async fn verifiers(config: &Config) -> anyhow::Result<Option<Arc<Verifiers>>> {
    let Some(verifiers) = connect::verifiers(config)? else { return Ok(None) };
    match verifiers.check().await {
        // Nobody is let in before it can be reached.
        Err(Error::Unreachable(_)) => {}
        checked => checked?,
    }
    Ok(Some(Arc::new(verifiers)))
}

fn catalog_settings(config: &Config) -> anyhow::Result<catalog::Settings> {
    Ok(catalog::Settings {
        connect: connect::control(&config.control)?,
        policy: config.policy.clone(),
        poll: catalog::POLL,
    })
}

fn plans(config: &Config) -> plan::Cache {
    let limits = plan::Limits { tokens: config.limits.tokens as usize, nesting: config.limits.nesting as usize };
    plan::Cache::limited(config.limits.plan_cache as usize, limits)
}

fn session_settings(config: &Config) -> session::Settings {
    session::Settings {
        allow_trust: config.listen.allow_trust,
        terminate: config.auth.terminate.is_some(),
        relay_cleartext: config.auth.relay_cleartext,
        passthrough: config.passthrough.clone(),
        console: [&config.console.all[..], &config.console.read_only].concat(),
        // Under `async` durability too: the desk then acknowledges at once, and still says when it cannot write.
        intent: true,
        log_all: config.audit.statements == Statements::All,
        subject_keys: config.audit.subject_keys == SubjectKeys::Add,
        message_bytes: config.limits.message_bytes as usize,
        prepared_statements: config.limits.prepared_statements as usize,
        portals: config.limits.portals as usize,
    }
}

fn relay_settings(config: &Config) -> anyhow::Result<Settings> {
    let tls = match &config.listen.tls {
        None => None,
        Some(tls) => {
            let files = ServerFiles {
                cert: tls.cert.clone(),
                key: tls.key.clone(),
                client_ca: tls.client_ca.clone(),
                certificate_optional: tls.certificate_optional,
            };
            Some(Arc::new(ServerTls::load(files, tls.required)?))
        }
    };
    let upstream = &config.upstream;
    let sessions_max = config.listen.connections_max as usize;
    Ok(Settings {
        listen: config.listen.postgres,
        tls,
        upstream: Upstream {
            host: upstream.host.clone(),
            port: upstream.port,
            tls: connect::client_tls(&upstream.host, &upstream.tls).context("[upstream]")?,
            connect_timeout: upstream.connect_timeout,
        },
        workers: match config.listen.workers {
            Some(workers) => workers as usize,
            None => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        },
        sessions_max,
        per_address_max: config.listen.connections_per_address_max.map(|max| max as usize),
        per_user_max: config.listen.connections_per_user_max.map(|max| max as usize),
        rules: config.listen.rules.clone(),
        strangers_max: sessions_max.max(STRANGERS_MIN),
        startup_timeout: config.listen.startup_timeout,
    })
}
