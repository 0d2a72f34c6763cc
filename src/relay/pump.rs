//! The pump of connections whose frames are looked at.
//!
//! In: two legs and a [`Mind`]. Out: the mind's bytes, in order, each direction's as soon as it can take them; the
//! mind's effects, carried out. One poll looks at both reads, both writes, every receipt, the look-up, the login's
//! deadline and the drain; nothing is awaited alone. Never: a buffer that grows because its reader is slow (the
//! opposite side is not read above [`HIGH`]), a byte released before the intent it belongs to is on disk.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::ReadBuf;
use tokio::time::{Instant, Sleep};

use super::drain::{Drain, Ear, Phase};
use super::farewell::{draining, lost, told_to_end};
use super::mind::{LookUp, Mind, Out, Receipt};
use super::roster::{Place, State};
use super::scratch;
use super::stream::{Leg, Stream};
use crate::clock::Now;
use crate::desk::Word;
use crate::error::Refusal;
use crate::session::{Effect, Side};
use crate::wire::{encode, frame};

/// Above this much output for one side, the other side is not read.
const HIGH: usize = 256 * 1024;
/// Buffers of an idle connection are given back above this capacity.
const KEEP: usize = 32 * 1024;
/// How long a closing connection may take to deliver its last bytes.
const FLUSH: Duration = Duration::from_secs(5);

/// Terminate.
pub(crate) const TERMINATE: [u8; 5] = [b'X', 0, 0, 0, 4];

/// Why the pump stopped.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The mind says that bytes may be copied without looking from here on.
    Transparent,
    /// The console answers from here on.
    Console,
    /// The login is through; call [`Pump::run`] again.
    LoggedIn,
    /// [`Mind::backend_key`] is known from now on; call [`Pump::run`] again.
    KeyKnown,
    /// Over. The reason is for the log.
    Closed(&'static str),
}

/// Output towards one side.
#[derive(Debug, Default)]
struct Lane {
    unflushed: bool,
    /// Bytes that may leave before the receipts are in; `None`: all.
    held: Option<usize>,
    gone: bool,
}

impl Lane {
    fn sendable(&self, bytes: &BytesMut) -> usize {
        self.held.unwrap_or(bytes.len())
    }

    /// Writes what may leave. `true` if something moved.
    fn write(&mut self, cx: &mut Context<'_>, bytes: &mut BytesMut, to: &mut impl Leg) -> bool {
        if self.gone {
            self.held = None;
            bytes.clear();
            return false;
        }
        let mut moved = false;
        while self.sendable(bytes) > 0 {
            let sendable = self.sendable(bytes);
            match Pin::new(&mut *to).poll_write(cx, &bytes[..sendable]) {
                Poll::Ready(Ok(written)) if written > 0 => {
                    bytes.advance(written);
                    self.held = self.held.map(|held| held - written);
                    self.unflushed = to.is_tls();
                    moved = true;
                }
                Poll::Ready(_) => {
                    self.gone = true;
                    return true;
                }
                Poll::Pending => return moved,
            }
        }
        if self.unflushed {
            match Pin::new(to).poll_flush(cx) {
                Poll::Ready(Ok(())) => self.unflushed = false,
                Poll::Ready(Err(_)) => self.gone = true,
                Poll::Pending => {}
            }
        }
        moved
    }

    fn empty(&self, bytes: &BytesMut) -> bool {
        self.gone || (bytes.is_empty() && !self.unflushed)
    }
}

/// Input from one side.
#[derive(Debug, Default)]
struct Inlet {
    bytes: BytesMut,
    /// There may be something in it that the mind has not seen or could not take before.
    due: bool,
    ended: bool,
}

impl Inlet {
    /// Reads once. `true` if something came, the end included.
    fn read(&mut self, cx: &mut Context<'_>, from: &mut impl Leg) -> bool {
        if from.drained() {
            return false;
        }
        let polled = scratch::with(|room| {
            let mut read = ReadBuf::new(room);
            let polled = Pin::new(from).poll_read(cx, &mut read);
            self.bytes.extend_from_slice(read.filled());
            polled.map_ok(|()| read.filled().len())
        });
        match polled {
            Poll::Pending => return false,
            Poll::Ready(Ok(read)) if read > 0 => {}
            Poll::Ready(_) => self.ended = true,
        }
        self.due = true;
        true
    }

