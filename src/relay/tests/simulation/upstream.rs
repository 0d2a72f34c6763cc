//! PostgreSQL's host: the fuzz targets' scripted server, with sealed results, that may vanish at any byte.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;
use turmoil::net::{TcpListener, TcpStream};

use super::PORT;
use super::ledger::World;
use super::rules::RING;
use super::server::{Server, Shown, row};
use crate::crypto::SealMode;
use crate::secret::Entropy;
use crate::wire::startup::{self, Opening};
use crate::wire::{frame, message};

/// In envelopes only.
pub(super) const SECRET: &str = "geheimnis-93ab";
/// Sent by clients only where it is sealed.
pub(super) const CANARY: &str = "kanarienvogel-7d1f";
/// A server that hears nothing for so long has been told by keepalive.
const SILENCE: Duration = Duration::from_secs(20);
const MANY: usize = 300;

struct Zero;

impl Entropy for Zero {
    fn fill(&mut self, out: &mut [u8]) {
        out.fill(0);
    }
}

/// An envelope of [`SECRET`] in `public.users.email`, as bytea prints it.
static ENVELOPE: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut out = Vec::new();
    RING.seal(1, SealMode::Deterministic, 1, SECRET.as_bytes(), &mut Zero, &mut out).unwrap();
    format!("\\x{}", hex::encode(out)).into_bytes()
});

/// `… email as …` answers with envelopes, described as a column of `public.users`; `… many …` with many.
fn shows(sql: &str) -> Option<Shown> {
    let name = sql.split_once("email as ")?.1.split_whitespace().next()?;
    let origin =
        [&100_u32.to_be_bytes()[..], &2_i16.to_be_bytes(), &17_u32.to_be_bytes(), &[0xff; 6], &[0, 0]].concat();
    let fields = [&[0, 1][..], name.as_bytes(), &[0], &origin].concat();
    let rows = if sql.contains("many") { MANY } else { 2 };
    Some((fields, vec![row(&ENVELOPE); rows]))
}

/// Which backend a CancelRequest was for.
type Cancelled = Arc<Mutex<HashMap<u32, bool>>>;

/// The software of the host.
pub(super) async fn host(world: Arc<World>) -> turmoil::Result {
    let listener = TcpListener::bind((IpAddr::from([0, 0, 0, 0]), PORT)).await?;
    let cancelled = Cancelled::default();
    loop {
        let (stream, _) = listener.accept().await?;
        let pid = 100 + u32::try_from(world.below(1 << 30))?;
        let backend = Backend::new(world.clone(), cancelled.clone(), pid);
        world.ledger.watch(async move {
            let _ = timeout(Duration::from_secs(100), backend.serve(stream)).await;
        });
    }
}

struct Backend {
    world: Arc<World>,
    cancelled: Cancelled,
    pid: u32,
    server: Server,
    /// Bytes it says before it vanishes.
    vanishes: Option<usize>,
    statements: HashMap<Vec<u8>, String>,
    portals: HashMap<Vec<u8>, String>,
}

impl Backend {
    fn new(world: Arc<World>, cancelled: Cancelled, pid: u32) -> Self {
        let vanishes = world.chance(0.15).then(|| world.below(4_000) as usize);
        let mut key = [0; 8];
        key[..4].copy_from_slice(&pid.to_be_bytes());
        key[4..].copy_from_slice(&(!pid).to_be_bytes());
        let server = Server::showing(key, shows);
        Self { world, cancelled, pid, server, vanishes, statements: HashMap::new(), portals: HashMap::new() }
    }

