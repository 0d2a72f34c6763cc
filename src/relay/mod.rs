//! Sockets, TLS, pump, cancel, drain: everything between a client's socket and PostgreSQL's that is not
//! understanding.
//!
//! In: accepted sockets, settings, a [`mind::Host`] that makes sessions. Out: bytes both ways, in order; events and
//! intents handed to the desk. Never: a decision about a statement, a byte read before TLS used after it, a buffer
//! without a bound, a wait for one peer that keeps the other from being heard.
//!
//! A connection: `listen` accepts → `admit` gives it a place → `greet` hears who it is → `connection` finds it a
//! mind and a server → `pump` moves frames through the mind, or `splice` moves bytes when nothing is to be looked at.

mod admit;
mod cancel;
mod connection;
mod console;
mod drain;
mod farewell;
mod greet;
mod listen;
mod mind;
mod network;
mod pump;
mod reactor;
mod roster;
mod scratch;
mod splice;
mod stream;
mod tls;
mod upstream;
mod world;

#[cfg(test)]
mod tests;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

pub use console::{Answer, Answering, Operator};
pub use drain::{Drain, Phase};
pub use network::{Allow, Rule};
pub use roster::{Line, Roster, State};
pub use tls::{ClientTls, ServerFiles, ServerTls, Verify};
pub use upstream::Upstream;
pub use world::World;

use crate::error::Result;

/// What the configuration says about sockets.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where clients connect.
    pub listen: SocketAddr,
    /// TLS towards clients.
    pub tls: Option<Arc<ServerTls>>,
    /// Where PostgreSQL is.
    pub upstream: Upstream,
    /// Worker threads.
    pub workers: usize,
    /// Sessions at the same time.
    pub sessions_max: usize,
    /// Of one address, logging in or logged in.
    pub per_address_max: Option<usize>,
    /// Of one user, logged in.
    pub per_user_max: Option<usize>,
    /// Which connections may come at all; empty: all.
    pub rules: Vec<Rule>,
    /// Sockets at the same time that have not logged in.
    pub strangers_max: usize,
    /// From accept to the end of the login.
    pub startup_timeout: Duration,
}

/// What every connection shares.
struct Shared<H> {
    settings: Settings,
    host: H,
    gate: Arc<admit::Gate>,
    addresses: Arc<network::Tally<IpAddr>>,
    users: Arc<network::Tally<Box<[u8]>>>,
    cancels: Arc<cancel::Registry>,
    drain: Arc<Drain>,
    roster: Arc<Roster>,
    connections: AtomicU64,
}

/// A bound listener, not serving yet.
struct Relay<H> {
    listener: std::net::TcpListener,
    shared: Arc<Shared<H>>,
}

impl<H: mind::Host> Relay<H> {
    fn bind(settings: Settings, host: H, drain: Arc<Drain>, roster: Arc<Roster>) -> Result<Self> {
        let listener = listen::bind(settings.listen)?;
        let gate = admit::Gate::new(settings.sessions_max, settings.strangers_max);
        let cancels = Arc::new(cancel::Registry::default());
        let addresses = network::Tally::new(settings.per_address_max);
        let users = network::Tally::new(settings.per_user_max);
        let connections = AtomicU64::new(0);
        let shared = Shared { settings, host, gate, addresses, users, cancels, drain, roster, connections };
        Ok(Self { listener, shared: Arc::new(shared) })
    }

    fn address(&self) -> SocketAddr {
        self.listener.local_addr().unwrap_or(self.shared.settings.listen)
    }

    async fn run(self) -> Result<()> {
        listen::run(self.listener, self.shared).await
    }
}

/// The relay with real sessions: a bound listener, not serving yet.
pub struct Proxy(Relay<World>);

impl std::fmt::Debug for Proxy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Proxy({})", self.address())
    }
}

impl Proxy {
    /// Binds the listening socket.
    ///
    /// # Errors
    /// The address cannot be bound.
    pub fn bind(settings: Settings, world: World, drain: Arc<Drain>, roster: Arc<Roster>) -> Result<Self> {
        Relay::bind(settings, world, drain, roster).map(Self)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.0.address()
    }

    /// Serves until the drain begins, and returns when the last connection has ended.
    ///
    /// # Errors
    /// A worker that cannot be started.
    pub async fn run(self) -> Result<()> {
        self.0.run().await
    }
}
