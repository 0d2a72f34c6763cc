//! One connection's protocol mind: startup, simple, extended, copy, replies, refusals.
//!
//! In: frames from client and server, rules, time, randomness. Out: bytes for both, and [`Effect`]s for the world.
//! Never: I/O.

use crate::event::Event;

/// What the session asks of the world.
#[derive(Debug)]
pub enum Effect {
    /// Tell the desk.
    Event(Box<Event>),
    /// Record this before what was appended to that side's output from here on leaves.
    Intent {
        /// The intent record.
        event: Box<Event>,
        /// Whose output waits.
        side: Side,
        /// Length of that side's output buffer when the intent was made: what follows waits.
        from: usize,
    },
    /// Load the catalog anew.
    RefreshCatalog,
}

/// A direction of output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Towards the client.
    Client,
    /// Towards the server.
    Server,
}
