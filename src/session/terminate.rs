//! Logins that end here (DESIGN §4 "Auth", `terminate`): the client proves its password to us, and what its proof gives
//! away logs in at the server, as the same user. The client hears of success only when the server has agreed.
//!
//! In: the look-up of a verifier, SASL messages of both peers. Out: SASL messages, the upstream StartupMessage. Never: a
//! password; a different answer for a user that does not exist; SASLFinal before the server's own signature is checked.

#[cfg(test)]
mod tests;

use std::mem;

use bytes::{BufMut, BytesMut};

use super::{Close, Context, Effect, Session};
use crate::error::{Code, Refusal};
use crate::event::{ActorAuth, EventKind};
use crate::wire::certificate::EndPoint;
use crate::wire::encode;
use crate::wire::message::Reader;
use crate::wire::scram::{self, Fault, Mechanism, NONCE_BYTES, Proven, Verifier};

/// What the look-up of a user brought.
#[derive(Clone, Debug)]
pub struct Credential {
    /// What a proof is checked with. For a user that has none: one that no proof fits.
    pub verifier: Verifier,
    /// The user may log in, and the server has no SCRAM verifier of it.
    pub other: bool,
}

/// How far a login has come.
#[derive(Debug, Default)]
pub(super) enum Stage {
    /// Server and client talk to each other through us.
    #[default]
    Relayed,
    /// Nothing has been said; the verifier is looked up.
    Asking,
    /// The client chooses a mechanism.
    Offered(Verifier),
    /// The client is to prove it.
    Challenged(Box<scram::Server>),
    /// It has; the server has our StartupMessage.
    Started(Box<Proven>),
    /// The server is to challenge us.
    Answering(Box<scram::Client>),
    /// The server is to sign.
    Signing(Box<scram::Client>),
    /// Both have proved it. What the client is still to get.
    Proved(String),
    /// Judged, one way or the other.
    Over,
}

impl Stage {
    /// The client has proved its password, and the server has not let it in yet.
    pub(super) fn upstream(&self) -> bool {
        matches!(self, Stage::Started(_) | Stage::Answering(_) | Stage::Signing(_) | Stage::Proved(_))
    }
}

impl Session {
    /// A verifier has been looked up: what the client may prove itself with.
    pub(super) fn offer(&mut self, found: Result<Credential, Refusal>, cx: &mut Context<'_>) -> Result<(), Close> {
        let credential = match found {
            Ok(credential) => credential,
            Err(refusal) => return Err(self.deny(&refusal, "the user's verifier could not be looked up", cx)),
        };
        let both_tls = self.legs.client_tls && self.legs.server_tls;
        if credential.other && self.settings.relay_cleartext && both_tls {
            self.login.stage = Stage::Relayed;
            return self.open_upstream(cx);
        }
        self.login.stage = Stage::Offered(credential.verifier);
        let mut body = BytesMut::with_capacity(64);
        body.put_u32(10);
        if self.legs.client_end_point.is_some() {
            body.put_slice(b"SCRAM-SHA-256-PLUS\0");
        }
        body.put_slice(b"SCRAM-SHA-256\0\0");
        encode::raw(cx.to_client, b'R', &body).map_err(|_| self.broken(cx))
    }

    /// A SASL message of the client.
    pub(super) fn prove(&mut self, body: &[u8], cx: &mut Context<'_>) -> Result<(), Close> {
        match mem::replace(&mut self.login.stage, Stage::Over) {
            Stage::Offered(verifier) => self.challenge(verifier, body, cx),
            Stage::Challenged(server) => match server.check(body) {
                Ok(proven) => {
                    self.login.stage = Stage::Started(Box::new(proven));
                    self.open_upstream(cx)
                }
                Err(Fault::Unproven) => {
                    // The password may be newer than the verifier.
                    cx.effects.push(Effect::ForgetCredential);
                    Err(self.wrong_password(cx))
                }
                Err(fault) => Err(self.bad_exchange(fault, cx)),
            },
            _ => Err(self.broken(cx)),
        }
    }

    fn challenge(&mut self, verifier: Verifier, body: &[u8], cx: &mut Context<'_>) -> Result<(), Close> {
        let Some((mechanism, first)) = initial_response(body) else { return Err(self.broken(cx)) };
        let Some(mechanism) = Mechanism::named(mechanism) else { return Err(self.broken(cx)) };
        let mut random = [0; NONCE_BYTES];
        cx.entropy.fill(&mut random);
        let end_point = self.legs.client_end_point.as_ref().map(EndPoint::bytes);
        match scram::Server::challenge(verifier, mechanism, end_point, first, &random) {
            Ok(server) => {
                let body = [&11u32.to_be_bytes(), server.server_first().as_bytes()].concat();
                self.login.stage = Stage::Challenged(Box::new(server));
                encode::raw(cx.to_client, b'R', &body).map_err(|_| self.broken(cx))
            }
            Err(fault) => Err(self.bad_exchange(fault, cx)),
        }
    }

