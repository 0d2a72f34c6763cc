//! `pgveil.scram_verifier(name)` on a connection of the control account that carries nothing else, so that no look-up
//! waits for a catalog to be read.

use tokio_postgres::types::Type;

use super::Known;
use crate::catalog::{Connect, Line, control};
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
#[derive(Debug)]
pub(super) struct Function {
    line: Line,
}

impl Function {
    pub(super) fn new(connect: Connect) -> Self {
        Self { line: Line::new(connect) }
    }

    pub(super) async fn check(&self) -> Result<()> {
        let client = self.line.client().await?;
        let there = client.query_one(CHECK, &[]).await.map_err(|e| control(&e))?.get(0);
        if there { Ok(()) } else { Err(Error::Config(MISSING.into())) }
    }

    /// What the function returns: no row, NULL, or a verifier.
    pub(super) async fn ask(&self, user: &str) -> Result<Known> {
        let client = self.line.client().await?;
        let rows = client.query_typed(ASK, &[(&user, Type::TEXT)]).await.map_err(|e| control(&e))?;
        Ok(match rows.first().map(|row| row.get::<_, Option<&str>>(0)) {
            None => Known::Nothing,
            Some(text) => text.and_then(|text| Verifier::parse(text).ok()).map_or(Known::Other, Known::Scram),
        })
    }
}
