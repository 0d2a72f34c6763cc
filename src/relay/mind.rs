//! The seam between moving bytes and understanding them: the pump moves, a [`Mind`] understands.

use std::net::IpAddr;
use std::pin::Pin;

use bytes::BytesMut;

use super::console::Operator;
use crate::desk::{AuditDown, Known};
use crate::error::Refusal;
use crate::event::{Actor, Event, Part};
use crate::metrics::Meters;
use crate::session::{BackendKey, Close, Effect, Legs};
use crate::wire::certificate::EndPoint;
use crate::wire::startup::Startup;

/// Resolves when an intent is on disk, or when it can never be.
pub(crate) type Receipt = Pin<Box<dyn Future<Output = Result<(), AuditDown>> + Send>>;

/// Resolves when a look-up has ended or its deadline has passed.
pub(crate) type LookUp = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What a step of the mind left behind.
#[derive(Debug, Default)]
pub(crate) struct Out {
    pub(crate) to_client: BytesMut,
    pub(crate) to_server: BytesMut,
    pub(crate) effects: Vec<Effect>,
}

/// One connection's understanding; [`crate::session::Session`] with what it needs of the world.
pub(crate) trait Mind: Send {
    /// The upstream leg stands, with that binding; appends what opens it.
    fn start(&mut self, server: Option<EndPoint>, out: &mut Out);
    /// Consumes whole frames of the client.
    fn client(&mut self, input: &mut BytesMut, out: &mut Out) -> Result<(), Close>;
    /// Consumes whole frames of the server.
    fn server(&mut self, input: &mut BytesMut, out: &mut Out) -> Result<(), Close>;
    /// Bytes may be copied without looking from here on.
    fn transparent(&self) -> bool;
    /// The client wants the console.
    fn console_login(&self) -> bool;
    /// The login to the console is through: the server is no longer needed.
    fn console(&self) -> bool;
    /// Who is connected.
    fn actor(&self) -> Part<Actor>;
    /// The server has let the client in.
    fn authenticated(&self) -> bool;
    /// Nothing runs and no transaction is open.
    fn idle(&self) -> bool;
    /// Client input waits for a look-up.
    fn waiting(&self) -> bool;
    /// The look-up it waits for; afterwards [`Mind::looked_up`], then [`Mind::client`] again.
    fn look_up(&mut self) -> LookUp;
    /// The look-up has ended.
    fn looked_up(&mut self);
    /// Ask for the catalog to be read again.
    fn refresh(&mut self);
    /// The user's verifier is to be looked up again next time.
    fn forget_credential(&mut self);
    /// The client has asked for what runs to be cancelled.
    fn cancelled(&mut self) {}
    /// Our cancel key and the server's, once known.
    fn backend_key(&self) -> Option<&BackendKey>;
    /// Tell the desk. A receipt: its queue is full, and nothing new is to be taken on until the receipt is in.
    fn record(&mut self, event: Box<Event>) -> Option<Receipt>;
    /// Tell the desk. A receipt: the bytes it speaks of must wait for it.
    fn intend(&mut self, event: Box<Event>) -> Option<Receipt>;
    /// The access log is down: appends what the client is told.
    fn log_down(&mut self, out: &mut Out) -> Close;
    /// The connection is over: appends the last events. For [`conclude`].
    fn finish(&mut self, out: &mut Out);
}

/// A connection's last step: its last events are with the desk when this returns.
pub(crate) async fn conclude(mind: &mut impl Mind) {
    let mut out = Out::default();
    mind.finish(&mut out);
    for effect in out.effects {
        let (Effect::Event(event) | Effect::Intent { event, .. }) = effect else { continue };
        if let Some(receipt) = mind.record(event) {
            // The desk is gone: there is nobody left to tell.
            let _ = receipt.await;
        }
    }
}

/// A client that has said who it is, and has proven nothing.
#[derive(Debug)]
pub(crate) struct Guest {
    pub(crate) connection: u64,
    pub(crate) role: Box<[u8]>,
    pub(crate) database: Box<[u8]>,
    pub(crate) client: IpAddr,
}

/// Where minds come from.
pub(crate) trait Host: Send + Sync + 'static {
    type Mind: Mind;
    /// A mind for that startup packet, or why there is none.
    fn welcome(
        &self,
        startup: Startup,
        connection: u64,
        client: Option<IpAddr>,
        legs: Legs,
    ) -> Result<Self::Mind, Refusal>;
    fn meters(&self) -> &Meters;
    /// Who answers on the console, if there is one.
    fn operator(&self) -> Option<&dyn Operator>;
    /// A connection has said who it is; it can be spoken to as long as the entry lives.
    fn enter(&self, _connection: u64, _role: &[u8]) -> Known {
        Known::unknown()
    }
    /// That connection was not welcome: what is to be recorded of it.
    fn turned_away(&self, _guest: &Guest, _refusal: &Refusal) -> Option<Receipt> {
        None
    }
}