    async fn serve(mut self, mut stream: TcpStream) -> std::io::Result<()> {
        let mut input = BytesMut::new();
        let opening = loop {
            if let Ok(Some(length)) = startup::length(&input, startup::LENGTH_MAX)
                && input.len() >= length
            {
                break startup::parse(&input.split_to(length));
            }
            if stream.read_buf(&mut input).await? == 0 {
                return Ok(());
            }
        };
        match opening {
            Ok(Opening::Startup(_)) => {}
            Ok(Opening::Cancel(key)) => {
                assert_eq!(key.secret, (!key.pid).to_be_bytes(), "a cancel with a key that is not the server's");
                self.world.ledger.cancelled(key.pid);
                self.cancelled.lock().unwrap().insert(key.pid, true);
                return Ok(());
            }
            other => panic!("the server is sent {other:?}"),
        }
        loop {
            while let Some(answer) = self.next() {
                if !self.say(&mut stream, &answer).await? || self.server.gone() {
                    return Ok(());
                }
            }
            match timeout(SILENCE, stream.read_buf(&mut input)).await {
                Ok(Ok(1..)) => {}
                _ => return Ok(()),
            }
            while let Ok(Some((_, size))) = frame::peek(&input, frame::LENGTH_MAX)
                && size <= input.len()
            {
                let message = input.split_to(size);
                self.hears(&message);
                if message[0] == b'X' {
                    return Ok(());
                }
                // Its login goes through whatever is proven.
                if message[0] != b'p' {
                    self.server.takes(&message);
                }
            }
        }
    }

    fn next(&mut self) -> Option<Vec<u8>> {
        let struck = self.cancelled.lock().unwrap().remove(&self.pid).is_some() && self.server.ready();
        let fails = struck || (self.server.ready() && self.world.chance(0.04));
        let midway = u8::from(self.world.chance(0.1)) << 6;
        let taste = if fails { 0x80 } else { midway | u8::from(self.world.chance(0.3)) };
        self.server.answer(taste)
    }

    /// Says that in pieces; `false`: it has vanished.
    async fn say(&mut self, stream: &mut TcpStream, mut bytes: &[u8]) -> std::io::Result<bool> {
        while !bytes.is_empty() {
            let mut size = bytes.len().min(1 + self.world.below(9_000) as usize);
            if let Some(left) = &mut self.vanishes {
                if *left == 0 {
                    return Ok(false);
                }
                size = size.min(*left);
                *left -= size;
            }
            stream.write_all(&bytes[..size]).await?;
            bytes = &bytes[size..];
            if self.world.chance(0.05) {
                tokio::time::sleep(Duration::from_millis(self.world.below(80))).await;
            }
        }
        Ok(true)
    }

    /// What is sent here is sealed where it should be, and intended where that has to be.
    fn hears(&mut self, message: &[u8]) {
        let hex = hex::encode(CANARY);
        for clear in [CANARY.as_bytes(), hex.as_bytes(), SECRET.as_bytes()] {
            assert!(memchr::memmem::find(message, clear).is_none(), "a value goes to the server in clear");
        }
        let body = &message[frame::HEADER..];
        match message[0] {
            b'Q' => {
                if let Ok(sql) = message::query(body) {
                    self.intended(&String::from_utf8_lossy(sql));
                }
            }
            b'P' => {
                if let Ok(parse) = message::parse(body) {
                    self.statements.insert(parse.name.to_vec(), String::from_utf8_lossy(parse.sql).into_owned());
                }
            }
            b'B' => {
                if let Ok(bind) = message::bind(body) {
                    let sql = self.statements.get(bind.statement).cloned().unwrap_or_default();
                    self.portals.insert(bind.portal.to_vec(), sql);
                }
            }
            b'E' => {
                if let Ok((name, _)) = message::execute(body) {
                    let sql = self.portals.get(name).cloned().unwrap_or_default();
                    self.intended(&sql);
                }
            }
            _ => {}
        }
    }

    /// A protected write carries a word of its own behind `as w`.
    fn intended(&self, sql: &str) {
        let words = sql.split(|c: char| !c.is_ascii_alphanumeric());
        for word in words.filter(|word| word.strip_prefix('w').is_some_and(|n| n.parse::<u64>().is_ok())) {
            assert!(self.world.ledger.is_durable(word), "the write {word} is forwarded before its intent is durable");
        }
    }
}
