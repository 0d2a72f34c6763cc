//! One connection's life: greeting, welcome, upstream, login, pump, farewell.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;

use bytes::BytesMut;
use tokio::time::Instant;

use super::Shared;
use super::admit::{Seat, Stranger};
use super::cancel::{Backend, Ticket};
use super::console;
use super::drain::Phase;
use super::farewell::{draining, lost, no_seat, refuse, told_to_end};
use super::greet::{Guest, Parting, greet};
use super::mind::{Guest as Claimed, Host, Mind, conclude};
use super::network::{self, Entry, Visitor};
use super::pump::{self, Pump};
use super::reactor::Socket;
use super::roster::{Line, Present, State};
use super::splice::{self, Splice};
use super::stream::{Leg, Stream};
use crate::clock::Now;
use crate::desk::Known;
use crate::error::Refusal;
use crate::event::{Actor, Part};
use crate::metrics::Meters;
use crate::session::{CONSOLE, Legs};
use crate::wire::startup::{CancelKey, Startup};

/// Counts the connection while it lives, however it ends.
struct Counted<'a>(&'a Meters);

impl<'a> Counted<'a> {
    fn new(meters: &'a Meters) -> Self {
        meters.connection_opened();
        Self(meters)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.connection_closed();
    }
}

/// Serves one accepted socket to its end.
pub(crate) async fn serve<H: Host>(shared: Arc<Shared<H>>, socket: Socket, peer: SocketAddr, stranger: Stranger) {
    let _counted = Counted::new(shared.host.meters());
    let deadline = Instant::now() + shared.settings.startup_timeout;
    let greeting = greet(socket, shared.settings.tls.as_deref());
    let guest = match tokio::time::timeout_at(deadline, greeting).await {
        Err(_) => Err(Parting::Silent("startup took too long")),
        Ok(guest) => guest,
    };
    match guest {
        Ok(Guest::Cancel(key, _stream)) => cancel(&shared, &key).await,
        Ok(Guest::Session { startup, stream, early }) => {
            let arrival = Arrival { startup, client: stream, early, peer, deadline };
            if let Err((refusal, stream)) = session(&shared, arrival, stranger).await {
                turn_away(&shared, &refusal, stream, peer).await;
            }
        }
        Err(Parting::Refused(refusal, stream)) => turn_away(&shared, &refusal, stream, peer).await,
        Err(Parting::Silent(reason)) => {
            tracing::debug!(%peer, reason, "connection closed before startup");
        }
    }
}

async fn turn_away<H: Host>(shared: &Shared<H>, refusal: &Refusal, stream: Stream, peer: SocketAddr) {
    shared.host.meters().connection_refused(refusal.code);
    tracing::info!(%peer, code = refusal.code.as_str(), "connection refused");
    refuse(stream, refusal).await;
}

/// Whether the key matched or not, the answer is the same: the connection closes.
async fn cancel<H: Host>(shared: &Shared<H>, key: &CancelKey) {
    shared.host.meters().cancel_requested();
    let Some(backend) = shared.cancels.find(key) else { return };
    backend.word.cancel();
    if let Some(_turn) = backend.turn().await {
        // Not reached: the statement goes on, as with PostgreSQL when a CancelRequest is lost.
        let _ = shared.settings.upstream.cancel(backend.address, &backend.key).await;
    }
}

/// A client that has said who it is.
struct Arrival {
    startup: Startup,
    client: Stream,
    early: BytesMut,
    peer: SocketAddr,
    deadline: Instant,
}

async fn session<H: Host>(
    shared: &Arc<Shared<H>>,
    arrival: Arrival,
    stranger: Stranger,
) -> Result<(), (Refusal, Stream)> {
    let Arrival { startup, client, early, peer, deadline } = arrival;
    let console = shared.host.operator().is_some() && startup.database() == Some(CONSOLE.as_bytes());
    if !stranger.gate().has_seat(if console { console::SEATS } else { 0 }) {
        return Err((no_seat(), client));
    }
    if shared.drain.phase() != Phase::Serving {
        return Err((draining(), client));
    }
    let address = peer.ip().to_canonical();
    let certificate = client.certificate();
    let visitor = Visitor {
        address,
        user: startup.user().unwrap_or_default(),
        database: startup.database().unwrap_or_default(),
        tls: client.is_tls(),
        certificate: certificate.as_deref(),
    };
    if let Err(refusal) = network::judge(&shared.settings.rules, &visitor) {
        return Err((refusal, client));
    }
    let Some(_here) = shared.addresses.enter(network::household(address)) else {
        return Err((network::crowded_address(), client));
    };
    let number = shared.connections.fetch_add(1, Ordering::Relaxed) + 1;
    let guest =
        Claimed { connection: number, role: visitor.user.into(), database: visitor.database.into(), client: address };
    stranger.speaks();
    // Known before it is asked whether it may come in: whoever is shut out meanwhile is told.
    let known = shared.host.enter(number, &guest.role);
    let legs = Legs {
        client_tls: client.is_tls(),
        client_end_point: client.end_point(),
        client_local: address.is_loopback(),
        client_certificate: certificate,
        server_tls: shared.settings.upstream.tls.is_some(),
    };
    let mind = match shared.host.welcome(startup, number, Some(address), legs) {
        Ok(mind) => mind,
        Err(refusal) => {
            if let Some(recorded) = shared.host.turned_away(&guest, &refusal) {
                // The desk is gone: there is nobody left to tell.
                let _ = recorded.await;
            }
            return Err((refusal, client));
        }
    };
    let reached = shared.settings.upstream.connect().await;
    shared.host.meters().upstream(reached.is_ok());
    let (server, address) = match reached {
        Ok(reached) => reached,
        Err(refusal) => return Err((refusal, client)),
    };
    let mut pump = Pump::new(mind, client, server, early, deadline, shared.drain.clone());
    pump.heed(known.word().clone());
    let served = Served { shared, number, user: guest.role, address, known, ticket: None, seat: None, present: None };
    let reason = served.run(pump, stranger).await;
    tracing::debug!(connection = number, reason, "connection closed");
    Ok(())
}

