//! `pgveil.scram_verifier(name)` on a connection of the control account that carries nothing else, so that no look-up
//! waits for a catalog to be read.

use std::sync::Arc;

use tokio::sync::{Mutex, Notify};
use tokio_postgres::Client;
use tokio_postgres::types::Type;

use super::Known;
use crate::catalog::{Connect, SETTINGS, control};
use crate::error::{Error, Result};
use crate::wire::scram::Verifier;

const CHECK: &str = "select coalesce(pg_catalog.has_function_privilege( \
     pg_catalog.to_regprocedure('pgveil.scram_verifier(text)'), 'execute'), false)";
const ASK: &str = "select verifier from pgveil.scram_verifier($1)";

const MISSING: &str = "[auth] mode = \"terminate\" needs the users' verifiers, and the database has no function \
     pgveil.scram_verifier that the control account may call\n  \
     help: have a superuser run what `pgveil apply --superuser` prints, or say verifiers = \"file\", or say \
     mode = \"relay\" (then clients that know channel binding must connect with channel_binding=disable)";

/// The function, and the connection it is asked on.
pub(super) struct Function {
    connect: Connect,
    client: Mutex<Option<Arc<Client>>>,
}

impl std::fmt::Debug for Function {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Function").field("connect", &self.connect).finish_non_exhaustive()
    }
}

impl Function {
    pub(super) fn new(connect: Connect) -> Self {
        Self { connect, client: Mutex::default() }
    }

    pub(super) async fn check(&self) -> Result<()> {
        let client = self.client().await?;
        let there = client.query_one(CHECK, &[]).await.map_err(|e| control(&e))?.get(0);
        if there { Ok(()) } else { Err(Error::Config(MISSING.into())) }
    }

    /// What the function returns: no row, NULL, or a verifier.
    pub(super) async fn ask(&self, user: &str) -> Result<Known> {
        let client = self.client().await?;
        let rows = client.query_typed(ASK, &[(&user, Type::TEXT)]).await.map_err(|e| control(&e))?;
        Ok(match rows.first().map(|row| row.get::<_, Option<&str>>(0)) {
            None => Known::Nothing,
            Some(text) => text.and_then(|text| Verifier::parse(text).ok()).map_or(Known::Other, Known::Scram),
        })
    }

    /// The connection, made anew if it was lost.
    async fn client(&self) -> Result<Arc<Client>> {
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
