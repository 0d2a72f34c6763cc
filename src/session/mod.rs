//! One connection's protocol mind: startup, simple, extended, copy, replies, refusals.
//!
//! In: frames from client and server, rules, time, randomness. Out: bytes for both, and [`Effect`]s for the world.
//! Never: I/O.
//!
//! The session mirrors what it has forwarded in a queue of [`Pending`] replies, so that each reply is known to
//! belong to one message. To refuse, it lets the *server* fail in the statement's place and overwrites the error as
//! it comes back: order, skip-to-Sync and transaction status stay PostgreSQL's own (DESIGN §4).

mod added;
mod bind;
mod call;
mod canary;
mod client;
mod console;
mod copy;
mod failing;
mod fields;
mod finished;
mod handles;
mod limit;
mod login;
mod observe;
mod path;
mod pending;
mod person;
mod purpose;
mod record;
mod redact;
mod server;
mod settings;
mod stop;
mod terminate;
#[cfg(test)]
mod tests;
mod walk;
mod write;

use std::collections::{HashMap, HashSet, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;

use bytes::{Buf, BytesMut};

use crate::clock::Clock;
use crate::crypto::Keyring;
use crate::detect::Gate;
use crate::error::{Code, Refusal};
use crate::event::{Actor, Event, Part};
use crate::metrics::Meters;
use crate::plan::{self, Moves};
use crate::policy::rules::{ActorClass, ClassId, Rules};
use crate::secret::Entropy;
use crate::wire::certificate::EndPoint;
use crate::wire::frame::{self, BadFrame};
use crate::wire::startup::{CancelKey, Startup};
use crate::wire::types::Style;

pub use console::DATABASE as CONSOLE;
use pending::{Pending, Portal, Prepared};
pub use terminate::Credential;

/// Most replies that may be outstanding before the client has to wait for some. Even the shortest of so many fill the
/// server's send buffer of 8 KiB (`PQ_SEND_BUFFER_SIZE`) several times over, so that it does not sit on all of them.
const PENDING_MAX: usize = 16_384;

/// What the session asks of the world.
#[derive(Debug)]
pub enum Effect {
    /// Tell the desk.
    Event(Box<Event>),
    /// Record this before what was appended to that side's output from here on leaves.
    Intent {
        /// The intent record.
        event: Box<Event>,
        /// Whose output waits.
        side: Side,
        /// Length of that side's output buffer when the intent was made: what follows waits.
        from: usize,
    },
    /// The server's frames are not to be offered before then, on the monotonic clock in nanoseconds.
    Wait {
        /// Then.
        until_ns: u64,
    },
    /// Load the catalog anew.
    RefreshCatalog,
    /// The user's verifier is not, or may not be, what it was when it was looked up.
    ForgetCredential,
}

/// A direction of output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Towards the client.
    Client,
    /// Towards the server.
    Server,
}

/// What the configuration says about sessions.
#[derive(Clone, Debug)]
pub struct Settings {
    /// A login that the server let in without a password counts, on loopback and Unix sockets.
    pub allow_trust: bool,
    /// Logins end here: the client proves its password to us.
    pub terminate: bool,
    /// Users without a SCRAM verifier talk to the server through us, when both legs are TLS.
    pub relay_cleartext: bool,
    /// Databases that pass through without a policy.
    pub passthrough: Vec<String>,
    /// Roles that may use the console. Empty: there is none.
    pub console: Vec<String>,
    /// Intent records are made and waited for.
    pub intent: bool,
    /// Every statement becomes an event, not only those that touch something protected.
    pub log_all: bool,
    /// Where a query does not return the key of whose rows it reads, it is asked for beside.
    pub subject_keys: bool,
    /// Longest message of either peer, and longest row that opening may make of one, in bytes.
    pub message_bytes: usize,
    /// Most prepared statements of one session.
    pub prepared_statements: usize,
    /// Most open portals of one session.
    pub portals: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            allow_trust: false,
            terminate: false,
            relay_cleartext: false,
            passthrough: Vec::new(),
            console: Vec::new(),
            intent: true,
            log_all: false,
            subject_keys: true,
            message_bytes: frame::LENGTH_MAX,
            prepared_statements: 10_000,
            portals: 10_000,
        }
    }
}

