//! A session on a stage: hostile bytes out of the input on one side or both, cut anywhere, and what must hold whatever
//! they are:
//!
//! - no panic, output in proportion to the input;
//! - what leaves for either side is whole frames;
//! - a value that was only ever written where it is sealed does not reach the server in clear;
//! - an envelope the actor may not open does not reach the client in clear;
//! - a column that only pgveil has asked for does not reach the client;
//! - the same bytes in other pieces have the same effect;
//! - with a server that keeps to the protocol: no reply is unexplained, and nothing is held for ever.

use std::sync::{Arc, LazyLock};

use bytes::BytesMut;
use pgveil::clock::Now;
use pgveil::crypto::SealMode;
use pgveil::detect::Gate;
use pgveil::error::{Code, Refusal};
use pgveil::metrics::Meters;
use pgveil::plan::Cache;
use pgveil::policy::readers::Readers;
use pgveil::policy::rules::{Rules, SubjectKey};
use pgveil::secret::{Entropy, Key};
use pgveil::session::{Context, Credential, Effect, Legs, Session, Settings};
use pgveil::sql::schema::Role;
use pgveil::wire::frame;
use pgveil::wire::scram::Verifier;
use pgveil::wire::startup::Startup;

use super::rules::{RING, RULES};
use super::script::{self, Input};
use super::server::{KEY, Server, message};

/// Written only where a value is sealed.
pub const CANARY: &str = "kanarienvogel-7d1f";
/// The same for an int8.
pub const PIN: i64 = 0x4b61_6e61_7269_6556;
/// In envelopes only.
pub const SECRET: &str = "geheimnis-93ab";

/// Longest message, in bytes: short enough for inputs to go beyond it.
const MESSAGE_BYTES: usize = 4096;

/// Who sends hostile bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hostile {
    Client,
    Both,
}

static METERS: LazyLock<Meters> = LazyLock::new(Meters::detached);
static GATE: LazyLock<Gate> = LazyLock::new(Gate::default);

/// Random bytes that are the same in every run.
#[derive(Debug)]
struct Counter(u64);

impl Entropy for Counter {
    fn fill(&mut self, out: &mut [u8]) {
        for byte in out {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            *byte = (self.0 >> 56) as u8;
        }
    }
}

/// The rules, where a row of `users` is about a person, whose key `app` and `analyst` may read.
static KEYED: LazyLock<Arc<Rules>> = LazyLock::new(|| {
    let mut rules = Rules::clone(&RULES);
    let mut schema = (*rules.schema).clone();
    schema.roles.extend(["app", "analyst"].map(|role| (role.to_owned(), Role::default())));
    schema.readers.insert((100, 0), vec!["".into()]);
    schema.aggregates.insert("array_agg".to_owned());
    if let Some(users) = rules.tables.get_mut(&100) {
        Arc::make_mut(users).subject = Some(SubjectKey { kind: "user".into(), attnum: 1, column: "id".into() });
    }
    rules.readers = Readers::build(&schema, &rules.tables, &rules.classes);
    rules.schema = Arc::new(schema);
    Arc::new(rules)
});

/// An envelope of [`SECRET`] in `public.users.email`.
pub static ENVELOPE: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut out = Vec::new();
    RING.seal(1, SealMode::Deterministic, 1, SECRET.as_bytes(), &mut Counter(1), &mut out).expect("a known column");
    out
});

/// One connection.
#[derive(Debug)]
pub struct Play {
    session: Session,
    server: Server,
    plans: Cache,
    entropy: Counter,
    client_in: BytesMut,
    server_in: BytesMut,
    /// What the client has sent of a message whose end is still to come.
    begun: BytesMut,
    to_client: BytesMut,
    to_server: BytesMut,
    /// How much of `to_server` the server has taken.
    taken: usize,
    effects: Vec<Effect>,
    credential: Option<Result<Credential, Refusal>>,
    closed: Option<&'static str>,
    /// Bytes per piece.
    piece: usize,
    /// The SECRET may be shown.
    cleared: bool,
    hostile: Hostile,
    steps: usize,
    bytes: usize,
}

/// One input: who, in which state, how it is cut, the script.
pub fn run(data: &[u8], hostile: Hostile) {
    let [setup, state, piece, rest @ ..] = data else { return };
    let pin = PIN.to_string();
    // Said by the input itself, anywhere.
    let words = [CANARY, SECRET, KEY, "pgveil_subject", &pin].map(str::as_bytes);
    if words.into_iter().chain([&PIN.to_be_bytes()[..]]).any(|word| says(data, word)) {
        return;
    }
    let whole = play(*setup, *state, usize::MAX, rest, hostile);
    let cut = play(*setup, *state, usize::from(piece % 16) + 1, rest, hostile);
    assert_eq!(tags(&whole.to_client), tags(&cut.to_client), "cut otherwise, the client gets other messages");
    assert_eq!(whole.to_client, cut.to_client, "cut otherwise, the client gets other bytes");
    assert_eq!(whole.to_server, cut.to_server, "cut otherwise, the server gets other bytes");
    assert_eq!(
        (whole.closed, whole.effects.len()),
        (cut.closed, cut.effects.len()),
        "cut otherwise, it ends otherwise"
    );
}

