//! The pump of passthrough databases: bytes both ways, no frames.
//!
//! In: two legs and what was read or written already. Out: bytes as they came, one read and one write for each
//! wake-up of a direction. Never: more than one buffer of pending bytes per direction (the reader waits for the
//! writer), a look at what the bytes mean, except for the six bytes of a ReadyForQuery at the end of what the server
//! sent, which tell a drain that the session is idle.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::drain::{Drain, Ear, Phase};
use super::scratch;
use super::stream::{Leg, Stream};

/// How a spliced connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// Both sides are done, or the client is gone.
    Closed,
    /// The server went away between two messages: the client can still be told.
    ServerLost,
    /// A drain ended it between two statements: the client can still be told.
    Drained,
}

/// Whose socket failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Broken {
    Reader,
    Writer,
}

/// One direction.
#[derive(Debug, Default)]
struct Way {
    /// Read and not written yet.
    left: BytesMut,
    /// The reader has seen the end.
    ended: bool,
    /// TLS holds bytes that have not been handed to the socket.
    unflushed: bool,
    /// The writer has been told of the end.
    done: bool,
}

impl Way {
    fn with(left: BytesMut) -> Self {
        Self { unflushed: !left.is_empty(), left, ..Self::default() }
    }

    /// Runs until one side has to wait. `Ready(Ok)`: the reader has ended and everything is written.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut Stream,
        to: &mut Stream,
        mut seen: impl FnMut(&[u8]),
    ) -> Poll<Result<(), Broken>> {
        loop {
            while !self.left.is_empty() {
                match ready!(Pin::new(&mut *to).poll_write(cx, &self.left)) {
                    Ok(written) if written > 0 => self.left.advance(written),
                    _ => return Poll::Ready(Err(Broken::Writer)),
                }
                if self.left.is_empty() {
                    self.left = BytesMut::new();
                }
            }
            if self.unflushed {
                ready!(Pin::new(&mut *to).poll_flush(cx)).map_err(|_| Broken::Writer)?;
                self.unflushed = false;
            }
            if self.ended {
                return Poll::Ready(Ok(()));
            }
            ready!(scratch::with(|buffer| self.carry(cx, from, to, buffer, &mut seen)))?;
        }
    }

    /// One read, and one write of what it brought.
    fn carry(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut Stream,
        to: &mut Stream,
        buffer: &mut [u8],
        seen: &mut impl FnMut(&[u8]),
    ) -> Poll<Result<(), Broken>> {
        let mut read = ReadBuf::new(buffer);
        ready!(Pin::new(from).poll_read(cx, &mut read)).map_err(|_| Broken::Reader)?;
        let bytes = read.filled();
        if bytes.is_empty() {
            self.ended = true;
            return Poll::Ready(Ok(()));
        }
        seen(bytes);
        let written = match Pin::new(&mut *to).poll_write(cx, bytes) {
            Poll::Ready(written) => written.map_err(|_| Broken::Writer)?,
            Poll::Pending => 0,
        };
        self.left.extend_from_slice(&bytes[written..]);
        self.unflushed = to.is_tls();
        Poll::Ready(Ok(()))
    }

    /// Tells the writer of the reader's end, once.
    fn pass_end(&mut self, cx: &mut Context<'_>, to: &mut Stream) {
        if !self.done {
            self.done = Pin::new(to).poll_shutdown(cx).is_ready();
        }
    }
}

/// What the ends of both streams look like.
#[derive(Debug)]
struct Tail {
    last: [u8; 6],
    /// The client has sent something since.
    asked: bool,
    /// That was Terminate.
    leaving: bool,
}

impl Tail {
    fn client_said(&mut self, bytes: &[u8]) {
        self.asked = true;
        self.leaving = bytes.ends_with(&[b'X', 0, 0, 0, 4]);
    }

    fn server_said(&mut self, bytes: &[u8]) {
        self.asked = false;
        if let Some(last) = bytes.last_chunk::<6>() {
            self.last = *last;
        } else {
            self.last.rotate_left(bytes.len());
            self.last[6 - bytes.len()..].copy_from_slice(bytes);
        }
    }

    /// ReadyForQuery was the last thing the server said.
    fn between_messages(&self) -> bool {
        matches!(self.last, [b'Z', 0, 0, 0, 5, b'I' | b'T' | b'E'])
    }

    /// … outside a transaction, and nothing was asked since.
    fn idle(&self) -> bool {
        !self.asked && self.last == [b'Z', 0, 0, 0, 5, b'I']
    }

    /// The client waits at a message's edge and can be told that the server is gone.
    fn can_be_told(&self) -> bool {
        self.between_messages() && !self.leaving
    }
}

/// A spliced connection.
#[derive(Debug)]
pub(crate) struct Splice {
    pub(crate) client: Stream,
    server: Stream,
    up: Way,
    down: Way,
    tail: Tail,
    ear: Ear,
}

impl Splice {
    /// Takes both legs over, with what has been read from each peer or meant for it but not written yet.
    pub(crate) fn new(
        (client, to_client): (Stream, BytesMut),
        (server, to_server): (Stream, BytesMut),
        drain: Arc<Drain>,
    ) -> Self {
        // A session becomes transparent at its first ReadyForQuery, which may have been written already.
        let mut tail = Tail { last: [b'Z', 0, 0, 0, 5, b'I'], asked: false, leaving: false };
        tail.server_said(&to_client);
        if !to_server.is_empty() {
            tail.client_said(&to_server);
        }
        Self { client, server, up: Way::with(to_server), down: Way::with(to_client), tail, ear: Ear::new(drain) }
    }

    /// Runs to the end of the connection.
    pub(crate) async fn run(&mut self) -> End {
        std::future::poll_fn(|cx| self.poll(cx)).await
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        let Self { client, server, up, down, tail, ear } = self;
        if !up.done {
            match up.poll(cx, client, server, |bytes| tail.client_said(bytes)) {
                Poll::Ready(Ok(())) => up.pass_end(cx, server),
                Poll::Ready(Err(Broken::Reader)) => return Poll::Ready(End::Closed),
                // What the server said last may be still to come.
                Poll::Ready(Err(Broken::Writer)) => up.done = true,
                Poll::Pending => {}
            }
        }
        match down.poll(cx, server, client, |bytes| tail.server_said(bytes)) {
            Poll::Ready(Err(Broken::Writer)) => return Poll::Ready(End::Closed),
            Poll::Ready(_) if tail.can_be_told() && !up.ended => return Poll::Ready(End::ServerLost),
            Poll::Ready(_) => return Poll::Ready(End::Closed),
            Poll::Pending => {}
        }
        match ear.poll(cx) {
            Phase::Serving => Poll::Pending,
            _ if tail.idle() => Poll::Ready(End::Drained),
            Phase::Draining => Poll::Pending,
            Phase::Over if tail.between_messages() => Poll::Ready(End::Drained),
            Phase::Over => Poll::Ready(End::Closed),
        }
    }
}