    /// The mind has been offered everything and has left a whole frame: it holds.
    fn stuck(&self) -> bool {
        matches!(frame::peek(&self.bytes, usize::MAX), Ok(Some((_, size))) if size <= self.bytes.len())
    }

    /// More may be read although `held` says the mind takes nothing at the moment.
    fn has_room(&self, held: bool) -> bool {
        !self.ended && (self.bytes.len() < HIGH || !(held || self.stuck()))
    }
}

/// One connection between accept and close.
pub(crate) struct Pump<M, L = Stream> {
    pub(crate) mind: M,
    pub(crate) client: L,
    pub(crate) server: L,
    from_client: Inlet,
    from_server: Inlet,
    out: Out,
    to_client: Lane,
    to_server: Lane,
    /// What the desk owes: for intents, by the side that waits; `None`: its queue is full.
    receipts: Vec<(Option<Side>, Receipt)>,
    look_up: Option<LookUp>,
    /// The server's frames are not offered before then.
    wait: Option<Pin<Box<Sleep>>>,
    login_deadline: Option<Pin<Box<Sleep>>>,
    closing: Option<(&'static str, Pin<Box<Sleep>>)>,
    /// The last message to the client is fatal, the server's or ours: nothing follows it.
    farewell_sent: bool,
    key_known: bool,
    ear: Ear,
    /// As the ear said when this poll began.
    paused: bool,
    /// Where the roster learns what the session is at.
    pub(crate) place: Option<Arc<Place>>,
    /// What is said to this session from outside; listened to from the first poll on.
    word: Arc<Word>,
    listening: bool,
}

impl<M: Mind, L: Leg> Pump<M, L> {
    /// Sends the upstream StartupMessage. `early` came from the client together with its own.
    pub(crate) fn new(
        mut mind: M,
        client: L,
        server: L,
        early: BytesMut,
        login_deadline: Instant,
        drain: Arc<Drain>,
    ) -> Self {
        let mut out = Out::default();
        mind.start(server.end_point(), &mut out);
        Self {
            mind,
            client,
            server,
            // The mind may have something to look up before the client has said a word.
            from_client: Inlet { due: true, bytes: early, ..Inlet::default() },
            from_server: Inlet::default(),
            out,
            to_client: Lane::default(),
            to_server: Lane::default(),
            receipts: Vec::new(),
            look_up: None,
            wait: None,
            login_deadline: Some(Box::pin(tokio::time::sleep_until(login_deadline))),
            closing: None,
            farewell_sent: false,
            key_known: false,
            ear: Ear::new(drain),
            paused: false,
            place: None,
            word: Arc::default(),
            listening: false,
        }
    }

    /// Runs until something must be decided elsewhere.
    pub(crate) async fn run(&mut self) -> End {
        std::future::poll_fn(|cx| self.poll(cx)).await
    }

    /// What is said there is heeded.
    pub(crate) fn heed(&mut self, word: Arc<Word>) {
        self.word = word;
    }

    /// Both legs, each with the bytes that are on their way to it. For [`End::Transparent`].
    pub(crate) fn into_legs(mut self) -> (M, (L, BytesMut), (L, BytesMut)) {
        self.out.to_client.extend_from_slice(&self.from_server.bytes);
        self.out.to_server.extend_from_slice(&self.from_client.bytes);
        (self.mind, (self.client, self.out.to_client), (self.server, self.out.to_server))
    }

    /// The client with what is on its way to it and what it has said already, and the server. For [`End::Console`].
    pub(crate) fn into_console(self) -> (M, (L, BytesMut, BytesMut), L) {
        (self.mind, (self.client, self.out.to_client, self.from_client.bytes), self.server)
    }