fn play(setup: u8, state: u8, piece: usize, rest: &[u8], hostile: Hostile) -> Play {
    let mut play = Play::new(setup, piece, hostile);
    script::enter(&mut play, state);
    let mut input = Input(rest);
    while play.closed.is_none() && script::step(&mut play, &mut input) {
        play.steps += 1;
    }
    if hostile == Hostile::Client && play.closed.is_none() {
        play.settles();
    }
    play.judge();
    play
}

impl Play {
    /// Bits of the setup: 0–1 the role, 2 terminate, 3 intents, 4 every statement is an event, 5–6 the credential.
    fn new(setup: u8, piece: usize, hostile: Hostile) -> Self {
        let role = ["app", "analyst", "nobody", "app"][usize::from(setup & 3)];
        let bytes = |text: &str| text.as_bytes().to_vec();
        let parameters = vec![(bytes("user"), bytes(role)), (bytes("database"), bytes("app"))];
        let settings = Settings {
            terminate: setup & 4 != 0,
            relay_cleartext: true,
            intent: setup & 8 != 0,
            log_all: setup & 16 != 0,
            message_bytes: MESSAGE_BYTES,
            prepared_statements: 4,
            portals: 4,
            ..Settings::default()
        };
        let legs = Legs { client_tls: true, server_tls: true, ..Legs::default() };
        let startup = Startup { major: 3, minor: 0, parameters };
        let session = Session::new(Arc::new(settings), startup, 1, None, legs, &KEYED).expect("it is served");
        let verifier = Verifier::mock(&Key::new([1; 32]), role);
        let credential = match setup >> 5 & 3 {
            0 => Err(Refusal::new(Code::Internal, "no verifier", "")),
            other => Ok(Credential { verifier, other: other == 1 }),
        };
        let mut play = Self {
            session,
            server: Server::new(),
            plans: Cache::new(16),
            entropy: Counter(7),
            client_in: BytesMut::new(),
            server_in: BytesMut::new(),
            begun: BytesMut::new(),
            to_client: BytesMut::new(),
            to_server: BytesMut::new(),
            taken: 0,
            effects: Vec::new(),
            credential: Some(credential),
            closed: None,
            piece,
            cleared: role == "app",
            hostile,
            steps: 0,
            bytes: 0,
        };
        play.with(|session, _, cx| {
            session.start(None, cx);
            Ok(())
        });
        // The startup packet is not a frame.
        play.to_server.clear();
        play
    }