/// What the two legs are made of.
#[derive(Clone, Debug, Default)]
pub struct Legs {
    /// The client speaks TLS to us.
    pub client_tls: bool,
    /// What a client can bind its proof to: our certificate, if it has a hash for that.
    pub client_end_point: Option<EndPoint>,
    /// The client is on loopback or a Unix socket.
    pub client_local: bool,
    /// In whose name the client's certificate is, if it has shown one of an authority in `client_ca`.
    pub client_certificate: Option<Arc<str>>,
    /// We speak TLS to the server.
    pub server_tls: bool,
}

/// The connection is over; what there is to say has been appended to the client's output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Close {
    /// For the log: never from a peer's bytes.
    pub reason: &'static str,
}

/// Our cancel key, given to the client, and the server's.
#[derive(Clone, Debug)]
pub struct BackendKey {
    /// Random; registered by the relay.
    pub ours: CancelKey,
    /// What a CancelRequest is forwarded with.
    pub theirs: CancelKey,
}

/// Everything a step of the session may use.
#[derive(Debug)]
#[allow(missing_docs, reason = "one line each would repeat the types")]
pub struct Context<'a> {
    pub rules: &'a Arc<Rules>,
    pub plans: &'a plan::Cache,
    pub keyring: &'a Keyring,
    pub clock: &'a dyn Clock,
    pub entropy: &'a mut dyn Entropy,
    pub to_client: &'a mut BytesMut,
    pub to_server: &'a mut BytesMut,
    pub effects: &'a mut Vec<Effect>,
    pub meters: &'a Meters,
    pub gate: &'a Gate,
    /// The look-up asked for by [`Effect::RefreshCatalog`] has ended, or its deadline has passed.
    pub catalog_deadline_passed: bool,
    /// What the look-up that [`Session::waiting_for_credential`] asks for has brought.
    pub credential: Option<Result<Credential, Refusal>>,
    /// Whether the purpose that [`Session::write_purpose`] tells has been written down.
    pub purpose: Option<Result<(), Refusal>>,
}

impl std::fmt::Debug for dyn Clock + '_ {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Clock")
    }
}

impl std::fmt::Debug for dyn Entropy + '_ {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Entropy")
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Until AuthenticationOk.
    Login,
    /// Until the first ReadyForQuery.
    Starting,
    Ready,
    Transparent,
    /// The console answers.
    Console,
}

/// What DDL of the open transaction was about.
#[derive(Clone, Copy, Debug, Default)]
struct Defined {
    /// It named a protected relation.
    protected: bool,
    /// Any statement may have to be decided otherwise afterwards.
    far_reaching: bool,
}

/// Whether the client loop goes on with the next frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flow {
    Next,
    /// Leave this frame in the input and stop.
    Hold,
}

