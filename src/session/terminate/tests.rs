//! Logins that end here, with a client and a server that follow a script.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::BytesMut;

use super::*;
use crate::clock::Now;
use crate::crypto::Keyring;
use crate::detect::Gate;
use crate::metrics::Meters;
use crate::plan;
use crate::policy::rules::{ActorClass, Rules};
use crate::secret::Entropy;
use crate::session::{Legs, Settings};
use crate::sql::schema::Schema;
use crate::wire::frame;
use crate::wire::scram::tests::{pencil, prove};
use crate::wire::startup::Startup;

struct Fixed;

impl Entropy for Fixed {
    fn fill(&mut self, out: &mut [u8]) {
        out.fill(9);
    }
}

struct Play {
    session: Session,
    rules: Arc<Rules>,
    plans: plan::Cache,
    keyring: Keyring,
    meters: Meters,
    to_client: BytesMut,
    to_server: BytesMut,
    effects: Vec<Effect>,
}

impl Play {
    fn new(settings: Settings, legs: Legs) -> Self {
        let class = ActorClass {
            role: String::new(),
            sealed: crate::policy::rules::ByColumn::default(),
            may_search: HashSet::new(),
            may_write: HashSet::new(),
            hidden: HashSet::new(),
            ..ActorClass::default()
        };
        let schema = Arc::new(Schema { database: "app".to_owned(), ..Schema::default() });
        let rules = Rules { version: 1, schema, classes: vec![class], ..Rules::none(Default::default()) };
        let parameters = vec![(b"user".to_vec(), b"ann".to_vec()), (b"database".to_vec(), b"app".to_vec())];
        let startup = Startup { major: 3, minor: 0, parameters };
        let settings = Arc::new(Settings { terminate: true, ..settings });
        Self {
            session: Session::new(settings, startup, 1, None, legs, &rules).unwrap(),
            rules: Arc::new(rules),
            plans: plan::Cache::new(16),
            keyring: Keyring::for_tests(&[7; 32], "app", &[(1, "public.t.c")]).unwrap(),
            meters: Meters::detached(),
            to_client: BytesMut::new(),
            to_server: BytesMut::new(),
            effects: Vec::new(),
        }
    }