    fn with(
        &mut self,
        act: impl FnOnce(&mut Session, [&mut BytesMut; 2], &mut Context<'_>) -> Result<(), pgveil::session::Close>,
    ) {
        let mut cx = Context {
            rules: &KEYED,
            plans: &self.plans,
            keyring: &RING,
            clock: &Now { mono_ns: 0, unix_us: 0 },
            entropy: &mut self.entropy,
            to_client: &mut self.to_client,
            to_server: &mut self.to_server,
            effects: &mut self.effects,
            meters: &METERS,
            gate: &GATE,
            catalog_deadline_passed: false,
            purpose: None,
            credential: if self.session.waiting_for_credential() { self.credential.take() } else { None },
        };
        if let Err(close) = act(&mut self.session, [&mut self.client_in, &mut self.server_in], &mut cx) {
            self.closed = self.closed.or(Some(close.reason));
        }
    }

    /// The client is not in the middle of a message.
    pub fn between_messages(&self) -> bool {
        self.begun.is_empty()
    }

    /// Bytes of the client.
    pub fn client(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len();
        self.begun.extend_from_slice(bytes);
        while let Ok(Some((_, size))) = frame::peek(&self.begun, usize::MAX)
            && size <= self.begun.len()
        {
            let _ = self.begun.split_to(size);
        }
        for piece in bytes.chunks(self.piece) {
            self.client_in.extend_from_slice(piece);
            if self.closed.is_none() {
                self.with(|session, [input, _], cx| session.client(input, cx));
            }
        }
    }

    /// Bytes of the server; what the client sent and was held is looked at again.
    pub fn server(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len();
        for piece in bytes.chunks(self.piece) {
            self.server_in.extend_from_slice(piece);
            if self.closed.is_none() {
                self.with(|session, [_, input], cx| session.server(input, cx));
            }
        }
        if self.closed.is_none() {
            self.with(|session, [input, _], cx| session.client(input, cx));
        }
    }

    /// The catalog was looked up.
    pub fn catalog(&mut self) {
        if self.closed.is_none() {
            self.with(|session, [input, _], cx| {
                cx.catalog_deadline_passed = true;
                session.client(input, cx)
            });
        }
    }

    /// One answer of the server that keeps to the protocol. `false`: none is owed.
    pub fn answer(&mut self, taste: u8) -> bool {
        let mut rest = &self.to_server[self.taken..];
        // A startup packet of a login that ended here comes first; the frames begin after the password.
        while let Ok(Some((_, size))) = frame::peek(rest, usize::MAX) {
            let Some(frame) = rest.get(..size) else { break };
            self.server.takes(frame);
            rest = &rest[size..];
        }
        self.taken = self.to_server.len() - rest.len();
        let Some(bytes) = self.server.answer(taste) else { return false };
        self.server(&bytes);
        if self.server.gone() {
            self.closed = self.closed.or(Some("the server has gone"));
        }
        let explained = !matches!(self.closed, Some("the server sent an unexpected message"));
        let invented = bytes.first().is_some_and(|tag| matches!(tag, b'H' | b'T' | b'D' | b't'));
        assert!(
            explained || invented || self.hostile == Hostile::Both,
            "a reply that PostgreSQL gives is not expected: {}",
            tags(&bytes)
        );
        true
    }

    /// Whether bytes of a hostile server are wanted.
    pub fn server_is_hostile(&self) -> bool {
        self.hostile == Hostile::Both
    }

    /// The login is through.
    pub fn ready(&self) -> bool {
        self.server.ready() && self.session.authenticated()
    }

    /// Everything owed is answered: then no whole frame of the client is held, and a Sync brings ReadyForQuery.
    fn settles(&mut self) {
        if !self.ready() {
            return;
        }
        for _ in 0..200 + 4 * self.steps + self.bytes {
            self.catalog();
            if self.closed.is_some() || !self.answer(0) {
                break;
            }
        }
        self.catalog();
        if self.closed.is_some() {
            return;
        }
        let held = frame::peek(&self.client_in, MESSAGE_BYTES);
        let whole = matches!(held, Ok(Some((_, size))) if size <= self.client_in.len());
        assert!(!whole, "the server owes nothing, and a message of the client is held");
        if !self.client_in.is_empty() {
            return;
        }
        let before = self.to_client.len();
        let close: Vec<u8> = if self.server.copying() { message(b'f', b"no\0") } else { Vec::new() };
        self.client(&[close, message(b'S', b"")].concat());
        while self.closed.is_none() && self.answer(0) {
            self.catalog();
        }
        let answered = tags(&self.to_client[before..]).ends_with('Z');
        assert!(answered || self.closed.is_some(), "Sync is not answered");
    }

    fn judge(&mut self) {
        tags(&self.to_client);
        let bound = 64 * 1024 + 1024 * (self.bytes + self.steps);
        let made = self.to_client.len() + self.to_server.len() + 64 * self.effects.len();
        assert!(made <= bound, "{made} bytes out of {} bytes", self.bytes);
        for effect in &self.effects {
            if let Effect::Intent { side, from, .. } = effect {
                let output = match side {
                    pgveil::session::Side::Client => &self.to_client,
                    pgveil::session::Side::Server => &self.to_server,
                };
                assert!(*from <= output.len(), "an intent in front of nothing");
            }
        }
        let pin = PIN.to_string();
        for clear in [CANARY.as_bytes(), pin.as_bytes(), &PIN.to_be_bytes()] {
            absent(&self.to_server, clear, "a value that is sealed goes to the server in clear");
        }
        if !self.cleared {
            absent(&self.to_client, SECRET.as_bytes(), "a value goes to a client that may not see it");
        }
        if self.hostile == Hostile::Client {
            absent(&self.to_client, KEY.as_bytes(), "a key that the client has not asked for goes to it");
            absent(&self.to_client, b"pgveil_subject", "a column of pgveil's goes to a client");
        }
        let told = format!("{:?}", self.effects);
        for clear in [CANARY, SECRET, KEY, &pin] {
            absent(told.as_bytes(), clear.as_bytes(), "a value is in an event");
        }
        self.with(|session, _, cx| {
            session.finish(cx);
            Ok(())
        });
    }
}

fn absent(bytes: &[u8], clear: &[u8], what: &str) {
    assert!(!says(bytes, clear), "{what}");
}

/// As it is or in hex.
fn says(bytes: &[u8], clear: &[u8]) -> bool {
    let hex = hex::encode(clear);
    let forms = [clear.to_vec(), hex.to_uppercase().into_bytes(), hex.into_bytes()];
    forms.iter().any(|form| memchr::memmem::find(bytes, form).is_some())
}

/// The tags of whole frames.
fn tags(bytes: &[u8]) -> String {
    let (mut at, mut tags) = (0, String::new());
    while let Some((tag, size)) = frame::peek(&bytes[at..], usize::MAX).expect("lengths are possible") {
        tags.push(char::from(tag));
        at += size;
    }
    assert_eq!(at, bytes.len(), "whole frames only");
    tags
}