    /// An authentication message of the server, which is to believe what the client has proved to us.
    pub(super) fn prove_upstream(&mut self, code: u32, data: &[u8], cx: &mut Context<'_>) -> Result<(), Close> {
        match (code, mem::replace(&mut self.login.stage, Stage::Over)) {
            (10, Stage::Started(proven)) => self.begin_upstream(*proven, data, cx),
            (11, Stage::Answering(mut client)) => match client.answer(data) {
                Ok(last) => {
                    self.login.stage = Stage::Signing(client);
                    encode::raw(cx.to_server, b'p', last.as_bytes()).map_err(|_| self.astray(cx))
                }
                Err(Fault::OtherVerifier) => {
                    cx.effects.push(Effect::ForgetCredential);
                    Err(self.wrong_password(cx))
                }
                Err(_) => Err(self.astray(cx)),
            },
            (12, Stage::Signing(client)) => {
                let Ok(server_final) = client.finish(data) else {
                    let refusal = Refusal::new(
                        Code::Protocol,
                        "the server's SCRAM signature is wrong: it does not hold this user's verifier",
                        "find out which server answers at [upstream], and whether it is the one of [control]",
                    );
                    return Err(self.deny(&refusal, "the server's signature is wrong", cx));
                };
                self.login.stage = Stage::Proved(server_final);
                Ok(())
            }
            (0, Stage::Proved(server_final)) => self.let_in(&server_final, cx),
            (0, Stage::Started(proven)) if self.settings.allow_trust && self.legs.client_local => {
                self.let_in(&proven.server_final, cx)
            }
            (0, _) => Err(self.untrusted(cx)),
            (3 | 5, _) => {
                let refusal = Refusal::new(
                    Code::AuthMethod,
                    "the server asks for a password, and pgveil has only SCRAM's proof of it",
                    "use scram-sha-256 in pg_hba.conf for connections from the proxy",
                );
                Err(self.deny(&refusal, "the server asks for the password itself", cx))
            }
            _ => Err(self.astray(cx)),
        }
    }

    fn begin_upstream(&mut self, proven: Proven, list: &[u8], cx: &mut Context<'_>) -> Result<(), Close> {
        let offered = |mechanism: Mechanism| list.split(|b| *b == 0).any(|name| name == mechanism.name().as_bytes());
        let end_point = self.server_end_point.filter(|_| offered(Mechanism::Plus));
        if end_point.is_none() && !offered(Mechanism::Plain) {
            let refusal = Refusal::new(
                Code::AuthMethod,
                "the server offers no SASL mechanism that pgveil knows",
                "use scram-sha-256 in pg_hba.conf for connections from the proxy",
            );
            return Err(self.deny(&refusal, "no SASL mechanism in common", cx));
        }
        let mut random = [0; NONCE_BYTES];
        cx.entropy.fill(&mut random);
        let client = scram::Client::new(proven, end_point.as_ref().map(EndPoint::bytes), &random);
        let first = client.client_first();
        let mut body = BytesMut::with_capacity(128);
        body.put_slice(client.mechanism().name().as_bytes());
        body.put_u8(0);
        body.put_u32(u32::try_from(first.len()).unwrap_or(0));
        body.put_slice(first.as_bytes());
        self.login.stage = Stage::Answering(Box::new(client));
        encode::raw(cx.to_server, b'p', &body).map_err(|_| self.astray(cx))
    }

    fn let_in(&mut self, server_final: &str, cx: &mut Context<'_>) -> Result<(), Close> {
        let body = [&12u32.to_be_bytes(), server_final.as_bytes()].concat();
        encode::raw(cx.to_client, b'R', &body).map_err(|_| self.astray(cx))?;
        self.logged_in(ActorAuth::ScramTerminate, cx)
    }

    /// PostgreSQL's answer to a wrong password, an unknown user, one that may not log in, and one that has expired.
    pub(super) fn wrong_password(&mut self, cx: &mut Context<'_>) -> Close {
        let message = format!("password authentication failed for user \"{}\"", self.actor.role);
        self.deny(&Refusal::new(Code::WrongPassword, message, ""), "wrong password, or no such login", cx)
    }

    fn bad_exchange(&mut self, fault: Fault, cx: &mut Context<'_>) -> Close {
        let refusal = match fault {
            Fault::Binding => Refusal::new(
                Code::AuthMethod,
                "SCRAM channel binding does not hold: the client saw another certificate or other mechanisms",
                "look for what stands between the client and pgveil",
            ),
            Fault::Unsupported => Refusal::new(Code::AuthMethod, "unsupported SCRAM extension", ""),
            _ => Refusal::new(Code::Protocol, "malformed SCRAM message", ""),
        };
        self.deny(&refusal, "the client's SCRAM exchange is broken", cx)
    }

    fn broken(&mut self, cx: &mut Context<'_>) -> Close {
        let refusal = Refusal::new(Code::Protocol, "unexpected message during login", "");
        self.deny(&refusal, "the client sent an unexpected message during login", cx)
    }

    /// The server's turn, and it is not what comes next.
    fn astray(&mut self, cx: &mut Context<'_>) -> Close {
        let refusal = Refusal::new(Code::Protocol, "the server sent an unexpected message", "look at the server's log");
        self.deny(&refusal, "the server sent an unexpected message during login", cx)
    }

    /// Ends a login that failed by our own judgement.
    pub(super) fn deny(&mut self, refusal: &Refusal, reason: &'static str, cx: &mut Context<'_>) -> Close {
        self.login.stage = Stage::Over;
        cx.meters.login_failed();
        self.emit_login(EventKind::LoginFailed, Some(refusal), cx);
        self.fatal(refusal, reason, cx)
    }
}

/// SASLInitialResponse: mechanism and `client-first-message`.
fn initial_response(body: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut r = Reader::new(body);
    let mechanism = r.cstr().ok()?;
    let first = r.value().ok()??;
    r.end().ok()?;
    Some((mechanism, first))
}