    fn step<T>(&mut self, found: Option<Credential>, step: impl FnOnce(&mut Session, &mut Context<'_>) -> T) -> T {
        let mut cx = Context {
            rules: &self.rules,
            plans: &self.plans,
            keyring: &self.keyring,
            clock: &Now { mono_ns: 0, unix_us: 0 },
            entropy: &mut Fixed,
            to_client: &mut self.to_client,
            to_server: &mut self.to_server,
            effects: &mut self.effects,
            meters: &self.meters,
            gate: &Gate::default(),
            catalog_deadline_passed: false,
            credential: found.map(Ok),
            purpose: None,
        };
        step(&mut self.session, &mut cx)
    }

    fn begin(&mut self, server: Option<EndPoint>, found: Credential) {
        self.step(None, |session, cx| session.start(server, cx));
        assert!(self.session.waiting_for_credential() && self.to_server.is_empty() && self.to_client.is_empty());
        self.step(Some(found), |session, cx| session.client(&mut BytesMut::new(), cx)).unwrap();
    }

    fn client(&mut self, body: &[u8]) -> Result<(), Close> {
        let mut input = BytesMut::new();
        encode::raw(&mut input, b'p', body).unwrap();
        self.step(None, |session, cx| session.client(&mut input, cx))
    }

    fn server(&mut self, code: u32, data: &[u8]) -> Result<(), Close> {
        let mut input = BytesMut::new();
        encode::raw(&mut input, b'R', &[&code.to_be_bytes(), data].concat()).unwrap();
        self.step(None, |session, cx| session.server(&mut input, cx))
    }

    /// The client proves itself; the server gets the startup packet.
    fn prove(&mut self) {
        assert_eq!(taken(&mut self.to_client), message(10, b"SCRAM-SHA-256\0\0"));
        self.client(&initial("SCRAM-SHA-256", "n,,n=,r=abc")).unwrap();
        let challenge = String::from_utf8(taken(&mut self.to_client)[9..].to_vec()).unwrap();
        let nonce = challenge.split(',').next().unwrap();
        let last = prove(&pencil(), "n=,r=abc", &challenge, &format!("c=biws,{nonce}"));
        assert!(self.to_server.is_empty(), "the server hears nothing before the client has proved itself");
        self.client(last.as_bytes()).unwrap();
        assert!(self.to_client.is_empty(), "the client hears nothing before the server has agreed");
        assert!(taken(&mut self.to_server).ends_with(b"client_encoding\0UTF8\0\0"));
    }

    /// The error the client got.
    fn refusal(&mut self) -> String {
        String::from_utf8_lossy(&taken(&mut self.to_client)).into_owned()
    }
}

fn taken(bytes: &mut BytesMut) -> Vec<u8> {
    bytes.split().to_vec()
}

fn message(code: u32, data: &[u8]) -> Vec<u8> {
    let mut out = BytesMut::new();
    encode::raw(&mut out, b'R', &[&code.to_be_bytes(), data].concat()).unwrap();
    out.to_vec()
}

fn initial(mechanism: &str, first: &str) -> Vec<u8> {
    let length = u32::try_from(first.len()).unwrap().to_be_bytes();
    [mechanism.as_bytes(), &[0], &length, first.as_bytes()].concat()
}

fn local() -> Play {
    Play::new(Settings::default(), Legs { client_local: true, ..Legs::default() })
}

fn ann() -> Credential {
    Credential { verifier: pencil().verifier, other: false }
}

/// A server that knows the password: its last word.
fn upstream(play: &mut Play, end_point: Option<&[u8]>) -> String {
    let list = if end_point.is_some() { &b"SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0"[..] } else { b"SCRAM-SHA-256\0\0" };
    play.server(10, list).unwrap();
    let said = taken(&mut play.to_server);
    let (mechanism, first) = initial_response(&said[frame::HEADER..]).unwrap();
    let mechanism = Mechanism::named(mechanism).unwrap();
    assert_eq!(mechanism == Mechanism::Plus, end_point.is_some());
    let server = scram::Server::challenge(pencil().verifier, mechanism, end_point, first, &[3; 18]).unwrap();
    play.server(11, server.server_first().as_bytes()).unwrap();
    server.check(&taken(&mut play.to_server)[frame::HEADER..]).unwrap().server_final
}

#[test]
fn a_client_is_let_in_when_both_have_proved_it() {
    let key = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let end_point = EndPoint::of(key.cert.der()).unwrap();
    for server in [None, Some(end_point)] {
        let mut play = local();
        play.begin(server, ann());
        play.prove();
        let signed = upstream(&mut play, server.as_ref().map(EndPoint::bytes));
        play.server(12, signed.as_bytes()).unwrap();
        assert!(play.to_client.is_empty() && !play.session.authenticated());
        play.server(0, b"").unwrap();
        let said = taken(&mut play.to_client);
        assert!(said.starts_with(&[b'R', 0, 0, 0, 54, 0, 0, 0, 12, b'v', b'=']) && said.ends_with(&message(0, b"")));
        assert_eq!(play.session.actor().auth, ActorAuth::ScramTerminate);
    }
}

#[test]
fn a_server_that_does_not_sign_right_lets_nobody_in() {
    let mut play = local();
    play.begin(None, ann());
    play.prove();
    let mut signed = upstream(&mut play, None).into_bytes();
    signed[5] = if signed[5] == b'A' { b'B' } else { b'A' };
    play.server(12, &signed).unwrap_err();
    assert!(play.refusal().contains("signature is wrong") && !play.session.authenticated());
}

#[test]
fn a_server_that_skips_a_step_lets_nobody_in() {
    for steps in 0..3 {
        let mut play = Play::new(Settings::default(), Legs::default());
        play.begin(None, ann());
        play.prove();
        match steps {
            0 => {}
            1 => play.server(10, b"SCRAM-SHA-256\0\0").unwrap(),
            _ => drop(upstream(&mut play, None)),
        }
        play.server(0, b"").unwrap_err();
        assert!(play.refusal().contains("PV004") && !play.session.authenticated(), "{steps}");
    }
    for (code, said) in [(3, "PV027"), (5, "PV027"), (12, "PV002"), (7, "PV002")] {
        let mut play = local();
        play.begin(None, ann());
        play.prove();
        play.server(code, b"v=AAAA").unwrap_err();
        assert!(play.refusal().contains(said), "{code}");
        let failed = play.effects.iter().filter(|e| matches!(e, Effect::Event(e) if e.kind == EventKind::LoginFailed));
        assert_eq!(failed.count(), 1, "{code}");
    }
}

#[test]
fn a_verifier_that_the_server_has_changed_is_forgotten() {
    let mut play = local();
    play.begin(None, ann());
    play.prove();
    play.server(10, b"SCRAM-SHA-256\0\0").unwrap();
    let said = taken(&mut play.to_server);
    let (_, first) = initial_response(&said[frame::HEADER..]).unwrap();
    let other = Verifier::mock(&crate::secret::Key::new([5; 32]), "ann");
    let server = scram::Server::challenge(other, Mechanism::Plain, None, first, &[3; 18]).unwrap();
    play.server(11, server.server_first().as_bytes()).unwrap_err();
    assert!(play.refusal().contains("28P01"));
    assert!(play.effects.iter().any(|e| matches!(e, Effect::ForgetCredential)));
}

#[test]
fn a_user_without_a_verifier_is_answered_as_one_with_the_wrong_password() {
    let mock = Credential { verifier: Verifier::mock(&crate::secret::Key::new([5; 32]), "ann"), other: true };
    let mut answers = Vec::new();
    for (found, relay_cleartext) in [(ann(), false), (mock.clone(), false), (mock.clone(), true)] {
        let settings = Settings { relay_cleartext, ..Settings::default() };
        let mut play = Play::new(settings, Legs { client_local: true, ..Legs::default() });
        play.begin(None, found);
        play.client(&initial("SCRAM-SHA-256", "n,,n=,r=abc")).unwrap();
        let said = taken(&mut play.to_client);
        let at = said.windows(3).position(|w| w == b"\0\0\x0b").unwrap();
        let nonce = String::from_utf8_lossy(&said[at + 3..]).split(',').next().unwrap().to_owned();
        play.client(format!("c=biws,{nonce},p={}=", "A".repeat(43)).as_bytes()).unwrap_err();
        answers.push((said.len(), play.refusal()));
        assert!(play.to_server.is_empty());
    }
    assert!(answers[0].1.contains("password authentication failed for user \"ann\""), "{answers:?}");
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
    let both = Legs { client_tls: true, server_tls: true, ..Legs::default() };
    let mut play = Play::new(Settings { relay_cleartext: true, ..Settings::default() }, both);
    play.begin(None, mock);
    assert!(taken(&mut play.to_server).ends_with(b"client_encoding\0UTF8\0\0"), "the server asks for the password");
    play.server(3, b"").unwrap();
    assert_eq!(taken(&mut play.to_client), message(3, b""));
    play.client(b"secret\0").unwrap();
    play.server(0, b"").unwrap();
    assert_eq!(play.session.actor().auth, ActorAuth::Cleartext);
}

#[test]
fn plus_is_offered_with_a_certificate_and_what_is_out_of_turn_ends_the_login() {
    let key = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let legs = Legs { client_tls: true, client_end_point: EndPoint::of(key.cert.der()), ..Legs::default() };
    let mut play = Play::new(Settings::default(), legs);
    play.begin(None, ann());
    assert_eq!(taken(&mut play.to_client), message(10, b"SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0"));
    play.client(&initial("SCRAM-SHA-256", "y,,n=,r=abc")).unwrap_err();
    assert!(play.refusal().contains("channel binding"));
    for body in [&b"SCRAM-SHA-1\0\0\0\0\0"[..], b"SCRAM-SHA-256\0\xff\xff\xff\xff", b"", b"password\0"] {
        let mut play = local();
        play.begin(None, ann());
        play.client(body).unwrap_err();
        assert!(play.refusal().contains("PV002") && play.to_server.is_empty());
    }
    let mut play = local();
    play.begin(None, ann());
    play.prove();
    play.client(b"again").unwrap_err();
    assert!(play.to_server.is_empty());
}
