//! A connection of the control account for questions that must not wait for the catalog to be read.
//!
//! In: how to connect. Out: a client that is connected. Never: more than one connection, a connection made before somebody
//! asks.

use std::sync::Arc;

use tokio::sync::{Mutex, Notify};
use tokio_postgres::Client;

use super::{Connect, SETTINGS, control};
use crate::error::Result;

/// See the module.
pub struct Line {
    connect: Connect,
    client: Mutex<Option<Arc<Client>>>,
}

impl std::fmt::Debug for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Line").field("connect", &self.connect).finish_non_exhaustive()
    }
}

impl Line {
    /// Nothing is connected yet.
    pub fn new(connect: Connect) -> Self {
        Self { connect, client: Mutex::default() }
    }

    /// The next who asks gets another connection.
    pub async fn give_up(&self) {
        *self.client.lock().await = None;
    }

    /// What [`Line::give_up`] has taken away comes back, unless there is another meanwhile.
    pub async fn put_back(&self, client: Arc<Client>) {
        self.client.lock().await.get_or_insert(client);
    }

    /// The connection, made anew if it was lost.
    ///
    /// # Errors
    /// As [`Connect::open`].
    pub async fn client(&self) -> Result<Arc<Client>> {
        let mut slot = self.client.lock().await;
        if let Some(client) = slot.as_ref().filter(|client| !client.is_closed()) {
            return Ok(client.clone());
        }
        let client = self.connect.open(Arc::new(Notify::new())).await?;
        client.batch_execute(SETTINGS).await.map_err(|e| control(&e))?;
        let client = Arc::new(client);
        *slot = Some(client.clone());
        Ok(client)
    }
}