    /// After [`End::LoggedIn`]: closes with that refusal instead of the news that the login has succeeded.
    pub(crate) fn turn_away(&mut self, refusal: &Refusal, reason: &'static str) {
        self.out.to_client.clear();
        self.to_client.held = None;
        self.say_goodbye(refusal, reason);
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        self.poll_word(cx);
        loop {
            self.paused = self.ear.paused();
            let mut moved = self.poll_receipts(cx);
            if self.closing.is_none() {
                moved |= self.poll_client(cx);
            }
            moved |= self.to_server.write(cx, &mut self.out.to_server, &mut self.server);
            if self.closing.is_none() {
                moved |= self.poll_server(cx);
                if self.login_deadline.is_some() && self.mind.authenticated() {
                    self.login_deadline = None;
                    return Poll::Ready(End::LoggedIn);
                }
            }
            moved |= self.to_client.write(cx, &mut self.out.to_client, &mut self.client);
            if let Some((reason, deadline)) = &mut self.closing {
                let told = self.to_client.empty(&self.out.to_client) && self.to_server.empty(&self.out.to_server);
                if told || deadline.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(End::Closed(reason));
                }
            } else if !self.key_known && self.mind.backend_key().is_some() {
                self.key_known = true;
                return Poll::Ready(End::KeyKnown);
            } else if self.receipts.is_empty() && (self.mind.transparent() || self.mind.console()) {
                return Poll::Ready(if self.mind.console() { End::Console } else { End::Transparent });
            }
            let again = moved && !self.settled();
            if !again && (self.closing.is_some() || !self.watch_time(cx)) {
                self.rest();
                return Poll::Pending;
            }
        }
    }

    /// All that came has been read, taken by the mind and written: another round would move nothing.
    fn settled(&self) -> bool {
        let read = |inlet: &Inlet, leg: &L| leg.drained() && !inlet.due && !inlet.ended;
        let written = |lane: &Lane, out: &BytesMut| out.is_empty() && !lane.unflushed && !lane.gone;
        read(&self.from_client, &self.client)
            && read(&self.from_server, &self.server)
            && written(&self.to_client, &self.out.to_client)
            && written(&self.to_server, &self.out.to_server)
            && self.receipts.is_empty()
            && self.look_up.is_none()
            && self.wait.is_none()
            && self.closing.is_none()
    }

    /// The login's deadline and the drain, once everything that was there has been moved. `true` if the connection
    /// ends now.
    fn watch_time(&mut self, cx: &mut Context<'_>) -> bool {
        if self.login_deadline.as_mut().is_some_and(|deadline| deadline.as_mut().poll(cx).is_ready()) {
            self.close("login took too long");
        }
        let phase = self.ear.poll(cx);
        // What is held has not begun.
        let unasked = self.paused || self.from_client.bytes.is_empty();
        let quiet = self.mind.idle() && unasked && self.out.to_server.is_empty();
        if phase == Phase::Over || (phase == Phase::Draining && (quiet || self.login_deadline.is_some())) {
            self.say_goodbye(&draining(), "drained");
        }
        self.closing.is_some()
    }

    /// Before anything else is read: an end that was said, and a cancel of what waits for its turn.
    fn poll_word(&mut self, cx: &mut Context<'_>) {
        if !std::mem::replace(&mut self.listening, true) {
            self.word.listen(cx);
        }
        if let Some(ending) = self.word.end().filter(|_| self.closing.is_none()) {
            let (refusal, reason) = told_to_end(ending);
            self.say_goodbye(&refusal, reason);
        }
        if self.word.take_cancel() {
            self.mind.cancelled();
            if self.wait.take().is_some() {
                self.from_server.due = true;
            }
        }
    }

