//! Scripts of protocol messages against the session alone, bytes split at every boundary.

mod failing;
mod limit;
mod skipped;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use bytes::{BufMut, BytesMut};

use super::*;
use crate::clock::Now;
use crate::detect::{Gate, Thresholds};
use crate::event::{ActorAuth, EventKind};
use crate::policy::rules::{ActorClass, ByColumn};
use crate::sql::schema::Schema;
use crate::wire::message;

struct Fixed(u8);

impl Entropy for Fixed {
    fn fill(&mut self, out: &mut [u8]) {
        out.fill(self.0);
    }
}

fn rules() -> Arc<Rules> {
    let class = ActorClass {
        role: String::new(),
        sealed: ByColumn::default(),
        may_search: HashSet::new(),
        may_write: HashSet::new(),
        hidden: HashSet::new(),
        ..ActorClass::default()
    };
    Arc::new(Rules {
        version: 1,
        schema: Arc::new(Schema { database: "app".to_owned(), ..Schema::default() }),
        tables: HashMap::new(),
        sealed: HashMap::new(),
        by_id: ByColumn::default(),
        classes: vec![class],
        class_of: HashMap::new(),
        names: HashSet::new(),
        code: crate::policy::code::UsersCode::default(),
        views: Vec::new(),
        purposes: Vec::new(),
        vouchers: Vec::new(),
        reviewed: Vec::new(),
        grounds: Default::default(),
        observe: None,
        readers: Default::default(),
        copies: Default::default(),
        detect: Thresholds::default(),
        warnings: Vec::new(),
    })
}

fn startup(parameters: &[(&str, &str)]) -> Startup {
    let bytes = |s: &str| s.as_bytes().to_vec();
    Startup { major: 3, minor: 0, parameters: parameters.iter().map(|(n, v)| (bytes(n), bytes(v))).collect() }
}

fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut out = BytesMut::new();
    crate::wire::encode::raw(&mut out, tag, body).unwrap();
    out.to_vec()
}

fn authentication(code: u32, rest: &[u8]) -> Vec<u8> {
    let mut body = code.to_be_bytes().to_vec();
    body.extend_from_slice(rest);
    message(b'R', &body)
}

struct Desk {
    rules: Arc<Rules>,
    plans: plan::Cache,
    keyring: Keyring,
    meters: Meters,
    gate: Gate,
    entropy: Fixed,
    to_client: BytesMut,
    to_server: BytesMut,
    effects: Vec<Effect>,
    credential: Option<Result<Credential, Refusal>>,
    purpose: Option<Result<(), Refusal>>,
}

impl Desk {
    fn new() -> Self {
        Self {
            rules: rules(),
            plans: plan::Cache::new(16),
            keyring: Keyring::for_tests(&[7; 32], "app", &[(1, "public.t.c")]).unwrap(),
            meters: Meters::detached(),
            gate: Gate::default(),
            entropy: Fixed(9),
            to_client: BytesMut::new(),
            to_server: BytesMut::new(),
            effects: Vec::new(),
            credential: None,
            purpose: None,
        }
    }

    fn cx(&mut self) -> Context<'_> {
        Context {
            rules: &self.rules,
            plans: &self.plans,
            keyring: &self.keyring,
            clock: &Now { mono_ns: 0, unix_us: 0 },
            entropy: &mut self.entropy,
            to_client: &mut self.to_client,
            to_server: &mut self.to_server,
            effects: &mut self.effects,
            meters: &self.meters,
            gate: &self.gate,
            catalog_deadline_passed: false,
            credential: self.credential.take(),
            purpose: self.purpose.take(),
        }
    }
}

fn session(parameters: &[(&str, &str)], settings: Settings) -> Result<Session, Refusal> {
    let legs = Legs { client_local: true, ..Legs::default() };
    Session::new(Arc::new(settings), startup(parameters), 1, None, legs, &rules())
}

fn app(settings: Settings) -> Session {
    session(&[("user", "ann"), ("database", "app")], settings).unwrap()
}

