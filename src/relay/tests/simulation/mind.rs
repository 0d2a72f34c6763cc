//! A real session in the simulated world: what [`crate::relay::world::Live`] is in the real one.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;

use super::ledger::World;
use super::upstream::SECRET;
use crate::clock::Now;
use crate::error::{Code, Refusal};
use crate::event::{Actor, Event, Part};
use crate::relay::mind::{LookUp, Mind, Out, Receipt};
use crate::secret::{Entropy, Key};
use crate::session::{BackendKey, Close, Context, Credential, Effect, Session};
use crate::wire::certificate::EndPoint;
use crate::wire::scram::Verifier;

/// What the pump may have read of one peer and not handed over, or hold for one peer: what it stops reading at, twice
/// one read, and what one step makes of that.
const BUFFERED_MAX: usize = 2 << 20;
/// As [`crate::catalog::Keeper::refresh`] is bounded.
const LOOK_UP_MAX_MS: u64 = 2_000;

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

/// See the module.
pub(super) struct SimMind {
    session: Session,
    world: Arc<World>,
    entropy: Counter,
    looked_up: bool,
    found: Option<Result<Credential, Refusal>>,
}

impl SimMind {
    pub(super) fn new(session: Session, number: u64, world: Arc<World>) -> Self {
        Self { session, world, entropy: Counter(number), looked_up: false, found: None }
    }

    fn step<T>(&mut self, out: &mut Out, step: impl FnOnce(&mut Session, &mut Context<'_>) -> T) -> T {
        let rules = self.world.rules();
        let elapsed = turmoil::sim_elapsed().unwrap_or_default();
        let now = Now { unix_us: elapsed.as_micros() as i64, mono_ns: elapsed.as_nanos() as u64 };
        let mut cx = Context {
            rules: &rules,
            plans: &self.world.plans,
            keyring: self.world.ring(),
            clock: &now,
            entropy: &mut self.entropy,
            to_client: &mut out.to_client,
            to_server: &mut out.to_server,
            effects: &mut out.effects,
            meters: &self.world.meters,
            gate: &self.world.gate,
            catalog_deadline_passed: std::mem::take(&mut self.looked_up),
            credential: self.found.take(),
            purpose: None,
        };
        let done = step(&mut self.session, &mut cx);
        for effect in &out.effects {
            if let Effect::Event(event) | Effect::Intent { event, .. } = effect {
                let told = format!("{event:?}");
                assert!(!told.contains(SECRET), "a value is in an event");
            }
        }
        done
    }
}

fn bounded(input: &BytesMut, out: &Out) {
    for (what, bytes) in [("input", input), ("to the client", &out.to_client), ("to the server", &out.to_server)] {
        assert!(bytes.len() <= BUFFERED_MAX, "{} bytes are buffered: {what}", bytes.len());
    }
}

impl Mind for SimMind {
    fn start(&mut self, server: Option<EndPoint>, out: &mut Out) {
        self.step(out, |session, cx| session.start(server, cx));
    }

    fn client(&mut self, input: &mut BytesMut, out: &mut Out) -> Result<(), Close> {
        bounded(input, out);
        let done = self.step(out, |session, cx| session.client(input, cx));
        bounded(input, out);
        done
    }

    fn server(&mut self, input: &mut BytesMut, out: &mut Out) -> Result<(), Close> {
        bounded(input, out);
        let (looked_up, found) = (std::mem::take(&mut self.looked_up), self.found.take());
        let mark = out.to_client.len();
        let done = self.step(out, |session, cx| session.server(input, cx));
        (self.looked_up, self.found) = (looked_up, found);
        bounded(input, out);
        if !self.world.clears(&self.session.actor().role) {
            let shown = memchr::memmem::find(&out.to_client[mark..], SECRET.as_bytes());
            assert!(shown.is_none(), "a value goes to a role that may not see it under the rules in force");
        }
        done
    }

    fn transparent(&self) -> bool {
        self.session.transparent()
    }

    fn console_login(&self) -> bool {
        self.session.console_login()
    }

    fn console(&self) -> bool {
        self.session.console()
    }

    fn actor(&self) -> Part<Actor> {
        self.session.actor().clone()
    }

    fn authenticated(&self) -> bool {
        self.session.authenticated()
    }

    fn idle(&self) -> bool {
        self.session.idle()
    }

    fn waiting(&self) -> bool {
        self.session.waiting_for_catalog() || self.session.waiting_for_credential()
    }

    /// The catalog comes sooner or later or its deadline does; a verifier may not come at all.
    fn look_up(&mut self) -> LookUp {
        let wait = Duration::from_millis(self.world.below(LOOK_UP_MAX_MS));
        if self.session.waiting_for_credential() {
            self.found = Some(if self.world.chance(0.5) {
                Err(Refusal::new(Code::UpstreamDown, "no verifier can be had", ""))
            } else {
                Ok(Credential { verifier: Verifier::mock(&Key::new([1; 32]), "app"), other: self.world.chance(0.5) })
            });
            if self.world.chance(0.3) {
                return Box::pin(std::future::pending());
            }
        }
        Box::pin(tokio::time::sleep(wait))
    }

    fn looked_up(&mut self) {
        self.looked_up = self.session.waiting_for_catalog();
    }

    fn refresh(&mut self) {}

    fn forget_credential(&mut self) {}

    fn backend_key(&self) -> Option<&BackendKey> {
        self.session.backend_key()
    }

    fn record(&mut self, event: Box<Event>) -> Option<Receipt> {
        self.world.desk.record(&event)
    }

    fn intend(&mut self, event: Box<Event>) -> Option<Receipt> {
        Some(self.world.desk.intend(event))
    }

    fn log_down(&mut self, out: &mut Out) -> Close {
        self.step(out, |session, cx| session.audit_down(cx))
    }

    fn finish(&mut self, out: &mut Out) {
        self.step(out, |session, cx| session.finish(cx));
    }
}