    fn poll_client(&mut self, cx: &mut Context<'_>) -> bool {
        let mut moved = false;
        if let Some(look_up) = &mut self.look_up
            && look_up.as_mut().poll(cx).is_ready()
        {
            self.look_up = None;
            self.mind.looked_up();
            self.from_client.due = true;
        }
        let halted = self.halted();
        let held = halted || self.to_server.held.is_some() || self.desk_is_full();
        if self.out.to_server.len() < HIGH && self.from_client.has_room(held) {
            moved |= self.from_client.read(cx, &mut self.client);
        }
        if !held && self.look_up.is_none() && std::mem::take(&mut self.from_client.due) {
            moved = true;
            let mark = self.out.to_client.len();
            let done = self.mind.client(&mut self.from_client.bytes, &mut self.out);
            if self.farewell_sent {
                self.out.to_client.truncate(mark);
            }
            self.carry_out();
            if let Err(close) = done {
                if self.mind.authenticated() && self.out.to_client.len() == mark {
                    // A goodbye, not a fault: what was asked before it is answered still, as PostgreSQL does.
                    self.from_client.ended = true;
                    self.from_client.bytes.clear();
                } else {
                    self.farewell_sent = true;
                    self.close(close.reason);
                }
            } else if self.mind.waiting() {
                self.look_up = Some(self.mind.look_up());
            }
        }
        if halted && self.from_client.ended && self.closing.is_none() {
            // What it asked has not begun, and nobody waits for the answer.
            self.out.to_server.extend_from_slice(&TERMINATE);
            self.close("the client is gone");
            return true;
        }
        // The end is passed on when the mind has taken everything before it.
        if self.from_client.ended && self.closing.is_none() && !held && !self.from_client.stuck() {
            moved |= self.client_ended(cx);
        }
        moved
    }

    /// The client will not say anything more. What it said is delivered and answered; then both sides end.
    fn client_ended(&mut self, cx: &mut Context<'_>) -> bool {
        if !self.mind.authenticated() || self.to_client.gone {
            self.close("the client is gone");
            return true;
        }
        if self.to_server.empty(&self.out.to_server) && !self.to_server.gone {
            let shut = Pin::new(&mut self.server).poll_shutdown(cx).is_ready();
            self.to_server.gone = shut;
            return shut;
        }
        false
    }

    fn poll_server(&mut self, cx: &mut Context<'_>) -> bool {
        let mut moved = false;
        if self.wait.as_mut().is_some_and(|wait| wait.as_mut().poll(cx).is_ready()) {
            self.wait = None;
            self.from_server.due = true;
        }
        let held = self.to_client.held.is_some() || self.desk_is_full() || self.wait.is_some();
        if self.out.to_client.len() < HIGH && self.from_server.has_room(held) {
            moved |= self.from_server.read(cx, &mut self.server);
        }
        if !held && std::mem::take(&mut self.from_server.due) {
            moved = true;
            let mark = self.out.to_client.len();
            let done = self.mind.server(&mut self.from_server.bytes, &mut self.out);
            if let Some(said @ [_, ..]) = self.out.to_client.get(mark..) {
                self.farewell_sent = fatal(said);
            }
            self.carry_out();
            // A reply may be what held the client's next message.
            self.from_client.due |= !self.from_client.bytes.is_empty();
            if let Err(close) = done {
                self.close(close.reason);
            } else if self.from_server.ended && self.wait.is_none() {
                self.server_ended();
            }
        }
        if self.to_client.gone && self.closing.is_none() {
            self.close("the client is gone");
            moved = true;
        }
        moved
    }

    fn server_ended(&mut self) {
        let reason = "the server closed the connection";
        if self.from_client.ended { self.close(reason) } else { self.say_goodbye(&lost(), reason) }
    }

    /// Carries out what the mind asked for.
    fn carry_out(&mut self) {
        let mut effects = std::mem::take(&mut self.out.effects);
        for effect in effects.drain(..) {
            match effect {
                Effect::Event(event) => self.receipts.extend(self.mind.record(event).map(|receipt| (None, receipt))),
                Effect::Wait { until_ns } => self.wait = Some(Box::pin(tokio::time::sleep(left(until_ns)))),
                Effect::RefreshCatalog => self.mind.refresh(),
                Effect::ForgetCredential => self.mind.forget_credential(),
                Effect::Intent { event, side, from } => {
                    let Some(receipt) = self.mind.intend(event) else { continue };
                    let lane = match side {
                        Side::Client => &mut self.to_client,
                        Side::Server => &mut self.to_server,
                    };
                    lane.held = Some(lane.held.map_or(from, |held| held.min(from)));
                    self.receipts.push((Some(side), receipt));
                }
            }
        }
        self.out.effects = effects;
    }