fn tags(bytes: &[u8]) -> String {
    let mut at = 0;
    let mut tags = String::new();
    while let Ok(Some((tag, size))) = frame::peek(&bytes[at..], 1 << 20) {
        tags.push(char::from(tag));
        at += size;
    }
    assert_eq!(at, bytes.len(), "whole frames only");
    tags
}

/// What a SCRAM login looks like from the server's side.
fn scram_login() -> Vec<Vec<u8>> {
    vec![
        authentication(10, b"SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0"),
        authentication(11, b"r=x,s=y,i=4096"),
        authentication(12, b"v=z"),
        authentication(0, b""),
        message(b'S', b"client_encoding\0UTF8\0"),
        message(b'K', &[0, 0, 0, 5, 1, 2, 3, 4]),
        message(b'Z', b"I"),
    ]
}

fn probe_answer() -> Vec<Vec<u8>> {
    let row = |value: &str| {
        let mut body = vec![0, 1];
        body.extend_from_slice(&(value.len() as u32).to_be_bytes());
        body.extend_from_slice(value.as_bytes());
        message(b'D', &body)
    };
    let mut frames = Vec::new();
    for value in ["\"$user\", public", "hex", "1", "none"] {
        frames.push(message(b'T', &[0, 0]));
        frames.push(row(value));
        frames.push(message(b'C', b"SHOW\0"));
    }
    frames.push(message(b'Z', b"I"));
    frames
}

/// Logs in with the server's bytes cut into pieces of `piece` bytes.
fn logged_in(piece: usize) -> (Session, Desk) {
    let mut desk = Desk::new();
    let mut session = app(Settings::default());
    session.start(None, &mut desk.cx());
    let stream: Vec<u8> = scram_login().into_iter().chain(probe_answer()).flatten().collect();
    let mut input = BytesMut::new();
    for bytes in stream.chunks(piece) {
        input.put_slice(bytes);
        session.server(&mut input, &mut desk.cx()).unwrap();
    }
    assert!(input.is_empty());
    (session, desk)
}

/// What nobody else may see.
const VALUE: &[u8] = b"kanarienvogel";

fn parse(name: &str, sql: &str) -> Vec<u8> {
    message(b'P', &[name.as_bytes(), b"\0", sql.as_bytes(), b"\0\0\0"].concat())
}

fn query(sql: &str) -> Vec<u8> {
    message(b'Q', &[sql.as_bytes(), b"\0"].concat())
}

fn error(sqlstate: &str) -> Vec<u8> {
    message(b'E', format!("SERROR\0VERROR\0C{sqlstate}\0Mno\0\0").as_bytes())
}

/// A session that is logged in, and what it has put out since.
struct Idle(Session, Desk);

impl Idle {
    fn new() -> Self {
        let (session, mut desk) = logged_in(usize::MAX);
        desk.to_client.clear();
        desk.to_server.clear();
        Self(session, desk)
    }

    /// What is left of the input.
    fn client(&mut self, messages: &[Vec<u8>]) -> BytesMut {
        let mut input = BytesMut::from(&messages.concat()[..]);
        let mut cx = Context { catalog_deadline_passed: true, ..self.1.cx() };
        self.0.client(&mut input, &mut cx).unwrap();
        // Held for the catalog, which has been looked up.
        let mut cx = Context { catalog_deadline_passed: true, ..self.1.cx() };
        self.0.client(&mut input, &mut cx).unwrap();
        input
    }

    fn server(&mut self, messages: &[Vec<u8>]) {
        self.0.server(&mut BytesMut::from(&messages.concat()[..]), &mut self.1.cx()).unwrap();
    }

    fn leaked(&self) -> bool {
        memchr::memmem::find(&self.1.to_server, VALUE).is_some()
    }
}

#[test]
fn a_login_is_the_same_however_its_bytes_are_cut() {
    let (_, whole) = logged_in(usize::MAX);
    assert_eq!(tags(&whole.to_client), "RRRRSKZ");
    for piece in 1..40 {
        let (session, desk) = logged_in(piece);
        assert_eq!(desk.to_client, whole.to_client, "pieces of {piece}");
        assert_eq!(desk.to_server, whole.to_server, "pieces of {piece}");
        assert!(session.idle());
        assert_eq!(&*session.search_path[0], "ann");
    }
}

