//! Writes down which purpose a backend acts for, where the views of its lens look (`pgveil.acting`).
//!
//! In: a backend's process id, its login, a purpose. Out: a row, or why there is none. Never: a row for a backend of
//! another login, a row that outlives the minute in which its backend ended.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio_postgres::types::Type;

use super::{Connect, Line, control};
use crate::clock::Now;
use crate::error::{Code, Error, Refusal, Result};

/// How long one attempt may take.
const DEADLINE: Duration = Duration::from_secs(2);

/// Attempts, each after the first on a new connection.
const TRIES: usize = 2;

/// Rows of backends that have ended go this often.
const SWEEP_NS: u64 = 60_000_000_000;

const WRITE: &str = "insert into pgveil.acting (pid, started, purpose) \
     select s.pid, s.backend_start, $2 from pg_catalog.pg_stat_get_activity($1) s \
     join pg_catalog.pg_roles r on r.oid = s.usesysid where r.rolname = $3 and s.backend_start is not null \
     on conflict (pid) do update set started = excluded.started, purpose = excluded.purpose";

const SWEEP: &str = "delete from pgveil.acting a where not exists (select from pg_catalog.pg_stat_get_activity(null) s \
     where s.pid = a.pid and s.backend_start = a.started)";

/// See the module.
#[derive(Debug)]
pub struct Acting {
    line: Line,
    swept_ns: AtomicU64,
}

impl Acting {
    /// Nothing is connected yet.
    pub fn new(connect: Connect) -> Self {
        Self { line: Line::new(connect), swept_ns: AtomicU64::new(0) }
    }

    /// From here on the backend's statements see what that purpose sees.
    ///
    /// # Errors
    /// [`Code::UpstreamDown`]; the reason is in the log only.
    pub async fn write(&self, pid: u32, login: &str, purpose: &str) -> Result<(), Refusal> {
        let mut error = Error::Unreachable("the control connection does not answer".into());
        for _ in 0..TRIES {
            match tokio::time::timeout(DEADLINE, self.ask(pid, login, purpose)).await {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(refused @ Error::Control(_))) => {
                    error = refused;
                    break;
                }
                Ok(Err(lost)) => error = lost,
                // Its connection may be dead without a word.
                Err(_) => self.line.give_up().await,
            }
        }
        tracing::error!(%error, "a session's purpose cannot be written down");
        Err(Refusal::new(
            Code::UpstreamDown,
            "the purpose of this session cannot be written down at the moment",
            "Try again later; the operator finds the reason in pgveil's log.",
        ))
    }

    async fn ask(&self, pid: u32, login: &str, purpose: &str) -> Result<()> {
        let client = self.line.client().await?;
        let pid = i32::try_from(pid).map_err(|_| Error::Server("a process id is out of range"))?;
        let now = Now::read().mono_ns;
        let swept = self.swept_ns.load(Ordering::Relaxed);
        if swept == 0 || now.saturating_sub(swept) > SWEEP_NS {
            self.swept_ns.store(now, Ordering::Relaxed);
            client.execute_typed(SWEEP, &[]).await.map_err(|e| control(&e))?;
        }
        let parameters: [(&(dyn tokio_postgres::types::ToSql + Sync), Type); 3] =
            [(&pid, Type::INT4), (&purpose, Type::TEXT), (&login, Type::TEXT)];
        match client.execute_typed(WRITE, &parameters).await.map_err(|e| control(&e))? {
            1 => Ok(()),
            _ => Err(Error::Control(format!(
                "no session of {login} has the process id that the server gave: the control account needs pg_read_all_stats, \
                 and the connection to the server must not lead through a pooler"
            ))),
        }
    }
}
