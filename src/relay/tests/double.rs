//! A mind that forwards, a server that follows a script, and a relay between them.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

use crate::desk::AuditDown;
use crate::error::{Code, Refusal};
use crate::event::{Actor, ActorAuth, Event, EventKind, Part};
use crate::metrics::Meters;
use crate::relay::console::Operator;
use crate::relay::mind::{Host, LookUp, Mind, Out, Receipt};
use crate::relay::{Drain, Relay, Settings, Upstream};
use crate::session::{BackendKey, Close, Effect, Legs, Side};
use crate::wire::certificate::EndPoint;
use crate::wire::startup::{CancelKey, Startup};
use crate::wire::{encode, frame};

pub(super) const OURS: [u8; 4] = [9, 8, 7, 6];
pub(super) const THEIRS: [u8; 4] = [1, 2, 3, 4];

/// What the tests can reach of the minds' world.
#[derive(Default)]
pub(super) struct World {
    /// One sender for each intent that waits for its receipt.
    pub(super) intents: Mutex<Vec<oneshot::Sender<bool>>>,
    pub(super) finished: Mutex<Vec<u64>>,
}

pub(super) struct Double {
    pub(super) transparent: bool,
    pub(super) world: Arc<World>,
    meters: Meters,
}

pub(super) struct DoubleMind {
    startup: Startup,
    number: u64,
    transparent: bool,
    ready: bool,
    authenticated: bool,
    running: bool,
    key: Option<BackendKey>,
    world: Arc<World>,
}

impl Host for Double {
    type Mind = DoubleMind;

    fn welcome(&self, startup: Startup, number: u64, _: Option<IpAddr>, _: Legs) -> Result<DoubleMind, Refusal> {
        if startup.user().is_none() {
            return Err(Refusal::new(Code::Protocol, "no user", ""));
        }
        Ok(DoubleMind {
            startup,
            number,
            transparent: self.transparent,
            ready: false,
            authenticated: false,
            running: true,
            key: None,
            world: self.world.clone(),
        })
    }

    fn meters(&self) -> &Meters {
        &self.meters
    }

    fn operator(&self) -> Option<&dyn Operator> {
        None
    }
}

impl DoubleMind {
    fn server_frame(&mut self, message: &[u8], out: &mut Out) {
        match message[0] {
            b'R' => self.authenticated |= message[5..9] == [0; 4],
            b'K' => {
                let theirs = CancelKey { pid: 77, secret: message[9..].to_vec() };
                let ours = CancelKey { pid: 4242, secret: OURS.to_vec() };
                encode::backend_key(&mut out.to_client, ours.pid, &ours.secret).unwrap();
                self.key = Some(BackendKey { ours, theirs });
                return;
            }
            b'Z' => {
                self.running = false;
                self.ready = true;
            }
            _ => {}
        }
        out.to_client.extend_from_slice(message);
    }
}

impl Mind for DoubleMind {
    fn start(&mut self, _: Option<EndPoint>, out: &mut Out) {
        self.startup.encode(&mut out.to_server).unwrap();
    }

    fn client(&mut self, input: &mut BytesMut, out: &mut Out) -> Result<(), Close> {
        while let Ok(Some((tag, size))) = frame::peek(input, 1 << 20) {
            if size > input.len() || self.transparent() {
                break;
            }
            let message = input.split_to(size);
            if tag == b'X' {
                return Err(Close { reason: "terminate" });
            }
            self.running |= tag == b'Q';
            if message.windows(6).any(|w| w == b"intent") {
                let event = Box::new(Event::new(EventKind::Intent, 0));
                out.effects.push(Effect::Intent { event, side: Side::Server, from: out.to_server.len() });
            }
            out.to_server.extend_from_slice(&message);
        }
        Ok(())
    }

    fn server(&mut self, input: &mut BytesMut, out: &mut Out) -> Result<(), Close> {
        while let Ok(Some((_, size))) = frame::peek(input, 1 << 30) {
            if size > input.len() || self.transparent() {
                break;
            }
            let message = input.split_to(size);
            self.server_frame(&message, out);
        }
        Ok(())
    }

    fn transparent(&self) -> bool {
        self.transparent && self.ready
    }

    fn console_login(&self) -> bool {
        false
    }

    fn console(&self) -> bool {
        false
    }

    fn actor(&self) -> Part<Actor> {
        let role = String::from_utf8_lossy(self.startup.user().unwrap_or_default()).into_owned();
        let (database, application) = (role.clone(), String::new());
        let (certificate, client, purpose, purpose_by, person) = (None, None, None, None, None);
        Actor { role, database, auth: ActorAuth::Trust, certificate, application, client, purpose, purpose_by, person }
            .into()
    }

    fn authenticated(&self) -> bool {
        self.authenticated
    }

    fn idle(&self) -> bool {
        !self.running
    }

    fn waiting(&self) -> bool {
        false
    }

    fn look_up(&mut self) -> LookUp {
        Box::pin(std::future::ready(()))
    }

    fn looked_up(&mut self) {}

    fn forget_credential(&mut self) {}

    fn refresh(&mut self) {}

    fn backend_key(&self) -> Option<&BackendKey> {
        self.key.as_ref()
    }

    fn record(&mut self, _: Box<Event>) -> Option<Receipt> {
        None
    }

    fn intend(&mut self, _: Box<Event>) -> Option<Receipt> {
        let (sender, receipt) = oneshot::channel();
        self.world.intents.lock().unwrap().push(sender);
        Some(Box::pin(async move { if receipt.await == Ok(true) { Ok(()) } else { Err(AuditDown) } }))
    }

