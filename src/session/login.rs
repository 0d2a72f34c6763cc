//! Startup, and authentication that server and client make out through us (DESIGN §4 "Auth").
//!
//! In: the startup packet, then authentication frames of both peers. Out: the packet for the server, frames passed
//! on with the PLUS mechanisms removed. Never: a password kept, a login without proof.

use bytes::{BufMut, BytesMut};
use std::net::IpAddr;

use crate::error::{Code, Refusal};
use crate::event::{Actor, ActorAuth, Event, EventKind};
use crate::policy::rules::Rules;
use crate::wire::message::Reader;
use crate::wire::startup::{CancelKey, Startup};
use crate::wire::{encode, frame};

use super::purpose::{self, Purpose};
use super::terminate::Stage;
use super::{BackendKey, Close, Context, Effect, Phase, Session, Settings};

/// Longest message of a client that has not logged in, in bytes.
pub(super) const MESSAGE_MAX: usize = 64 * 1024;

/// How far the password exchange has come.
#[derive(Debug, Default)]
pub(super) struct Exchange {
    /// The server asked for this.
    asked: Option<ActorAuth>,
    /// The server has said SASLFinal.
    sasl_final: bool,
    /// Whose login it is to judge.
    pub(super) stage: Stage,
}

pub(super) struct Checked {
    pub startup: Startup,
    pub actor: Actor,
    pub transparent: bool,
    pub console: bool,
    pub purpose: Purpose,
}

/// Startup parameters that a policy database pins.
const PINNED: [(&str, &[&str]); 2] =
    [("client_encoding", &["utf8", "utf-8", "unicode"]), ("standard_conforming_strings", &["on", "true", "yes", "1"])];

pub(super) fn check(
    settings: &Settings,
    mut startup: Startup,
    client: Option<IpAddr>,
    rules: &Rules,
) -> Result<Checked, Refusal> {
    let text = |bytes: &[u8], what: &'static str| {
        String::from_utf8(bytes.to_vec())
            .map_err(|_| Refusal::new(Code::Protocol, format!("the {what} name is not UTF-8"), ""))
    };
    let Some(user) = startup.user() else {
        return Err(Refusal::new(Code::Protocol, "no PostgreSQL user name specified in startup packet", "")
            .with_sqlstate(crate::error::SqlState(*b"28000")));
    };
    let role = text(user, "user")?;
    if super::console::asked(settings, &startup) {
        return Ok(super::console::check(startup, role, client, rules));
    }
    let passes = |startup: &Startup| {
        let name = startup.database().unwrap_or_default();
        settings.passthrough.iter().any(|database| database.as_bytes() == name)
    };
    let purpose = if passes(&startup) {
        Purpose::default()
    } else {
        purpose::at_startup(&mut startup, &role, &rules.schema.database, rules)?
    };
    let database = text(startup.database().unwrap_or_default(), "database")?;
    let passthrough = passes(&startup);
    if !passthrough && database != rules.schema.database {
        return Err(Refusal::new(
            Code::DatabaseNotServed,
            format!("database \"{database}\" is not served by this proxy"),
            "connect to the policy's database, or list this one in [databases] passthrough",
        ));
    }
    if let Some(value) = startup.parameter("replication") {
        let off = [&b"false"[..], b"off", b"no", b"0"].iter().any(|o| value.eq_ignore_ascii_case(o));
        if !off {
            return Err(Refusal::new(
                Code::ReplicationRefused,
                "replication connections are not granted",
                "connect to the PostgreSQL server directly for replication",
            ));
        }
    }
    if !passthrough {
        pin(&mut startup)?;
    }
    let application = startup.parameter("application_name").map(printable).unwrap_or_default();
    let certificate = None;
    let actor = Actor {
        role,
        database,
        auth: ActorAuth::None,
        certificate,
        application,
        client,
        purpose: None,
        purpose_by: None,
        person: None,
    };
    Ok(Checked { startup, actor, transparent: passthrough, console: false, purpose })
}

/// What a client calls itself, cut to 64 characters, control characters replaced.
pub(super) fn printable(name: &[u8]) -> String {
    String::from_utf8_lossy(name).chars().take(64).map(|c| if c.is_control() { '?' } else { c }).collect()
}