#[test]
fn channel_binding_is_not_offered_and_the_cancel_key_is_ours() {
    let (session, desk) = logged_in(usize::MAX);
    assert!(memchr::memmem::find(&desk.to_client, b"PLUS").is_none());
    let key = session.backend_key().unwrap();
    assert_eq!(key.theirs.secret, [1, 2, 3, 4]);
    assert_eq!(key.ours.secret, [9, 9, 9, 9]);
    assert_eq!((key.theirs.pid, key.ours.pid), (5, 5), "isolationtester looks for it in pg_locks");
    assert!(memchr::memmem::find(&desk.to_client, &[1, 2, 3, 4]).is_none());
    assert_eq!(session.actor().auth, ActorAuth::ScramSha256);
}

#[test]
fn a_login_without_a_password_is_refused_unless_allowed() {
    let stream: Vec<u8> = authentication(0, b"");
    let mut desk = Desk::new();
    let mut session = app(Settings::default());
    assert!(session.server(&mut BytesMut::from(&stream[..]), &mut desk.cx()).is_err());
    assert_eq!(tags(&desk.to_client), "E");
    assert!(matches!(&desk.effects[0], Effect::Event(e) if e.kind == EventKind::LoginFailed));

    let mut desk = Desk::new();
    let mut session = app(Settings { allow_trust: true, ..Settings::default() });
    session.server(&mut BytesMut::from(&stream[..]), &mut desk.cx()).unwrap();
    assert_eq!(session.actor().auth, ActorAuth::Trust);
}

#[test]
fn scram_that_stops_before_its_proof_is_no_login() {
    let mut desk = Desk::new();
    let mut session = app(Settings::default());
    let mut stream = authentication(10, b"SCRAM-SHA-256\0\0");
    stream.extend(authentication(0, b""));
    assert!(session.server(&mut BytesMut::from(&stream[..]), &mut desk.cx()).is_err());
}

#[test]
fn startup_options_that_change_pins_are_refused() {
    let refused = |n: &str, v: &str| {
        session(&[("user", "ann"), ("database", "app"), (n, v)], Settings::default()).err().map(|r| r.code)
    };
    assert_eq!(refused("client_encoding", "SJIS"), Some(Code::Pinned));
    assert_eq!(refused("client_encoding", "utf-8"), None);
    assert_eq!(refused("options", "-c standard-conforming-strings=off"), Some(Code::Pinned));
    assert_eq!(refused("options", "-c client_\\encoding=latin1"), Some(Code::Pinned));
    assert_eq!(refused("options", "-c search_path=x"), None);
    assert_eq!(refused("replication", "database"), Some(Code::ReplicationRefused));
    let other = session(&[("user", "ann"), ("database", "other")], Settings::default()).err();
    assert_eq!(other.map(|r| r.code), Some(Code::DatabaseNotServed));
}

#[test]
fn a_passthrough_database_becomes_transparent_after_login() {
    let settings = Settings { passthrough: vec!["plain".to_owned()], ..Settings::default() };
    let mut session = session(&[("user", "ann"), ("database", "plain")], settings).unwrap();
    let mut desk = Desk::new();
    let mut input = BytesMut::from(&scram_login().concat()[..]);
    input.put_slice(b"rest");
    session.server(&mut input, &mut desk.cx()).unwrap();
    assert!(session.transparent());
    assert_eq!(&input[..], b"rest");
}

#[test]
fn a_changed_encoding_ends_the_session() {
    let (mut session, mut desk) = logged_in(usize::MAX);
    let mut input = BytesMut::from(&message(b'S', b"client_encoding\0SJIS\0")[..]);
    assert!(session.server(&mut input, &mut desk.cx()).is_err());
}