/// A connection with both legs.
struct Served<'a, H: Host> {
    shared: &'a Arc<Shared<H>>,
    number: u64,
    user: Box<[u8]>,
    address: SocketAddr,
    known: Known,
    ticket: Option<Ticket>,
    seat: Option<(Seat, Entry<Box<[u8]>>)>,
    present: Option<Present>,
}

impl<H: Host> Served<'_, H> {
    async fn run(mut self, mut pump: Pump<H::Mind>, stranger: Stranger) -> &'static str {
        let mut stranger = Some(stranger);
        loop {
            match pump.run().await {
                pump::End::LoggedIn => {
                    if let Err(refusal) = self.sit(stranger.take(), &mut pump) {
                        self.shared.host.meters().connection_refused(refusal.code);
                        pump.turn_away(&refusal, "no seat");
                    }
                }
                pump::End::KeyKnown => self.register(&pump.mind),
                pump::End::Closed(reason) => {
                    if self.known.word().end().is_some() {
                        self.cancel(&pump.mind).await;
                    }
                    conclude(&mut pump.mind).await;
                    return reason;
                }
                pump::End::Console => {
                    self.is_at(State::Console);
                    let (mut mind, client, server) = pump.into_console();
                    let reason = self.console(mind.actor(), client, server).await;
                    conclude(&mut mind).await;
                    return reason;
                }
                pump::End::Transparent => {
                    let (mut mind, client, server) = pump.into_legs();
                    self.is_at(State::Passthrough);
                    let reason = self.splice(client, server).await;
                    conclude(&mut mind).await;
                    return reason;
                }
            }
        }
    }

    fn is_at(&self, state: State) {
        if let Some(present) = &self.present {
            present.place.is_at(state);
        }
    }

    /// Only now is it known who it is: nobody uses up the places of a user by claiming to be that one.
    fn sit(&mut self, stranger: Option<Stranger>, pump: &mut Pump<H::Mind>) -> Result<(), Refusal> {
        let own = if pump.mind.console_login() { console::SEATS } else { 0 };
        let seat = stranger.and_then(|stranger| stranger.seat(own)).ok_or_else(no_seat)?;
        let user = self.shared.users.enter(self.user.clone()).ok_or_else(network::crowded_user)?;
        self.seat = Some((seat, user));
        let (actor, tls) = (pump.mind.actor(), pump.client.is_tls());
        let line = Line { number: self.number, actor, tls, since_us: Now::read().unix_us, state: State::Busy };
        let present = self.shared.roster.enter(line);
        pump.place = Some(present.place.clone());
        self.present = Some(present);
        Ok(())
    }

    fn register(&mut self, mind: &H::Mind) {
        if let Some(key) = mind.backend_key() {
            let backend = Backend::new(self.address, key.theirs.clone(), self.known.word().clone());
            self.ticket = Some(self.shared.cancels.enter(self.number, key.ours.clone(), backend));
        }
    }

    /// The server has judged the login, and is not needed for anything else.
    async fn console(
        &self,
        actor: Part<Actor>,
        (client, unsent, said): (Stream, BytesMut, BytesMut),
        server: Stream,
    ) -> &'static str {
        console::part(server).await;
        let Some(operator) = self.shared.host.operator() else { return "there is no console" };
        let who = console::Visit { actor, connection: self.number, operator, drain: &self.shared.drain };
        console::serve(who, client, unsent, said).await
    }

    /// What still runs there stops; closing the connection alone would let it go on until it has something to say.
    async fn cancel(&self, mind: &H::Mind) {
        if let Some(key) = mind.backend_key() {
            // Not reached: it ends when it finds its client gone.
            let _ = self.shared.settings.upstream.cancel(self.address, &key.theirs).await;
        }
    }

    async fn splice(&self, client: (Stream, BytesMut), server: (Stream, BytesMut)) -> &'static str {
        let mut splice = Splice::new(client, server, self.shared.drain.clone());
        let word = self.known.word();
        let told = std::future::poll_fn(|cx| {
            word.listen(cx);
            word.end().map_or(Poll::Pending, Poll::Ready)
        });
        let ended = tokio::select! {
            ended = splice.run() => ended,
            // Anywhere in a message: there is nothing to be said.
            ending = told => return told_to_end(ending).1,
        };
        match ended {
            splice::End::Closed => "closed",
            splice::End::ServerLost => {
                refuse(splice.client, &lost()).await;
                "the server closed the connection"
            }
            splice::End::Drained => {
                refuse(splice.client, &draining()).await;
                "drained"
            }
        }
    }
}