fn pin(startup: &mut Startup) -> Result<(), Refusal> {
    let refused = |name: &str| {
        Refusal::new(
            Code::Pinned,
            format!("pgveil pins {name}"),
            "use client_encoding = UTF8 and standard_conforming_strings = on",
        )
    };
    for (name, allowed) in PINNED {
        let given = startup.parameters.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name.as_bytes()));
        for (_, value) in given {
            let value = value.trim_ascii().to_ascii_lowercase();
            let bare = value.strip_prefix(b"'").and_then(|v| v.strip_suffix(b"'")).unwrap_or(&value);
            if !allowed.iter().any(|a| a.as_bytes() == bare) {
                return Err(refused(name));
            }
        }
        let options = startup.parameter("options").unwrap_or_default().to_ascii_lowercase();
        let options: Vec<u8> =
            options.iter().filter(|b| **b != b'\\').map(|b| if *b == b'-' { b'_' } else { *b }).collect();
        if memchr::memmem::find(&options, name.as_bytes()).is_some() {
            return Err(refused(name));
        }
    }
    startup.set("client_encoding", b"UTF8");
    Ok(())
}

impl Session {
    pub(super) fn login_client(&mut self, message: &[u8], cx: &mut Context<'_>) -> Result<(), Close> {
        match message[0] {
            b'p' if matches!(self.login.stage, Stage::Relayed) => {
                cx.to_server.extend_from_slice(message);
                Ok(())
            }
            b'p' => self.prove(&message[frame::HEADER..], cx),
            b'X' => Err(Close { reason: "the client left during login" }),
            _ => {
                let refusal = Refusal::new(Code::Protocol, "unexpected message during login", "");
                Err(self.fatal(&refusal, "the client sent an unexpected message during login", cx))
            }
        }
    }

    pub(super) fn login_server(&mut self, message: &[u8], cx: &mut Context<'_>) -> Result<(), Close> {
        let body = &message[frame::HEADER..];
        match message[0] {
            b'R' => self.authentication(message, body, cx),
            b'E' => {
                self.login_failed(body, cx);
                cx.to_client.extend_from_slice(message);
                Err(Close { reason: "the server refused the login" })
            }
            b'v' | b'N' => {
                cx.to_client.extend_from_slice(message);
                Ok(())
            }
            b'S' if self.phase == Phase::Starting => self.parameter_status(message, cx),
            b'K' if self.phase == Phase::Starting => self.backend_key_data(body, cx),
            b'Z' if self.phase == Phase::Starting => self.first_ready(message, cx),
            _ => Err(self.unexpected_reply(cx)),
        }
    }

    pub(super) fn unexpected_reply(&mut self, cx: &mut Context<'_>) -> Close {
        let refusal = Refusal::new(Code::Protocol, "the server sent an unexpected message", "look at the server's log");
        self.fatal(&refusal, "the server sent an unexpected message", cx)
    }

    fn authentication(&mut self, message: &[u8], body: &[u8], cx: &mut Context<'_>) -> Result<(), Close> {
        if self.phase != Phase::Login {
            return Err(self.unexpected_reply(cx));
        }
        let mut r = Reader::new(body);
        let Ok(code) = r.u32() else { return Err(self.unexpected_reply(cx)) };
        if self.login.stage.upstream() {
            return self.prove_upstream(code, r.rest(), cx);
        }
        match code {
            0 => return self.authentication_ok(cx),
            3 => self.login.asked = Some(ActorAuth::Cleartext),
            5 => self.login.asked = Some(ActorAuth::Md5),
            // The server has no verifier either: SCRAM can only fail.
            10 if self.settings.terminate => return Err(self.wrong_password(cx)),
            10 => return self.mechanisms(r.rest(), cx),
            11 if self.login.asked == Some(ActorAuth::ScramSha256) => {}
            12 if self.login.asked == Some(ActorAuth::ScramSha256) => self.login.sasl_final = true,
            _ => {
                let refusal = Refusal::new(
                    Code::AuthMethod,
                    "the server asks for an authentication method that cannot be relayed",
                    "use scram-sha-256 in pg_hba.conf for connections from the proxy",
                );
                return Err(self.fatal(&refusal, "authentication method not relayed", cx));
            }
        }
        cx.to_client.extend_from_slice(message);
        Ok(())
    }

    /// SCRAM-SHA-256 only: channel binding cannot hold across two TLS connections (RFC 5802 §6).
    fn mechanisms(&mut self, list: &[u8], cx: &mut Context<'_>) -> Result<(), Close> {
        let offered = list.split(|b| *b == 0).any(|m| m == b"SCRAM-SHA-256");
        if !offered {
            let refusal = Refusal::new(
                Code::AuthMethod,
                "the server offers no SASL mechanism that can be relayed",
                "use scram-sha-256 in pg_hba.conf for connections from the proxy",
            );
            return Err(self.fatal(&refusal, "no SASL mechanism to relay", cx));
        }
        self.login.asked = Some(ActorAuth::ScramSha256);
        let mut body = BytesMut::with_capacity(32);
        body.put_u32(10);
        body.put_slice(b"SCRAM-SHA-256\0\0");
        encode::raw(cx.to_client, b'R', &body).map_err(|_| self.unexpected_reply(cx))
    }

