//! A client's host: a script out of the seed, sent in any pieces, to an end at any byte.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use rand::RngExt;
use rand::rngs::StdRng;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;
use turmoil::net::TcpStream;

use super::ledger::{CLEARED, World};
use super::server::message;
use super::upstream::{CANARY, SECRET};
use super::view::{Sent, View};
use super::{PORT, PROXY};
use crate::wire::frame;
use crate::wire::startup::{self, CancelKey, Startup};

/// A client that hears nothing for so long gives up.
const PATIENCE: Duration = Duration::from_secs(12);

/// One step of a script: messages that go out together, and what they ask.
type Step = (Vec<u8>, Vec<Sent>);

fn query(sql: &str, word: Option<&str>) -> Step {
    (message(b'Q', &[sql.as_bytes(), b"\0"].concat()), vec![asked(b'Q', word)])
}

fn asked(tag: u8, word: Option<&str>) -> Sent {
    Sent { tag, word: word.map(str::to_owned) }
}

/// Parse, Bind, Describe or not, Execute.
fn extended(name: &str, sql: &str, values: &[&[u8]], describe: bool, word: Option<&str>) -> Step {
    let mut bind = [&b"\0"[..], name.as_bytes(), &[0, 0, 0]].concat();
    bind.extend_from_slice(&(values.len() as u16).to_be_bytes());
    for value in values {
        bind.extend_from_slice(&(value.len() as u32).to_be_bytes());
        bind.extend_from_slice(value);
    }
    bind.extend_from_slice(&[0, 0]);
    let mut bytes = message(b'P', &[name.as_bytes(), b"\0", sql.as_bytes(), b"\0\0\0"].concat());
    bytes.extend(message(b'B', &bind));
    let mut sent = vec![asked(b'P', None), asked(b'B', None)];
    if describe {
        bytes.extend(message(b'D', b"P\0"));
        sent.push(asked(b'D', None));
    }
    bytes.extend(message(b'E', &[0; 5]));
    sent.push(asked(b'E', word));
    (bytes, sent)
}

/// The next step; `id` is of this step alone.
fn step(rng: &mut StdRng, id: u64) -> Step {
    let (read, write) = (format!("r{id}"), format!("w{id}"));
    let select = format!("select email as {read} from public.users");
    let insert = format!("insert into public.users (email, id) values ($1, $2) returning id as {write}");
    let mut steps: Step = match rng.random_range(0..16) {
        0 | 1 => query(&select, Some(&read)),
        2 => query(&format!("{select} as many"), Some(&read)),
        3 => query("select 1", None),
        4 => query(&insert.replace("$1", &format!("'{CANARY}'")).replace("$2", "1"), None),
        5 => query(["begin", "commit", "rollback"][rng.random_range(0..3)], None),
        6 => query(&format!("select length(email) as {read} from public.users where email = '{CANARY}'"), None),
        7 => query("nonsense; select 2", None),
        8 => query("copy public.users (id, email) from stdin", None),
        9 => query("select * from nobody_knows", None),
        10 => query(&format!("select 1; {select}; select 2"), Some(&read)),
        11 => {
            let insert = insert.replace("$1", "null").replace("$2", "1");
            query(&format!("select 1; {insert}; {select}; {insert}"), Some(&read))
        }
        _ => {
            let mut steps = Step::default();
            for n in 0..rng.random_range(1..4) {
                let (read, write) = (format!("{read}{n}"), format!("{write}{n}"));
                let name = if rng.random_bool(0.2) { format!("s{}", rng.random_range(0..30)) } else { String::new() };
                let describe = rng.random_bool(0.5);
                let (bytes, sent) = match rng.random_range(0..4) {
                    0 => extended(
                        &name,
                        &format!("select email as {read} from public.users"),
                        &[],
                        describe,
                        Some(&read),
                    ),
                    1 => {
                        let sql =
                            format!("insert into public.users (email, id) values ($1, $2) returning id as {write}");
                        extended(&name, &sql, &[CANARY.as_bytes(), b"1"], describe, None)
                    }
                    2 => extended(&name, "select 1", &[], describe, None),
                    _ => extended(&name, "select upper(email) from public.users", &[], describe, None),
                };
                steps.0.extend(bytes);
                steps.1.extend(sent);
            }
            steps.0.extend(message(b'S', b""));
            steps.1.push(asked(b'S', None));
            steps
        }
    };
    if rng.random_bool(0.05) {
        // A flood: more than buffers hold.
        for _ in 0..rng.random_range(100..2_000) {
            let (bytes, sent) = query(&format!("select 1 /* {} */", "x".repeat(300)), None);
            steps.0.extend(bytes);
            steps.1.extend(sent);
        }
    }
    steps
}

/// Why a client stops.
enum Stop {
    /// The connection has ended, or the client ends it.
    Over,
}

struct Client {
    world: Arc<World>,
    number: usize,
    role: &'static str,
    rng: StdRng,
    stream: TcpStream,
    input: BytesMut,
    view: View,
    key: Option<CancelKey>,
    /// Bytes it sends before it vanishes.
    vanishes: Option<usize>,
}

/// The software of the host.
pub(super) async fn run(number: usize, world: Arc<World>, mut rng: StdRng) -> turmoil::Result {
    tokio::time::sleep(Duration::from_millis(rng.random_range(0..300))).await;
    for _ in 0..rng.random_range(1..=3) {
        let Ok(Ok(stream)) = timeout(PATIENCE, TcpStream::connect((PROXY, PORT))).await else { continue };
        let role = if rng.random_bool(0.7) { CLEARED } else { "analyst" };
        let vanishes = rng.random_bool(0.25).then(|| rng.random_range(0..6_000));
        let mut client = Client {
            world: world.clone(),
            number,
            role,
            rng,
            stream,
            input: BytesMut::new(),
            view: View::default(),
            key: None,
            vanishes,
        };
        let _ = client.script().await;
        rng = client.rng;
    }
    Ok(())
}

