//! The real host: sessions with the rules, keys, plans, desk and catalog they need.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use rand::Rng;
use tokio::sync::oneshot;

use super::console::Operator;
use super::mind::{Guest, Host, LookUp, Mind, Out, Receipt};
use crate::auth::Verifiers;
use crate::catalog::{Acting, Keeper, Ticket};
use crate::clock::{Clock, Lazy, Now};
use crate::desk::{Desk, Known, Response};
use crate::error::{Code, Refusal};
use crate::event::{Actor, ActorAuth, Event, EventKind, Part};
use crate::metrics::Meters;
use crate::plan;
use crate::policy::rules::Rules;
use crate::secret::Entropy;
use crate::session::{self, BackendKey, Close, Context, Credential, Effect, Legs, Session};
use crate::wire::certificate::EndPoint;
use crate::wire::startup::Startup;

/// How long a statement waits for the catalog to be read again.
const LOOK_UP: Duration = Duration::from_secs(2);

/// One step of a session in so many is timed: the clocks cost as much as a short step.
const SAMPLED: u32 = 16;

/// What sessions need of the world.
#[derive(Clone, Debug)]
pub struct World {
    /// `[listen] allow_trust`, `[limits]`, …
    pub session: Arc<session::Settings>,
    /// The rules in force, and the keys that belong to them.
    pub keeper: Keeper,
    /// Where the purposes of sessions are written down.
    pub acting: Arc<Acting>,
    /// Whom logins that end here are checked with.
    pub verifiers: Option<Arc<Verifiers>>,
    /// Decisions made before.
    pub plans: Arc<plan::Cache>,
    /// Where events go.
    pub desk: Desk,
    /// What the detector does about what it finds.
    pub response: Response,
    /// Where counts go.
    pub meters: Arc<Meters>,
    /// Who answers on the console, if there is one.
    pub operator: Option<Arc<dyn Operator>>,
}

/// What a session has asked for, and what comes of it.
enum Asked {
    Credential(oneshot::Receiver<Result<Credential, Refusal>>),
    Purpose(oneshot::Receiver<Result<(), Refusal>>),
}

/// The thread's reseeding ChaCha generator.
#[derive(Debug)]
struct ThreadEntropy;

impl Entropy for ThreadEntropy {
    fn fill(&mut self, out: &mut [u8]) {
        rand::rng().fill_bytes(out);
    }
}

/// One session and its world.
pub(crate) struct Live {
    session: Session,
    world: World,
    looked_up: bool,
    asked: Option<Asked>,
    found: Option<Result<Credential, Refusal>>,
    acting: Option<Result<(), Refusal>>,
    finished: bool,
    steps: u32,
    /// The server's process is known to be ours.
    backend: Option<Ticket>,
}

impl Host for World {
    type Mind = Live;

    fn welcome(&self, startup: Startup, connection: u64, client: Option<IpAddr>, legs: Legs) -> Result<Live, Refusal> {
        if !self.keeper.loaded() {
            return Err(not_reachable());
        }
        if let Some(refusal) = startup.user().and_then(|user| self.response.quarantine.objection(&lossy(user))) {
            return Err(refusal);
        }
        let rules = self.keeper.rules();
        let session = Session::new(self.session.clone(), startup, connection, client, legs, &rules)?;
        let world = self.clone();
        Ok(Live {
            session,
            world,
            looked_up: false,
            asked: None,
            found: None,
            acting: None,
            finished: false,
            steps: 0,
            backend: None,
        })
    }

    fn meters(&self) -> &Meters {
        &self.meters
    }

    fn operator(&self) -> Option<&dyn Operator> {
        self.operator.as_deref()
    }

    fn enter(&self, connection: u64, role: &[u8]) -> Known {
        self.response.sessions.enter(connection, &lossy(role))
    }

    /// Of a quarantined login the access log says that it tried.
    fn turned_away(&self, guest: &Guest, refusal: &Refusal) -> Option<Receipt> {
        if refusal.code != Code::Quarantined {
            return None;
        }
        self.meters.login_failed();
        let mut event = Event::new(EventKind::LoginFailed, Now::read().unix_us).ended(refusal.sqlstate);
        event.connection = guest.connection;
        event.code = Some(refusal.code.as_str().to_owned());
        let actor = Actor {
            role: lossy(&guest.role).into_owned(),
            database: lossy(&guest.database).into_owned(),
            auth: ActorAuth::None,
            certificate: None,
            application: String::new(),
            client: Some(guest.client),
            purpose: None,
            purpose_by: None,
            person: None,
        };
        event.actor = Some(actor.into());
        let receipt = self.desk.event(event);
        receipt.done().is_none().then(|| Box::pin(receipt) as Receipt)
    }
}

/// A name that is not UTF-8 is refused later, and is in no quarantine.
fn lossy(name: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(name)
}

/// Nothing is known of any database yet: which are protected, who may see what.
fn not_reachable() -> Refusal {
    let hint = "Try again; /readyz of the admin port says what pgveil waits for.";
    Refusal::new(Code::UpstreamDown, "the database system is not reachable yet", hint)
}