    /// Paused, and at a point where it may rest.
    fn halted(&self) -> bool {
        self.paused && self.mind.idle()
    }

    fn desk_is_full(&self) -> bool {
        self.receipts.iter().any(|(side, _)| side.is_none())
    }

    /// A side's bytes are released when every receipt of that side is in.
    fn poll_receipts(&mut self, cx: &mut Context<'_>) -> bool {
        if self.receipts.is_empty() {
            return false;
        }
        let (mut lost, before) = (false, self.receipts.len());
        self.receipts.retain_mut(|(_, receipt)| match receipt.as_mut().poll(cx) {
            Poll::Pending => true,
            Poll::Ready(written) => {
                lost |= written.is_err();
                false
            }
        });
        if lost {
            self.log_lost();
            return true;
        }
        if self.receipts.len() == before {
            return false;
        }
        let waits = |side| self.receipts.iter().any(|(s, _)| *s == Some(side));
        let (client, server) = (waits(Side::Client), waits(Side::Server));
        if !client {
            self.to_client.held = None;
        }
        if !server {
            self.to_server.held = None;
        }
        // Input that waited for this may go on.
        self.from_server.due |= !self.from_server.bytes.is_empty() || self.from_server.ended;
        self.from_client.due |= !self.from_client.bytes.is_empty();
        true
    }

    /// What was held is dropped, on both sides; nothing protected leaves unlogged.
    fn log_lost(&mut self) {
        self.receipts.clear();
        let held = self.to_client.held.take().unwrap_or(self.out.to_client.len());
        // What is dropped may be a farewell; one that stays is the only one.
        self.farewell_sent &= held == self.out.to_client.len();
        self.out.to_client.truncate(held);
        let held = self.to_server.held.take().unwrap_or(self.out.to_server.len());
        self.out.to_server.truncate(held);
        let mark = self.out.to_client.len();
        let close = self.mind.log_down(&mut self.out);
        if std::mem::replace(&mut self.farewell_sent, true) {
            self.out.to_client.truncate(mark);
        }
        self.carry_out();
        self.close(close.reason);
    }

    fn say_goodbye(&mut self, refusal: &Refusal, reason: &'static str) {
        if !std::mem::replace(&mut self.farewell_sent, true) {
            encode::error(&mut self.out.to_client, "FATAL", refusal);
        }
        self.close(reason);
    }

    /// Delivers what is left, then ends.
    fn close(&mut self, reason: &'static str) {
        if self.closing.is_none() {
            self.closing = Some((reason, Box::pin(tokio::time::sleep(FLUSH))));
        }
    }

    /// Gives memory back when nothing is going on, and says what the session is at.
    fn rest(&mut self) {
        if let Some(place) = &self.place {
            place.is_at(match self.mind.idle() {
                false => State::Busy,
                true if self.paused => State::Held,
                true => State::Idle,
            });
        }
        let Out { to_client, to_server, .. } = &mut self.out;
        for buffer in [to_client, to_server, &mut self.from_client.bytes, &mut self.from_server.bytes] {
            if buffer.is_empty() && buffer.capacity() > KEEP && self.mind.idle() {
                *buffer = BytesMut::new();
            }
        }
    }
}

/// How long until then, on the clock of [`Now`].
fn left(until_ns: u64) -> Duration {
    Duration::from_nanos(until_ns.saturating_sub(Now::read().mono_ns))
}

/// The last of these messages is an ErrorResponse of severity FATAL or PANIC.
fn fatal(messages: &[u8]) -> bool {
    let (mut rest, mut last) = (messages, None);
    while let Ok(Some((tag, size))) = frame::peek(rest, usize::MAX)
        && let Some((message, after)) = rest.split_at_checked(size)
    {
        (last, rest) = (Some((tag, message)), after);
    }
    let Some((b'E', message)) = last else { return false };
    let body = message.get(frame::HEADER..).unwrap_or_default();
    body.split(|b| *b == 0).any(|field| field == b"VFATAL" || field == b"VPANIC")
}