/// One connection.
#[derive(Debug)]
pub struct Session {
    settings: Arc<Settings>,
    legs: Legs,
    connection: u64,
    startup: Startup,
    actor: Part<Actor>,
    transparent: bool,
    /// It is the console that the client wants.
    console_login: bool,
    phase: Phase,
    login: login::Exchange,
    server_end_point: Option<EndPoint>,
    key: Option<BackendKey>,
    class: ClassId,
    /// Keys by which rows were read one by one.
    walks: walk::Walks,
    /// What it acts for; the class's.
    class_purpose: Option<Arc<str>>,
    purpose: purpose::Purpose,
    persons: person::Claims,
    rules_version: u64,
    style: Style,
    search_path: Vec<Arc<str>>,
    temporary: HashSet<String>,
    /// Relations with sealed columns made since the catalog was read, in lower case.
    fresh: HashSet<String>,
    /// Counts changes of the search path and of temporary names: what was decided before is decided again.
    names: u64,
    /// What of it is the client's and what a lens's.
    path: path::Path,
    /// The current role as the server shows it; `none`: the login.
    role: String,
    /// The search path before the question that is out.
    path_before: Vec<Arc<str>>,
    /// The keys that the role could read when it was last asked.
    keys_before: u16,
    /// A statement under way may change settings or the catalog: nothing is decided until it has ended.
    moving: Moves,
    /// What the cursors and prepared statements that SQL has made may change when they run.
    handles: Moves,
    pending: VecDeque<Pending>,
    statements: handles::Names<Prepared>,
    portals: handles::Names<Portal>,
    pipelines: handles::Pipelines,
    /// The server ignores everything until the client's next Sync, or will: what comes is not even forwarded.
    skipping: bool,
    /// Transaction status of the last ReadyForQuery: `I`, `T` or `E`.
    transaction: u8,
    /// Settings may have changed: ask the server at the next quiet ReadyForQuery.
    unsettled: bool,
    /// A question of ours is out; client input waits.
    probing: bool,
    /// DDL has run since the last idle ReadyForQuery.
    ddl: Option<Defined>,
    /// DDL that matters only to statements about something protected was committed: they wait for the catalog.
    stale: bool,
    /// The catalog was asked for; client input waits for the answer.
    waiting: bool,
    /// The held frame is tried again with what is known.
    retry: bool,
    /// Since the last Sync, this pipeline writes / has opened cells.
    pipeline_writes: bool,
    pipeline_opens: bool,
    /// Something that begins or ends a transaction block is on its way, or ran since the last ReadyForQuery.
    block_changes: bool,
    /// The client's Sync waits for the cells before it.
    sync_held: bool,
    /// A cell failed after the server had finished: the transaction must not be reported as good.
    poisoned: Option<Code>,
    /// Cursors that SQL has declared, and what of them counts against `max_rows`.
    cursors: HashMap<Arc<str>, limit::Declared>,
    /// What the detector's rules have against its rows.
    guard: stop::Guard,
    /// A Query whose COMMIT is out.
    wrapped: Option<Box<pending::Running>>,
    /// The client has its error; replies up to ReadyForQuery are swallowed.
    muted: bool,
    /// What changed inside the open transaction.
    in_block: Moves,
    /// Messages sent to the server since its last ReadyForQuery that no Sync has closed yet.
    open_pipeline: bool,
    copy: copy::Copying,
    statement_number: u64,
    scratch: write::Scratch,
    ended: bool,
}

impl Session {
    /// A session for that startup packet.
    ///
    /// # Errors
    /// A refusal to send as FATAL: no user, a database that is not served, replication, a pinned setting.
    pub fn new(
        settings: Arc<Settings>,
        startup: Startup,
        connection: u64,
        client: Option<IpAddr>,
        legs: Legs,
        rules: &Rules,
    ) -> Result<Self, Refusal> {
        let mut checked = login::check(&settings, startup, client, rules)?;
        checked.actor.certificate = legs.client_certificate.as_deref().map(str::to_owned);
        let own = rules.class_of(&checked.actor.role);
        let vouches = !checked.transparent && rules.class(own).vouches.is_some();
        let class = rules.acting(own);
        let guard = stop::Guard::new(rules, &checked.actor.role);
        Ok(Self {
            settings,
            legs,
            connection,
            startup: checked.startup,
            actor: checked.actor.into(),
            transparent: checked.transparent,
            console_login: checked.console,
            phase: Phase::Login,
            login: login::Exchange::default(),
            server_end_point: None,
            key: None,
            class,
            walks: walk::Walks::default(),
            class_purpose: None,
            purpose: checked.purpose,
            persons: person::Claims::new(vouches),
            rules_version: rules.version,
            style: Style::default(),
            search_path: Vec::new(),
            temporary: HashSet::new(),
            fresh: HashSet::new(),
            names: 0,
            path: path::Path::default(),
            role: "none".to_owned(),
            path_before: Vec::new(),
            keys_before: 0,
            moving: Moves::default(),
            handles: Moves::default(),
            pending: VecDeque::new(),
            statements: handles::Names::default(),
            portals: handles::Names::default(),
            pipelines: handles::Pipelines::default(),
            skipping: false,
            transaction: b'I',
            unsettled: true,
            probing: false,
            ddl: None,
            stale: false,
            waiting: false,
            retry: false,
            pipeline_writes: false,
            pipeline_opens: false,
            block_changes: false,
            sync_held: false,
            poisoned: None,
            cursors: HashMap::new(),
            guard,
            wrapped: None,
            muted: false,
            in_block: Moves::default(),
            open_pipeline: false,
            copy: copy::Copying::None,
            statement_number: 0,
            scratch: write::Scratch::default(),
            ended: false,
        })
    }