impl Live {
    /// One step of the session; one in [`SAMPLED`] is timed.
    fn step<T>(&mut self, out: &mut Out, step: impl FnOnce(&mut Session, &mut Context<'_>) -> T) -> T {
        // In this order: keys are swapped in before the rules that need them.
        let rules: Arc<Rules> = self.world.keeper.rules();
        let keyring = self.world.keeper.keyring();
        let clock = Lazy::default();
        let began = self.steps.is_multiple_of(SAMPLED).then(|| clock.now());
        self.steps = self.steps.wrapping_add(1);
        let mut context = Context {
            rules: &rules,
            plans: &self.world.plans,
            keyring: &keyring,
            clock: &clock,
            entropy: &mut ThreadEntropy,
            to_client: &mut out.to_client,
            to_server: &mut out.to_server,
            effects: &mut out.effects,
            meters: &self.world.meters,
            gate: &self.world.response.gate,
            catalog_deadline_passed: std::mem::take(&mut self.looked_up),
            credential: self.found.take(),
            purpose: self.acting.take(),
        };
        let done = step(&mut self.session, &mut context);
        if let Some(began) = began {
            self.world.meters.added_latency_ns(Now::read().mono_ns.saturating_sub(began.mono_ns));
        }
        done
    }
}

impl Mind for Live {
    fn start(&mut self, server: Option<EndPoint>, out: &mut Out) {
        self.step(out, |session, cx| session.start(server, cx));
    }

    fn client(&mut self, input: &mut BytesMut, out: &mut Out) -> Result<(), Close> {
        self.step(out, |session, cx| session.client(input, cx))
    }

    fn server(&mut self, input: &mut BytesMut, out: &mut Out) -> Result<(), Close> {
        // What a look-up brought concerns the client's next message, not the server's.
        let (looked_up, found) = (std::mem::take(&mut self.looked_up), self.found.take());
        let acting = self.acting.take();
        let done = self.step(out, |session, cx| session.server(input, cx));
        (self.looked_up, self.found, self.acting) = (looked_up, found, acting);
        if self.backend.is_none() {
            let key = self.session.backend_key();
            self.backend = key.map(|key| self.world.keeper.backends().enter(key.theirs.pid));
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
        let session = &self.session;
        session.waiting_for_catalog() || session.waiting_for_credential() || session.waiting_for_purpose()
    }

    fn look_up(&mut self) -> LookUp {
        if self.session.waiting_for_credential() {
            let (verifiers, actor) = (self.world.verifiers.clone(), self.session.actor().clone());
            let (tell, asked) = oneshot::channel();
            self.asked = Some(Asked::Credential(asked));
            return Box::pin(async move {
                let found = match verifiers {
                    Some(verifiers) => verifiers.find(&actor.role).await,
                    None => Err(Refusal::new(Code::Internal, "there is no source of verifiers", "")),
                };
                // Nobody waits any more when the connection has ended.
                let _ = tell.send(found);
            });
        }
        if let Some((pid, purpose)) = self.session.write_purpose() {
            let (acting, actor) = (self.world.acting.clone(), self.session.actor().clone());
            let (tell, asked) = oneshot::channel();
            self.asked = Some(Asked::Purpose(asked));
            return Box::pin(async move {
                let _ = tell.send(acting.write(pid, &actor.role, &purpose).await);
            });
        }
        let keeper = self.world.keeper.clone();
        Box::pin(async move {
            keeper.refresh(LOOK_UP).await;
        })
    }

    fn looked_up(&mut self) {
        match self.asked.take() {
            Some(Asked::Credential(mut asked)) => self.found = asked.try_recv().ok(),
            Some(Asked::Purpose(mut asked)) => self.acting = asked.try_recv().ok(),
            None => self.looked_up = true,
        }
    }

    fn refresh(&mut self) {
        // A session that waits asks through `look_up`.
        if !self.session.waiting_for_catalog() {
            self.world.keeper.request();
        }
    }

    fn forget_credential(&mut self) {
        if let Some(verifiers) = &self.world.verifiers {
            verifiers.forget(&self.session.actor().role);
        }
    }

    fn cancelled(&mut self) {
        self.session.cancelled();
    }

    fn backend_key(&self) -> Option<&BackendKey> {
        self.session.backend_key()
    }

    fn record(&mut self, event: Box<Event>) -> Option<Receipt> {
        let receipt = self.world.desk.event(event);
        // An event that the desk cannot take because the log is broken for good stops nothing by itself: intents do.
        receipt.done().is_none().then(|| {
            Box::pin(async move {
                let _ = receipt.await;
                Ok(())
            }) as Receipt
        })
    }

    fn intend(&mut self, event: Box<Event>) -> Option<Receipt> {
        let receipt = self.world.desk.intent(event);
        (receipt.done() != Some(Ok(()))).then(|| Box::pin(receipt) as Receipt)
    }

    fn log_down(&mut self, out: &mut Out) -> Close {
        self.step(out, |session, cx| session.audit_down(cx))
    }

    fn finish(&mut self, out: &mut Out) {
        self.finished = true;
        self.step(out, |session, cx| session.finish(cx));
    }
}

impl Drop for Live {
    /// A task that was cut (a stranger that gave way, a panic) still records how its connection ended.
    fn drop(&mut self) {
        if self.finished {
            return;
        }
        let mut out = Out::default();
        self.finish(&mut out);
        for effect in out.effects {
            let (Effect::Event(event) | Effect::Intent { event, .. }) = effect else { continue };
            let receipt = self.record(event);
            if let (Some(receipt), Ok(runtime)) = (receipt, tokio::runtime::Handle::try_current()) {
                runtime.spawn(receipt);
            }
        }
    }
}
