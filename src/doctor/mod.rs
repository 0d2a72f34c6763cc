//! Whether what the policy promises is so: every column, every role, every path, checked where it really is.
//!
//! In: policy, keyring, the control connection, and connections as roles where they are given. Out: one [`Check`] for
//! each thing looked at: its stable name, what was found, and the way out. Never: a lasting change (two temporary views
//! are made and rolled back), a value (rows are counted, cells are opened in memory and forgotten), a silent pass over
//! what could not be read: that is a warning with what to grant.

mod anchors;
mod around;
mod columns;
mod copies;
mod hba;
mod judge;
mod lens;
mod machine;
mod readers;
mod role;
mod server;

use serde::Serialize;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row};

use crate::catalog;
use crate::crypto::Keyring;
use crate::policy::Policy;

pub use anchors::anchors;
pub use judge::examine;
pub use machine::{access_log, hardware};
pub use role::as_role;
pub use server::{Leg, Legs};

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// It is as the policy says.
    Ok,
    /// Nothing is shown by it, but somebody should know; or it could not be looked at.
    Warning,
    /// Somebody can see, or has stored, what the policy forbids; or protection does not work.
    Hole,
}

/// One step of the way out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// A command line.
    Run(String),
    /// SQL, as the control account unless the message says otherwise.
    Sql(String),
    /// What only a person can do.
    Do(String),
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// Stable, for scripts.
    pub check: String,
    /// How bad it is.
    pub severity: Severity,
    /// `schema.table`, if it is about one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub table: Option<String>,
    /// The column, if it is about one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub column: Option<String>,
    /// The role, if it is about one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// One sentence. Names and counts only.
    pub message: String,
    /// In order; empty when nothing is to be done.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub way_out: Vec<Step>,
}

impl Check {
    fn new(severity: Severity, check: &str, message: impl Into<String>) -> Self {
        let (table, column, role, way_out) = (None, None, None, Vec::new());
        Self { check: check.to_owned(), severity, table, column, role, message: message.into(), way_out }
    }

    /// It is as it should be.
    pub fn ok(check: &str, message: impl Into<String>) -> Self {
        Self::new(Severity::Ok, check, message)
    }

    /// Worth knowing.
    pub fn warning(check: &str, message: impl Into<String>) -> Self {
        Self::new(Severity::Warning, check, message)
    }

    /// A hole.
    pub fn hole(check: &str, message: impl Into<String>) -> Self {
        Self::new(Severity::Hole, check, message)
    }

    fn table(mut self, table: &str) -> Self {
        self.table = Some(table.to_owned());
        self
    }

    fn column(mut self, column: &str) -> Self {
        self.column = Some(column.to_owned());
        self
    }

    fn role(mut self, role: &str) -> Self {
        self.role = Some(role.to_owned());
        self
    }

    /// With one more step of the way out.
    pub fn step(mut self, step: Step) -> Self {
        self.way_out.push(step);
        self
    }

    fn sql(self, sql: impl Into<String>) -> Self {
        self.step(Step::Sql(sql.into()))
    }

    fn run(self, command: &str) -> Self {
        self.step(Step::Run(command.to_owned()))
    }

    fn todo_by_hand(self, what: impl Into<String>) -> Self {
        self.step(Step::Do(what.into()))
    }
}

/// What is examined.
#[derive(Debug)]
pub struct Given<'a> {
    /// The checked policy.
    pub policy: &'a Policy,
    /// The keyring, if it opens.
    pub keyring: Option<&'a Keyring>,
    /// Read tables of any size whole, however long it takes.
    pub full: bool,
    /// TLS as configured.
    pub legs: Legs,
}

/// Lists a few of many.
const NAMES_MAX: usize = 10;

/// `a, b, c and 7 more`.
fn few(names: &[String]) -> String {
    let shown = names.iter().take(NAMES_MAX).cloned().collect::<Vec<_>>().join(", ");
    match names.len().checked_sub(NAMES_MAX) {
        None | Some(0) => shown,
        Some(more) => format!("{shown} and {more} more"),
    }
}

fn plural(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

/// A question that was not answered: the SQLSTATE if the server gave one, and what it said, without DETAIL.
#[derive(Debug)]
struct Unanswered {
    denied: bool,
    timeout: bool,
    state: String,
    said: String,
}

impl From<tokio_postgres::Error> for Unanswered {
    fn from(error: tokio_postgres::Error) -> Self {
        let state = error.code().map(|code| code.code().to_owned()).unwrap_or_default();
        let said = catalog::control(&error).to_string();
        Self { denied: state == "42501", timeout: state == "57014", state, said }
    }
}

async fn ask(client: &Client, sql: &str, parameters: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>, Unanswered> {
    Ok(client.query(sql, parameters).await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lists_are_cut_and_say_so() {
        let names = |count: usize| (0..count).map(|n| format!("t{n}")).collect::<Vec<_>>();
        assert_eq!(few(&names(2)), "t0, t1");
        assert!(few(&names(10)).ends_with("t9"));
        assert!(few(&names(12)).ends_with("t9 and 2 more"));
    }

    #[test]
    fn severities_rank() {
        assert!(Severity::Hole > Severity::Warning && Severity::Warning > Severity::Ok);
    }
}