    /// The upstream leg stands; `server` is what a proof can be bound to there. Appends the StartupMessage, unless the
    /// client is to prove itself first.
    pub fn start(&mut self, server: Option<EndPoint>, cx: &mut Context<'_>) {
        self.server_end_point = server;
        if self.settings.terminate {
            self.login.stage = terminate::Stage::Asking;
        } else {
            // The client has been told; it has nothing to add.
            let _ = self.open_upstream(cx);
        }
    }

    /// The packet was within the limit when it came; what we add is checked by the encoder.
    fn open_upstream(&mut self, cx: &mut Context<'_>) -> Result<(), Close> {
        self.startup.encode(cx.to_server).map_err(|_| {
            let refusal = Refusal::new(Code::Limit, "the startup packet is too long", "shorten its options");
            self.fatal(&refusal, "the startup packet is too long", cx)
        })
    }

    /// Consumes whole frames of the client.
    ///
    /// # Errors
    /// [`Close`] when the connection must end.
    pub fn client(&mut self, input: &mut BytesMut, cx: &mut Context<'_>) -> Result<(), Close> {
        self.follow_rules(cx);
        if let Some(done) = cx.purpose.take() {
            self.purpose_written(done, cx)?;
        }
        if self.waiting {
            // Newer rules alone do not do: they may come from a look that began before what is waited for.
            if !cx.catalog_deadline_passed {
                return Ok(());
            }
            (self.waiting, self.stale) = (false, false);
            self.retry = true;
        }
        if self.waiting_for_purpose() {
            return Ok(());
        }
        if self.waiting_for_credential() {
            let Some(found) = cx.credential.take() else { return Ok(()) };
            self.offer(found, cx)?;
        }
        let mut bytes = std::mem::take(input);
        let mut at = 0;
        let mut result = Ok(());
        while !self.holding() {
            let limit = if self.phase == Phase::Ready { self.settings.message_bytes } else { login::MESSAGE_MAX };
            let size = match frame::peek(&bytes[at..], limit) {
                Ok(Some((_, size))) if size <= bytes.len() - at => size,
                Ok(_) => break,
                Err(_) => {
                    result = Err(self.bad_length(cx));
                    break;
                }
            };
            match self.client_frame(&bytes[at..at + size], cx) {
                Ok(Flow::Next) => at += size,
                Ok(Flow::Hold) => break,
                Err(close) => {
                    result = Err(close);
                    break;
                }
            }
            self.retry = false;
        }
        bytes.advance(at);
        *input = bytes;
        self.scratch.rest();
        result
    }

    /// Consumes whole frames of the server. Stops consuming once [`Session::transparent`].
    ///
    /// # Errors
    /// [`Close`] when the connection must end.
    pub fn server(&mut self, input: &mut BytesMut, cx: &mut Context<'_>) -> Result<(), Close> {
        self.follow_rules(cx);
        let mut bytes = std::mem::take(input);
        let mut at = 0;
        let mut result = Ok(());
        while !matches!(self.phase, Phase::Transparent | Phase::Console) {
            let size = match frame::peek(&bytes[at..], self.settings.message_bytes + 4) {
                Ok(Some((_, size))) if size <= bytes.len() - at => size,
                Ok(_) => break,
                Err(bad) => {
                    result = Err(self.bad_length_of_server(bad, cx));
                    break;
                }
            };
            if self.phase == Phase::Ready {
                let rows = match bytes[at] {
                    b'D' => self.data_rows(&bytes[at..], cx),
                    b'd' => self.copy_rows(&bytes[at..], cx),
                    _ => 0,
                };
                at += rows;
                if self.waits(cx) {
                    break;
                }
                if rows > 0 {
                    continue;
                }
            }
            if let Err(close) = self.server_frame(&bytes[at..at + size], cx) {
                result = Err(close);
                break;
            }
            at += size;
        }
        bytes.advance(at);
        *input = bytes;
        self.scratch.rest();
        result
    }