#[test]
fn malformed_bodies_are_answered_by_the_server_never_forwarded() {
    for tag in [b'Q', b'P', b'B', b'D', b'E', b'C', b'F'] {
        let (mut session, mut desk) = logged_in(usize::MAX);
        desk.to_server.clear();
        session.client(&mut BytesMut::from(&message(tag, b"x")[..]), &mut desk.cx()).unwrap();
        assert_eq!(&desk.to_server[..], &[tag, 0, 0, 0, 4], "{}", char::from(tag));
    }
}

#[test]
fn a_function_call_is_made_to_fail_and_the_client_told_why() {
    let (mut session, mut desk) = logged_in(usize::MAX);
    desk.to_client.clear();
    desk.to_server.clear();
    session.client(&mut BytesMut::from(&message(b'F', &[0, 0, 0, 99, 0, 0, 0, 0, 0, 0])[..]), &mut desk.cx()).unwrap();
    assert_eq!(&desk.to_server[5..9], &[0, 0, 0, 0]);
    let mut answer = message(b'E', b"SERROR\0VERROR\0C42883\0Mno such function\0\0");
    answer.extend(message(b'Z', b"I"));
    session.server(&mut BytesMut::from(&answer[..]), &mut desk.cx()).unwrap();
    assert_eq!(tags(&desk.to_client), "EZ");
    let fields = message::notice_fields(&desk.to_client[5..desk.to_client.len() - 6]).unwrap();
    assert!(fields.iter().any(|(c, t)| *c == b'C' && *t == b"0A000"));
}

#[test]
fn only_far_reaching_definitions_hold_the_next_statement() {
    for (sql, holds) in [("create table t (a int)", false), ("create view v as select 1", true)] {
        let (mut session, mut desk) = logged_in(usize::MAX);
        desk.effects.clear();
        let query = message(b'Q', &[sql.as_bytes(), b"\0"].concat());
        session.client(&mut BytesMut::from(&query[..]), &mut desk.cx()).unwrap();
        let answer = [message(b'C', b"CREATE\0"), message(b'Z', b"I")].concat();
        session.server(&mut BytesMut::from(&answer[..]), &mut desk.cx()).unwrap();
        assert_eq!(session.waiting_for_catalog(), holds, "{sql}");
        // Other rules may come from a look that began before the definition; only the one asked for lets go.
        desk.rules = Arc::new(Rules { version: 2, ..Rules::clone(&desk.rules) });
        let next = message(b'Q', b"select 1\0");
        let mut input = BytesMut::from(&next[..]);
        session.client(&mut input, &mut desk.cx()).unwrap();
        assert_eq!(!input.is_empty(), holds, "{sql}");
        session.client(&mut input, &mut Context { catalog_deadline_passed: true, ..desk.cx() }).unwrap();
        assert!(input.is_empty() && !session.waiting_for_catalog(), "{sql}");
        assert!(desk.effects.iter().any(|effect| matches!(effect, Effect::RefreshCatalog)), "{sql}");
    }
}

#[test]
fn large_objects_are_called_and_their_answers_passed_on() {
    let (mut session, mut desk) = logged_in(usize::MAX);
    desk.to_client.clear();
    desk.to_server.clear();
    // lo_open(7, 0x20000), binary.
    let call = [&952_u32.to_be_bytes()[..], &[0, 1, 0, 1, 0, 2, 0, 0, 0, 4, 0, 0, 0, 7, 0, 0, 0, 4, 0, 2, 0, 0, 0, 1]];
    let call = message(b'F', &call.concat());
    session.client(&mut BytesMut::from(&call[..]), &mut desk.cx()).unwrap();
    assert_eq!(desk.to_server, call);
    let answer = [message(b'V', &[0, 0, 0, 4, 0, 0, 0, 0]), message(b'Z', b"T")].concat();
    session.server(&mut BytesMut::from(&answer[..]), &mut desk.cx()).unwrap();
    assert_eq!(desk.to_client, answer);
    // Of another shape than FunctionCall has: the server says so.
    session.client(&mut BytesMut::from(&message(b'F', &952_u32.to_be_bytes())[..]), &mut desk.cx()).unwrap();
    assert_eq!(&desk.to_server[call.len()..], &[b'F', 0, 0, 0, 4]);
}