impl Client {
    async fn script(&mut self) -> Result<(), Stop> {
        let mut packet = BytesMut::new();
        let parameters = vec![(b"user".to_vec(), self.role.into()), (b"database".to_vec(), b"app".to_vec())];
        Startup { major: 3, minor: 0, parameters }.encode(&mut packet).unwrap();
        self.send(&packet).await?;
        self.send(&message(b'p', b"SCRAM-SHA-256\0\0\0\0\x01n")).await?;
        while !self.view.ready() {
            self.hear().await?;
        }
        for _ in 0..self.rng.random_range(1..12) {
            let id = self.world.below(1 << 40);
            let (bytes, sent) = step(&mut self.rng, id);
            sent.into_iter().for_each(|sent| self.view.asks(sent));
            self.send(&bytes).await?;
            if self.rng.random_bool(0.15) {
                self.cancel().await;
            }
            // The next step goes out ahead of the answer now and then; not into a COPY, where it would be an error.
            let ahead = self.rng.random_bool(0.2) && memchr::memmem::find(&bytes, b"stdin").is_none();
            while !ahead && !self.view.answered() {
                self.hear().await?;
            }
        }
        while !self.view.answered() {
            self.hear().await?;
        }
        match self.rng.random_range(0..3) {
            0 => self.send(&message(b'X', b"")).await?,
            1 => drop(self.stream.shutdown().await),
            _ => return Err(Stop::Over),
        }
        loop {
            self.hear().await?;
        }
    }

    /// Sends in pieces, as far as the client lives.
    async fn send(&mut self, mut bytes: &[u8]) -> Result<(), Stop> {
        while !bytes.is_empty() {
            let most = if self.rng.random_bool(0.2) { 3 } else { 20_000 };
            let mut size = bytes.len().min(self.rng.random_range(1..=most));
            if let Some(left) = &mut self.vanishes {
                if *left == 0 {
                    return Err(Stop::Over);
                }
                size = size.min(*left);
                *left -= size;
            }
            let written = timeout(PATIENCE, self.stream.write_all(&bytes[..size])).await;
            written.map_err(|_| Stop::Over)?.map_err(|_| Stop::Over)?;
            bytes = &bytes[size..];
            if self.rng.random_bool(0.02) {
                tokio::time::sleep(Duration::from_millis(self.rng.random_range(0..40))).await;
            }
        }
        Ok(())
    }

    /// Reads once, and takes every whole message.
    async fn hear(&mut self) -> Result<(), Stop> {
        if self.rng.random_bool(0.02) {
            tokio::time::sleep(Duration::from_millis(self.rng.random_range(0..300))).await;
        }
        let read = timeout(PATIENCE, self.stream.read_buf(&mut self.input)).await;
        let ended = !matches!(read, Ok(Ok(1..)));
        while let Some((tag, size)) = frame::peek(&self.input, frame::LENGTH_MAX).expect("lengths are possible")
            && size <= self.input.len()
        {
            let message = self.input.split_to(size);
            let body = &message[frame::HEADER..];
            self.judge(tag, body);
            let copying = self.view.copying;
            if let Err(illegal) = self.view.takes(tag, body) {
                panic!("client {}: {illegal}: {:?}", self.number, self.view);
            }
            self.world.ledger.note(format!("client {} {}", self.number, char::from(tag)));
            if tag == b'K' {
                self.key = Some(CancelKey {
                    pid: u32::from_be_bytes(body[..4].try_into().unwrap()),
                    secret: body[4..].into(),
                });
            }
            if self.view.copying && !copying {
                let rows = format!("1\t{CANARY}\n2\t{CANARY}\n");
                let cut = self.rng.random_range(0..rows.len());
                let parts = [message_of(&rows[..cut]), message_of(&rows[cut..]), super::server::message(b'c', b"")];
                self.send(&parts.concat()).await?;
            }
        }
        if ended { Err(Stop::Over) } else { Ok(()) }
    }

    /// What is shown may be shown, and is recorded already.
    fn judge(&self, tag: u8, body: &[u8]) {
        if memchr::memmem::find(body, SECRET.as_bytes()).is_none() {
            return;
        }
        assert_eq!((tag, self.role), (b'D', CLEARED), "a value is shown to a client that may not see it");
        let word = self.view.word().expect("a statement that shows it was sent");
        assert!(self.world.ledger.is_durable(word), "{word} shows a value before its intent is durable");
    }

    /// With its own key, or with one that nobody was given.
    async fn cancel(&mut self) {
        let Some(mut key) = self.key.clone() else { return };
        if self.rng.random_bool(0.3) {
            key.secret[0] ^= 1;
        } else {
            self.world.ledger.cancel_asked(key.pid);
        }
        let mut request = BytesMut::new();
        startup::encode_cancel(&key, &mut request).unwrap();
        if let Ok(Ok(mut stream)) = timeout(Duration::from_secs(1), TcpStream::connect((PROXY, PORT))).await {
            let _ = stream.write_all(&request).await;
        }
    }
}

fn message_of(rows: &str) -> Vec<u8> {
    message(b'd', rows.as_bytes())
}
