//! The console's side of the wire: the simple query protocol, and nothing else of it.
//!
//! In: a client that is through its login, an [`Operator`] who knows the commands. Out: rows, or an error and
//! ReadyForQuery. Never: a message above [`MESSAGE_MAX`], a word to PostgreSQL.

use std::pin::Pin;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::drain::{Drain, Phase};
use super::farewell::draining;
use super::pump::TERMINATE;
use super::stream::Stream;
use crate::error::{Code, Refusal, SqlState};
use crate::event::{Actor, Part};
use crate::wire::{encode, frame, message};

/// Longest message of a console's client.
const MESSAGE_MAX: usize = 16 * 1024;
/// Consoles that find a seat when `[listen] max_connections` are taken: that is when they are needed.
pub(super) const SEATS: usize = 4;
/// How long a client may take to read an answer.
const WRITE: Duration = Duration::from_secs(30);
/// How long the server may take to hear that the login was all.
const PART: Duration = Duration::from_secs(1);

/// What a command brings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// Names of the columns, and whether they hold whole numbers. None: there are no rows.
    pub columns: Vec<(&'static str, bool)>,
    /// As many cells each as there are columns.
    pub rows: Vec<Vec<Option<String>>>,
    /// The command's own name.
    pub tag: &'static str,
}

/// An answer under way.
pub type Answering<'a> = Pin<Box<dyn Future<Output = Result<Answer, Refusal>> + Send + 'a>>;

/// Who answers.
pub trait Operator: Send + Sync + std::fmt::Debug {
    /// Carries out what that login has typed on that connection.
    fn answer<'a>(&'a self, actor: &'a Part<Actor>, connection: u64, text: &'a str) -> Answering<'a>;
}

/// Who is here, and who answers.
pub(crate) struct Visit<'a> {
    pub(crate) actor: Part<Actor>,
    pub(crate) connection: u64,
    pub(crate) operator: &'a dyn Operator,
    pub(crate) drain: &'a Drain,
}

/// Says goodbye to the server that has judged the login.
pub(crate) async fn part(mut server: Stream) {
    let goodbye = async {
        server.write_all(&TERMINATE).await?;
        server.shutdown().await
    };
    // It notices the closed connection as well.
    let _ = tokio::time::timeout(PART, goodbye).await;
}

/// Serves until one side ends. `unsent` is on its way to the client, `said` has come from it already.
pub(crate) async fn serve(visit: Visit<'_>, client: Stream, unsent: BytesMut, said: BytesMut) -> &'static str {
    let mut talk = Talk { visit, client, input: said, out: unsent, skipping: false };
    match talk.run().await {
        Ok(never) => match never {},
        Err(reason) => {
            // What is left to say may not be heard.
            let _ = talk.flush().await;
            reason
        }
    }
}

struct Talk<'a> {
    visit: Visit<'a>,
    client: Stream,
    input: BytesMut,
    out: BytesMut,
    /// After an error in the extended protocol, until Sync.
    skipping: bool,
}

impl Talk<'_> {
    async fn run(&mut self) -> Result<std::convert::Infallible, &'static str> {
        loop {
            match frame::peek(&self.input, MESSAGE_MAX) {
                Ok(Some((tag, size))) if size <= self.input.len() => {
                    let message = self.input.split_to(size);
                    self.take(tag, &message[frame::HEADER..]).await?;
                }
                Ok(_) => {
                    self.flush().await?;
                    self.read().await?;
                }
                Err(_) => {
                    self.fatal(&Refusal::new(Code::Protocol, "invalid message length", ""));
                    return Err("the client sent an impossible message length");
                }
            }
        }
    }

    async fn take(&mut self, tag: u8, body: &[u8]) -> Result<(), &'static str> {
        match tag {
            b'Q' if self.skipping => Ok(()),
            b'Q' => {
                let text = message::query(body).ok().and_then(|text| std::str::from_utf8(text).ok());
                match text {
                    Some(text) if text.trim_matches(|c: char| c.is_whitespace() || c == ';').is_empty() => {
                        encode::empty_query(&mut self.out);
                    }
                    Some(text) => self.command(text).await?,
                    None => self.error(&Refusal::new(Code::Protocol, "a command is text in UTF-8", "")),
                }
                encode::ready_for_query(&mut self.out, b'I');
                self.flush().await
            }
            b'S' => {
                self.skipping = false;
                encode::ready_for_query(&mut self.out, b'I');
                Ok(())
            }
            b'X' => Err("the client said goodbye"),
            b'P' | b'B' | b'D' | b'E' | b'C' | b'F' if self.skipping => Ok(()),
            b'P' | b'B' | b'D' | b'E' | b'C' | b'F' => {
                self.error(&simple_only());
                // A function call ends by itself.
                self.skipping = tag != b'F';
                if !self.skipping {
                    encode::ready_for_query(&mut self.out, b'I');
                }
                Ok(())
            }
            // Flush; and COPY's messages, which PostgreSQL passes over as well when no COPY runs.
            b'H' | b'd' | b'c' | b'f' => Ok(()),
            _ => {
                self.fatal(&Refusal::new(Code::Protocol, "invalid frontend message type", ""));
                Err("the client sent an unknown message")
            }
        }
    }

    async fn command(&mut self, text: &str) -> Result<(), &'static str> {
        let Visit { actor, connection, operator, drain } = &self.visit;
        let answered = tokio::select! {
            answered = operator.answer(actor, *connection, text) => answered,
            () = drain.reached(Phase::Draining) => {
                self.fatal(&draining());
                return Err("drained");
            }
        };
        let written = answered.and_then(|answer| {
            let mark = self.out.len();
            write(&mut self.out, &answer).inspect_err(|_| self.out.truncate(mark))
        });
        if let Err(refusal) = written {
            self.error(&refusal);
        }
        Ok(())
    }

    async fn read(&mut self) -> Result<(), &'static str> {
        self.input.reserve(1024);
        tokio::select! {
            read = self.client.read_buf(&mut self.input) => match read {
                Ok(read) if read > 0 => Ok(()),
                _ => Err("the client is gone"),
            },
            () = self.visit.drain.reached(Phase::Draining) => {
                self.fatal(&draining());
                Err("drained")
            }
        }
    }

    async fn flush(&mut self) -> Result<(), &'static str> {
        let writing = async {
            while self.out.has_remaining() {
                self.client.write_buf(&mut self.out).await?;
            }
            self.client.flush().await
        };
        match tokio::time::timeout(WRITE, writing).await {
            Ok(Ok(())) => Ok(()),
            _ => Err("the client is gone"),
        }
    }

    fn error(&mut self, refusal: &Refusal) {
        encode::error(&mut self.out, "ERROR", refusal);
    }

    fn fatal(&mut self, refusal: &Refusal) {
        encode::error(&mut self.out, "FATAL", refusal);
    }
}

fn simple_only() -> Refusal {
    let hint = "With psql type the command; with a driver use what sends a text without parameters.";
    Refusal::new(Code::ConsoleCommand, "the console takes the simple query protocol only", hint)
        .with_sqlstate(SqlState(*b"0A000"))
}

fn write(out: &mut BytesMut, answer: &Answer) -> Result<(), Refusal> {
    let too_long = |_| Refusal::new(Code::Limit, "a line of the answer is too long for a message", "");
    if !answer.columns.is_empty() {
        encode::row_description(out, &answer.columns).map_err(too_long)?;
        for row in &answer.rows {
            encode::text_row(out, row).map_err(too_long)?;
        }
    }
    encode::command_complete(out, answer.tag).map_err(too_long)
}
