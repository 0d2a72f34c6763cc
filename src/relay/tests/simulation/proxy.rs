//! The proxy's host: real pumps around real sessions, on the simulated network.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::{Instant, Sleep, timeout};
use turmoil::net::{TcpListener, TcpStream};

use super::ledger::World;
use super::mind::SimMind;
use super::{PORT, POSTGRES};
use crate::relay::Phase;
use crate::relay::cancel::Backend;
use crate::relay::farewell::lost;
use crate::relay::mind::{Mind, conclude};
use crate::relay::pump::{End, Pump};
use crate::relay::stream::Leg;
use crate::session::{Legs, Session, Settings};
use crate::wire::certificate::EndPoint;
use crate::wire::encode;
use crate::wire::startup::{self, CancelKey, Opening, Startup};

/// `[listen] startup_timeout`
const STARTUP: Duration = Duration::from_secs(10);
/// After so long without an answer to its probes a dead connection is an error to whoever reads from it.
const KEEPALIVE: Duration = Duration::from_secs(5);
/// From the drain's begin to its end.
const DRAIN: Duration = Duration::from_secs(3);

/// A connection that dies as TCP connections die: silently, until keepalive tells.
struct Cable {
    stream: TcpStream,
    world: Arc<World>,
    to: String,
    cuts: u64,
    probe: Pin<Box<Sleep>>,
}

impl Cable {
    fn new(stream: TcpStream, to: String, world: Arc<World>) -> Self {
        let cuts = world.lines.cuts(&to);
        Self { stream, cuts, probe: Box::pin(tokio::time::sleep(KEEPALIVE)), to, world }
    }
}

impl Leg for Cable {
    fn is_tls(&self) -> bool {
        false
    }

    fn end_point(&self) -> Option<EndPoint> {
        None
    }

    fn drained(&self) -> bool {
        false
    }
}

impl AsyncRead for Cable {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        while read.is_pending() && self.probe.as_mut().poll(cx).is_ready() {
            if self.world.lines.cuts(&self.to) > self.cuts {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            self.probe.as_mut().reset(Instant::now() + KEEPALIVE);
        }
        read
    }
}

impl AsyncWrite for Cable {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        // A socket takes as much as it has room for.
        let most = bytes.len().min(1 + self.world.below(5_000) as usize);
        Pin::new(&mut self.stream).poll_write(cx, &bytes[..most])
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// The software of the host.
pub(super) async fn host(world: Arc<World>) -> turmoil::Result {
    let listener = TcpListener::bind((IpAddr::from([0, 0, 0, 0]), PORT)).await?;
    let ending = world.clone();
    tokio::task::spawn_local(async move {
        ending.drain_begins().await;
        tokio::time::sleep(DRAIN).await;
        ending.drain.advance(Phase::Over);
    });
    for number in 1.. {
        let (stream, peer) = listener.accept().await?;
        let world = world.clone();
        world.ledger.clone().watch(async move {
            world.ledger.session_begins();
            let reason = serve(&world, stream, peer, number).await;
            world.ledger.note(format!("session {number} ends: {reason}"));
            world.ledger.session_ends();
        });
    }
    Ok(())
}

async fn serve(world: &Arc<World>, stream: TcpStream, peer: SocketAddr, number: u64) -> &'static str {
    let name = turmoil::reverse_lookup(peer.ip()).unwrap_or_default();
    let mut client = Cable::new(stream, name, world.clone());
    let deadline = Instant::now() + STARTUP;
    match timeout(STARTUP, packet(&mut client)).await {
        Ok(Some((Opening::Startup(startup), early))) => session(world, client, startup, early, number, deadline).await,
        Ok(Some((Opening::Cancel(key), _))) => cancel(world, &key).await,
        _ => "no startup packet",
    }
}

/// The first packet, and what came with it.
async fn packet(client: &mut Cable) -> Option<(Opening, BytesMut)> {
    let mut input = BytesMut::new();
    loop {
        match startup::length(&input, startup::LENGTH_MAX).ok()? {
            Some(length) if input.len() >= length => {
                return Some((startup::parse(&input.split_to(length)).ok()?, input));
            }
            _ => {}
        }
        if client.read_buf(&mut input).await.ok()? == 0 {
            return None;
        }
    }
}

async fn cancel(world: &Arc<World>, key: &CancelKey) -> &'static str {
    let Some(backend) = world.cancels.find(key) else { return "a cancel for nobody" };
    let Some(_turn) = backend.turn().await else { return "a cancel behind another" };
    if let Ok(Ok(mut server)) = timeout(STARTUP, TcpStream::connect((POSTGRES, PORT))).await {
        let mut request = BytesMut::new();
        startup::encode_cancel(&backend.key, &mut request).unwrap();
        let _ = server.write_all(&request).await;
        let _ = timeout(KEEPALIVE, server.read_u8()).await;
    }
    "a cancel"
}

async fn session(
    world: &Arc<World>,
    mut client: Cable,
    startup: Startup,
    early: BytesMut,
    number: u64,
    deadline: Instant,
) -> &'static str {
    let settings = Settings {
        terminate: world.chance(0.1),
        relay_cleartext: world.chance(0.5),
        prepared_statements: 20,
        portals: 20,
        log_all: world.chance(0.2),
        ..Settings::default()
    };
    let legs = Legs { client_tls: true, server_tls: true, ..Legs::default() };
    let session = match Session::new(Arc::new(settings), startup, number, None, legs, &world.rules()) {
        Ok(session) => session,
        Err(refusal) => return turn_away(&mut client, &refusal).await,
    };
    let server = match timeout(STARTUP, TcpStream::connect((POSTGRES, PORT))).await {
        Ok(Ok(server)) => Cable::new(server, POSTGRES.to_owned(), world.clone()),
        _ => return turn_away(&mut client, &lost()).await,
    };
    let mind = SimMind::new(session, number, world.clone());
    let mut pump = Pump::new(mind, client, server, early, deadline, world.drain.clone());
    let mut ticket = None;
    loop {
        match pump.run().await {
            End::LoggedIn => {}
            End::KeyKnown => {
                let key = pump.mind.backend_key().unwrap();
                let backend = Backend::new(([0, 0, 0, 0], PORT).into(), key.theirs.clone(), Arc::default());
                ticket = Some(world.cancels.enter(number, key.ours.clone(), backend));
            }
            End::Closed(reason) => {
                drop(ticket);
                conclude(&mut pump.mind).await;
                return reason;
            }
            End::Transparent | End::Console => unreachable!("no database here passes through"),
        }
    }
}

async fn turn_away(client: &mut Cable, refusal: &crate::error::Refusal) -> &'static str {
    let mut last = BytesMut::new();
    encode::error(&mut last, "FATAL", refusal);
    let _ = timeout(KEEPALIVE, client.write_all(&last)).await;
    "turned away"
}
