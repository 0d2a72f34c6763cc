//! What a client may be told, in which order: the protocol's rules, and nothing a session knows.

use std::collections::VecDeque;

/// One message of the client that is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sent {
    /// `Q P B D E C S`.
    pub(super) tag: u8,
    /// The statement's own word, if it shows something protected.
    pub(super) word: Option<String>,
}

/// The client's view of its session.
#[derive(Debug, Default)]
pub(super) struct View {
    /// The first ReadyForQuery has come.
    ready: bool,
    /// A fatal error was the last word.
    over: bool,
    asked: VecDeque<Sent>,
    /// The pipeline, or the simple Query, has its error: nothing but its ReadyForQuery comes.
    failed: bool,
    /// The rows of a simple Query are described, or an Execute shows rows.
    described: bool,
    /// The server waits for COPY data.
    pub(super) copying: bool,
}

impl View {
    pub(super) fn asks(&mut self, sent: Sent) {
        // What follows an error is ignored up to the Sync.
        if !(self.failed && self.asked.is_empty() && sent.tag != b'S') {
            self.asked.push_back(sent);
        }
    }

    pub(super) fn ready(&self) -> bool {
        self.ready
    }

    /// Nothing is owed.
    pub(super) fn answered(&self) -> bool {
        self.asked.is_empty()
    }

    /// The word of the statement whose rows come now.
    pub(super) fn word(&self) -> Option<&str> {
        self.asked.front()?.word.as_deref()
    }

    /// Takes one message of the server.
    pub(super) fn takes(&mut self, tag: u8, body: &[u8]) -> Result<(), String> {
        if self.over {
            return Err(format!("{} after a fatal error", char::from(tag)));
        }
        if tag == b'E' && (!self.ready || body.split(|b| *b == 0).any(|field| field == b"VFATAL")) {
            self.over = true;
            return Ok(());
        }
        match (tag, self.ready) {
            (b'N' | b'S' | b'A', _) | (b'R' | b'v' | b'K', false) => return Ok(()),
            (b'Z', false) => {
                self.ready = true;
                return Ok(());
            }
            _ => {}
        }
        let Some(front) = self.asked.front().map(|sent| sent.tag) else {
            return Err(format!("{} answers nothing", char::from(tag)));
        };
        if self.failed && tag != b'Z' {
            return Err(format!("{} after an error", char::from(tag)));
        }
        let legal = match (front, tag) {
            (b'Q' | b'S', b'Z') => self.done(),
            (_, b'E') => self.fails(front),
            (b'Q', b'T') => {
                self.described = true;
                true
            }
            (b'Q', b'D') => self.described,
            (b'Q', b'C' | b'I') => {
                (self.described, self.copying) = (false, false);
                true
            }
            (b'Q' | b'E', b'G') => {
                self.copying = true;
                true
            }
            (b'Q' | b'E', b'H' | b'd' | b'c') | (b'E', b'D') | (b'D', b't') => true,
            (b'E', b'C' | b'I' | b's') | (b'P', b'1') | (b'B', b'2') | (b'C', b'3') | (b'D', b'T' | b'n') => {
                self.asked.pop_front();
                self.copying = false;
                true
            }
            _ => false,
        };
        if legal { Ok(()) } else { Err(format!("{} answers {}", char::from(tag), char::from(front))) }
    }

    fn done(&mut self) -> bool {
        self.asked.pop_front();
        (self.failed, self.described, self.copying) = (false, false, false);
        true
    }

    fn fails(&mut self, front: u8) -> bool {
        (self.failed, self.described, self.copying) = (true, false, false);
        if front != b'Q' {
            while self.asked.front().is_some_and(|sent| sent.tag != b'S') {
                self.asked.pop_front();
            }
        }
        true
    }
}