    /// A passthrough database after login: bytes may be copied without looking.
    pub fn transparent(&self) -> bool {
        self.phase == Phase::Transparent
    }

    /// The server has accepted the login.
    pub fn authenticated(&self) -> bool {
        self.phase != Phase::Login
    }

    /// Nothing is running and no transaction is open.
    pub fn idle(&self) -> bool {
        self.phase == Phase::Ready && self.pending.is_empty() && self.transaction == b'I' && !self.open_pipeline
    }

    /// Client input waits for a catalog look-up.
    pub fn waiting_for_catalog(&self) -> bool {
        self.waiting
    }

    /// Client input waits for the look-up of the verifier of [`Session::actor`]'s role.
    pub fn waiting_for_credential(&self) -> bool {
        matches!(self.login.stage, terminate::Stage::Asking)
    }

    /// The pair for the cancel registry, once the server has sent its key.
    pub fn backend_key(&self) -> Option<&BackendKey> {
        self.key.as_ref()
    }

    /// Who is connected.
    pub fn actor(&self) -> &Part<Actor> {
        &self.actor
    }

    /// The connection ended: outcomes of what was running, and the logout.
    pub fn finish(&mut self, cx: &mut Context<'_>) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        self.record_end(cx);
    }

    /// The access log cannot be written: what is held is dropped by the relay, the client is told why.
    pub fn audit_down(&mut self, cx: &mut Context<'_>) -> Close {
        let refusal = Refusal::new(
            Code::AuditDown,
            "the access log cannot be written, so protected data is not released",
            "free space in the audit directory, or look at the proxy's log",
        );
        self.denied(&refusal, cx);
        self.fatal(&refusal, "the access log cannot be written", cx)
    }

    fn holding(&self) -> bool {
        self.pending.len() >= PENDING_MAX
            || self.probing
            || self.sync_held
            || self.waiting
            || self.waiting_for_purpose()
            || matches!(self.phase, Phase::Transparent | Phase::Console)
    }

    fn class<'a>(&self, rules: &'a Rules) -> &'a ActorClass {
        rules.class(self.class)
    }

    fn follow_rules(&mut self, cx: &mut Context<'_>) {
        if cx.rules.version == self.rules_version {
            return;
        }
        self.rules_version = cx.rules.version;
        self.guard(cx);
        self.act(cx);
        if self.phase == Phase::Ready && self.lens_moved(cx) {
            self.unsettled = true;
            if self.transaction != b'E' && self.pending.is_empty() && !self.open_pipeline && !self.probing {
                self.probe(cx);
            }
        }
    }

    fn bad_length(&mut self, cx: &mut Context<'_>) -> Close {
        let refusal = Refusal::new(Code::Protocol, "invalid message length", "");
        self.fatal(&refusal, "the client sent an impossible message length", cx)
    }

    fn bad_length_of_server(&mut self, bad: BadFrame, cx: &mut Context<'_>) -> Close {
        if bad == BadFrame::TooShort {
            return self.unexpected_reply(cx);
        }
        let hint = "Select less at once; [limits] message_bytes is the longest message that is passed on.";
        let refusal = Refusal::new(Code::Limit, "the server's answer is too long for a message", hint);
        self.fatal(&refusal, "the server sent a message beyond the limit", cx)
    }

    /// Ends the connection with a FATAL error.
    fn fatal(&mut self, refusal: &Refusal, reason: &'static str, cx: &mut Context<'_>) -> Close {
        cx.meters.refusal(refusal.code);
        crate::wire::encode::error(cx.to_client, "FATAL", refusal);
        Close { reason }
    }
}