#[test]
fn an_unexplained_reply_closes_the_connection() {
    for tag in [b'1', b'2', b'3', b'T', b'D', b'Z', b'W', b'?'] {
        let (mut session, mut desk) = logged_in(usize::MAX);
        let result = session.server(&mut BytesMut::from(&message(tag, &[0, 0])[..]), &mut desk.cx());
        assert!(result.is_err(), "{}", char::from(tag));
    }
}

fn int_target(search: bool) -> crate::plan::Target {
    use crate::policy::rules::{Level, Mode, OnFailure, SealedColumn};
    let column = Arc::new(SealedColumn {
        id: 1,
        relation: "public.t".into(),
        column: "c".into(),
        relation_oid: 1,
        attnum: 1,
        ty: crate::wire::types::SqlType { kind: crate::wire::types::Kind::Int4, typmod: -1 },
        mode: Mode::Deterministic,
        level: Level::Restricted,
        mask: crate::mask::Mask::Null,
        on_failure: OnFailure::Error,
    });
    crate::plan::Target { search, ..crate::plan::Target::stored(column) }
}

fn sealed(declared: u32, text: &str, search: bool) -> Result<Vec<u8>, Refusal> {
    let desk = Desk::new();
    let (mut plain, mut out) = (Vec::new(), Vec::new());
    let (mut entropy, style) = (Fixed(3), Style::default());
    let mut sealer = write::Sealer { keyring: &desk.keyring, entropy: &mut entropy, style: &style, plain: &mut plain };
    let format = crate::wire::types::Format::Text;
    sealer.value(&int_target(search), declared, format, text.as_bytes(), &mut out)?;
    Ok(out)
}

#[test]
fn a_searched_value_equals_a_stored_one_exactly_when_postgresql_says_so() {
    let stored = sealed(0, "4", false).unwrap();
    assert_eq!(sealed(23, "4", true).unwrap(), stored);
    assert_eq!(sealed(1700, "4.00", true).unwrap(), stored, "numeric 4.00 = 4");
    assert_eq!(sealed(701, "4", true).unwrap(), stored, "float 4 = 4");
    assert_ne!(sealed(1700, "4.4", true).unwrap(), stored, "rounding is for storing");
    assert_eq!(sealed(1700, "4.4", false).unwrap(), stored, "an assignment rounds");
    assert_ne!(sealed(20, "99999999999", true).unwrap(), stored, "beyond the type: found nowhere, no error");
    assert_eq!(sealed(20, "99999999999", false).unwrap_err().sqlstate.as_str(), "22003");
}

#[test]
fn stolen_envelopes_are_recognised_in_every_spelling() {
    let desk = Desk::new();
    let envelope = sealed(0, "4", false).unwrap();
    let hex = hex::encode(&envelope);
    for text in [format!("\\x{hex}"), format!("  \\x{}", hex.to_uppercase())] {
        let format = crate::wire::types::Format::Text;
        assert!(write::carries_envelope(&desk.keyring, text.as_bytes(), format));
    }
    assert!(write::carries_envelope(&desk.keyring, &envelope, crate::wire::types::Format::Binary));
    assert!(write::text_carries_envelope(&desk.keyring, format!("select '\\x{hex}'").as_bytes()));
    assert!(write::text_carries_envelope(&desk.keyring, format!("select decode('{hex}', 'hex')").as_bytes()));
    let octal: String = envelope.iter().map(|b| format!("\\\\{b:03o}")).collect();
    assert!(write::sql_carries_envelope(&desk.keyring, &format!("select E'{octal}'")));
    assert!(!write::text_carries_envelope(&desk.keyring, b"select '\\xfed1'"), "random bytes with the magic pass");
    let mut other = envelope;
    other[11] = 99;
    assert!(!write::is_envelope(&desk.keyring, &other), "a column id that is not ours");
}
