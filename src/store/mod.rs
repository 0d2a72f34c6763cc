//! pgveil's own tables in PostgreSQL: the access log as shipped, who saw whom, incidents.
//!
//! In: the control connection, the policy, the access log's files. Out: tables in schema `pgveil`, owned by the control account
//! and readable by nobody else. Never: a table made by anything but `pgveil apply`; a value of somebody's data (events
//! have no field for one); a wait of a session's.

mod classified;
pub mod incidents;
mod months;
mod rows;
mod schema;
pub mod ship;
mod unknown;
mod who;

use tokio::sync::Mutex;
use tokio_postgres::Client;

pub use schema::{MIGRATIONS, Migration, VERSION};
pub use who::who_saw;

use crate::catalog::{Connect, Line, ask, control};
use crate::error::{Error, Result};
use crate::policy::Policy;

/// The tables, through a connection of their own that is made when it is first needed.
pub struct Store {
    line: Line,
    /// One transaction at a time: they share the connection.
    busy: Mutex<()>,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("line", &self.line).finish_non_exhaustive()
    }
}

impl Store {
    /// Nothing is connected yet.
    pub fn new(connect: Connect) -> Self {
        Self { line: Line::new(connect), busy: Mutex::default() }
    }

    /// The tables are there and this pgveil's.
    ///
    /// # Errors
    /// [`Error::Config`] with the way out when they are not; as [`Store::within`].
    pub async fn ready(&self) -> Result<()> {
        self.within(async |client| judge(version(client).await?)).await
    }

    /// Does that in one transaction: all of it, or nothing. Given up half-way, its connection is given up too.
    ///
    /// # Errors
    /// As `work`, and [`Error::Control`] when the transaction cannot be begun or committed: after the latter it is
    /// not known whether it was.
    pub async fn within<T>(&self, work: impl AsyncFnOnce(&Client) -> Result<T>) -> Result<T> {
        let _one = self.busy.lock().await;
        let client = self.line.client().await?;
        // Whoever is given up here (a deadline) leaves a transaction open: nobody else may get its connection.
        self.line.give_up().await;
        run(&client, "begin").await?;
        let done = work(&client).await;
        let ended = run(&client, if done.is_ok() { "commit" } else { "rollback" }).await;
        if ended.is_ok() {
            self.line.put_back(client).await;
        }
        let done = done?;
        ended?;
        Ok(done)
    }
}

/// One or more statements without results.
async fn run(client: &Client, sql: &str) -> Result<()> {
    client.batch_execute(sql).await.map_err(|e| control(&e))
}

/// Which version of our tables a database has; `None`: it has none.
///
/// # Errors
/// [`Error::Control`]
pub async fn version(client: &Client) -> Result<Option<i32>> {
    let there = ask(client, schema::THERE, &[]).await?.first().is_some_and(|row| row.get(0));
    match there {
        true => Ok(ask(client, schema::NEWEST, &[]).await?.first().map(|row| row.get(0))),
        false => Ok(None),
    }
}

fn judge(version: Option<i32>) -> Result<()> {
    match version {
        Some(VERSION) => Ok(()),
        Some(newer) if newer > VERSION => Err(Error::Config(format!(
            "pgveil's own tables are of version {newer}, and this pgveil knows {VERSION}: run the newer pgveil"
        ))),
        Some(older) => Err(Error::Config(format!(
            "pgveil's own tables are of version {older}, and this pgveil needs {VERSION}: run `pgveil apply`"
        ))),
        None => Err(Error::Config(
            "[store] ship = true, and pgveil's own tables are not in the database yet: run `pgveil apply`".to_owned(),
        )),
    }
}

/// What `pgveil apply` has to run, as (why, SQL): tables that are missing, and what the policy says about columns.
///
/// # Errors
/// [`Error::Config`] when a newer pgveil has made them; [`Error::Control`].
pub async fn pending(client: &Client, policy: &Policy) -> Result<Vec<(String, String)>> {
    let version = version(client).await?;
    if version.is_some_and(|version| version > VERSION) {
        judge(version)?;
    }
    let mut statements = schema::pending(version);
    statements.extend(classified::pending(client, policy, version.is_some_and(|version| version > 0)).await?);
    Ok(statements)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_that_is_not_ready_says_the_way_out() {
        assert!(judge(Some(VERSION)).is_ok());
        for version in [None, Some(VERSION - 1)] {
            assert!(judge(version).unwrap_err().to_string().contains("run `pgveil apply`"));
        }
        assert!(judge(Some(VERSION + 1)).unwrap_err().to_string().contains("newer pgveil"));
    }
}