    fn authentication_ok(&mut self, cx: &mut Context<'_>) -> Result<(), Close> {
        let proven = match self.login.asked {
            Some(ActorAuth::ScramSha256) => self.login.sasl_final,
            Some(_) => true,
            None => false,
        };
        if proven {
            self.logged_in(self.login.asked.unwrap_or(ActorAuth::None), cx)
        } else if self.settings.allow_trust && self.legs.client_local {
            self.logged_in(ActorAuth::Trust, cx)
        } else {
            Err(self.untrusted(cx))
        }
    }

    /// Passes AuthenticationOk on.
    pub(super) fn logged_in(&mut self, auth: ActorAuth, cx: &mut Context<'_>) -> Result<(), Close> {
        self.admit_to_console(auth, cx)?;
        self.actor = Actor { auth, ..Actor::clone(&self.actor) }.into();
        self.phase = Phase::Starting;
        encode::raw(cx.to_client, b'R', &[0; 4]).map_err(|_| self.unexpected_reply(cx))
    }

    pub(super) fn untrusted(&mut self, cx: &mut Context<'_>) -> Close {
        let refusal = Refusal::new(
            Code::TrustRefused,
            "the server let this login in without a password, which proves no actor",
            "use scram-sha-256 in pg_hba.conf for connections from the proxy, or [listen] allow_trust on loopback",
        );
        self.emit_login(EventKind::LoginFailed, Some(&refusal), cx);
        self.fatal(&refusal, "login without a password", cx)
    }

    fn login_failed(&mut self, body: &[u8], cx: &mut Context<'_>) {
        cx.meters.login_failed();
        let sqlstate = super::redact::sqlstate(body);
        if self.settings.terminate && sqlstate.starts_with(b"28") {
            // Changed since it was looked up.
            cx.effects.push(Effect::ForgetCredential);
        }
        let mut event = self.event(EventKind::LoginFailed, cx);
        event.sqlstate = Some(String::from_utf8_lossy(&sqlstate).into_owned());
        cx.effects.push(Effect::Event(Box::new(event)));
    }

    pub(super) fn emit_login(&mut self, kind: EventKind, refusal: Option<&Refusal>, cx: &mut Context<'_>) {
        let mut event = self.event(kind, cx);
        if let Some(refusal) = refusal {
            event.sqlstate = Some(refusal.sqlstate.as_str().to_owned());
            event.code = Some(refusal.code.as_str().to_owned());
        }
        cx.effects.push(Effect::Event(Box::new(event)));
    }

    /// The client gets a random key of the same length; the server's stays with us. The process id is the server's own:
    /// it is no secret (`pg_backend_pid()`), and clients compare it with `pg_locks` and with who sent a notification.
    fn backend_key_data(&mut self, body: &[u8], cx: &mut Context<'_>) -> Result<(), Close> {
        let mut r = Reader::new(body);
        let Ok(pid) = r.u32() else { return Err(self.unexpected_reply(cx)) };
        let secret = r.rest();
        if !(4..=256).contains(&secret.len()) {
            return Err(self.unexpected_reply(cx));
        }
        let mut ours = CancelKey { pid, secret: vec![0; secret.len()] };
        cx.entropy.fill(&mut ours.secret);
        let written = encode::backend_key(cx.to_client, ours.pid, &ours.secret);
        // The console's backend goes away: there is nothing to cancel.
        if !self.console_login {
            self.key = Some(BackendKey { ours, theirs: CancelKey { pid, secret: secret.to_vec() } });
        }
        written.map_err(|_| self.unexpected_reply(cx))
    }

    fn first_ready(&mut self, message: &[u8], cx: &mut Context<'_>) -> Result<(), Close> {
        self.act(cx);
        self.emit_login(EventKind::Login, None, cx);
        cx.to_client.extend_from_slice(message);
        if self.transparent || self.console_login {
            self.phase = if self.console_login { Phase::Console } else { Phase::Transparent };
            return Ok(());
        }
        self.phase = Phase::Ready;
        self.probe(cx);
        Ok(())
    }

    /// An event of this connection.
    pub(super) fn event(&self, kind: EventKind, cx: &Context<'_>) -> Event {
        let mut event = Event::new(kind, cx.clock.now().unix_us);
        event.connection = self.connection;
        event.actor = Some(self.actor.clone());
        event.rules_version = self.rules_version;
        event
    }
}