    fn log_down(&mut self, out: &mut Out) -> Close {
        encode::error(&mut out.to_client, "FATAL", &Refusal::new(Code::AuditDown, "log down", ""));
        Close { reason: "log down" }
    }

    fn finish(&mut self, _: &mut Out) {
        self.world.finished.lock().unwrap().push(self.number);
    }
}

/// A relay in front of a scripted server.
pub(super) struct Site {
    pub(super) address: SocketAddr,
    pub(super) server: TcpListener,
    pub(super) drain: Arc<Drain>,
    pub(super) world: Arc<World>,
    pub(super) served: tokio::task::JoinHandle<crate::error::Result<()>>,
}

pub(super) async fn site(transparent: bool, change: impl FnOnce(&mut Settings)) -> Site {
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let world = Arc::new(World::default());
    let drain = Arc::new(Drain::default());
    let mut settings = Settings {
        listen: ([127, 0, 0, 1], 0).into(),
        tls: None,
        upstream: Upstream {
            host: "127.0.0.1".into(),
            port: server.local_addr().unwrap().port(),
            tls: None,
            connect_timeout: Duration::from_secs(2),
        },
        workers: 1,
        sessions_max: 4,
        per_address_max: None,
        per_user_max: None,
        rules: Vec::new(),
        strangers_max: 16,
        startup_timeout: Duration::from_secs(5),
    };
    change(&mut settings);
    let host = Double { transparent, world: world.clone(), meters: Meters::detached() };
    let relay = Relay::bind(settings, host, drain.clone(), Arc::default()).unwrap();
    let address = relay.address();
    Site { address, server, drain, world, served: tokio::spawn(relay.run()) }
}

impl Site {
    pub(super) async fn dial(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// A client that has logged in, and the server's end of it.
    pub(super) async fn login(&self) -> (TcpStream, TcpStream) {
        let mut client = self.dial().await;
        client.write_all(&startup()).await.unwrap();
        let server = self.let_in().await;
        until_ready(&mut client).await;
        (client, server)
    }

    /// The server's side of a login.
    pub(super) async fn let_in(&self) -> TcpStream {
        let (mut server, _) = self.server.accept().await.unwrap();
        assert_eq!(read_packet(&mut server).await, startup());
        let mut hello = BytesMut::new();
        hello.extend_from_slice(&[b'R', 0, 0, 0, 8, 0, 0, 0, 0]);
        encode::backend_key(&mut hello, 77, &THEIRS).unwrap();
        encode::ready_for_query(&mut hello, b'I');
        server.write_all(&hello).await.unwrap();
        server
    }
}

pub(super) fn startup() -> Vec<u8> {
    let mut out = BytesMut::new();
    let parameters = vec![(b"user".to_vec(), b"app".to_vec())];
    Startup { major: 3, minor: 0, parameters }.encode(&mut out).unwrap();
    out.to_vec()
}

pub(super) async fn read_packet(socket: &mut TcpStream) -> Vec<u8> {
    let mut packet = vec![0; 4];
    socket.read_exact(&mut packet).await.unwrap();
    let length = u32::from_be_bytes(packet[..4].try_into().unwrap()) as usize;
    packet.resize(length, 0);
    socket.read_exact(&mut packet[4..]).await.unwrap();
    packet
}

/// Nothing here takes this long unless it hangs.
const LONG: Duration = Duration::from_secs(20);

pub(super) async fn read_message(socket: &mut (impl tokio::io::AsyncRead + Unpin)) -> (u8, Vec<u8>) {
    let tag = tokio::time::timeout(LONG, socket.read_u8()).await.expect("a message in time").unwrap();
    let length = socket.read_u32().await.unwrap() as usize;
    let mut body = vec![0; length - 4];
    socket.read_exact(&mut body).await.unwrap();
    (tag, body)
}

pub(super) async fn until_ready(socket: &mut (impl tokio::io::AsyncRead + Unpin)) -> Vec<u8> {
    let mut tags = Vec::new();
    while tags.last() != Some(&b'Z') {
        tags.push(read_message(socket).await.0);
    }
    tags
}

/// The SQLSTATE of the ErrorResponse that comes next, and nothing after it.
pub(super) async fn last_words(socket: &mut (impl tokio::io::AsyncRead + Unpin)) -> String {
    let (tag, body) = read_message(socket).await;
    assert_eq!(tag, b'E');
    let mut rest = Vec::new();
    let _ = socket.read_to_end(&mut rest).await;
    assert!(rest.is_empty(), "something follows the last words");
    let state = body.split(|b| *b == 0).find(|f| f.first() == Some(&b'C')).unwrap();
    String::from_utf8(state[1..].to_vec()).unwrap()
}

/// The connection ends without a word.
pub(super) async fn silence(socket: &mut (impl tokio::io::AsyncRead + Unpin)) {
    let mut rest = Vec::new();
    let _ = tokio::time::timeout(LONG, socket.read_to_end(&mut rest)).await.expect("an end in time");
    assert!(rest.is_empty(), "{rest:?}");
}

pub(super) fn query(text: &str) -> Vec<u8> {
    let mut out = BytesMut::new();
    encode::query(&mut out, text);
    out.to_vec()
}

pub(super) fn ready() -> Vec<u8> {
    vec![b'Z', 0, 0, 0, 5, b'I']
}
