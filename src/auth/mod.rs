//! Where the verifiers of users come from when logins end in the proxy (`[auth] mode = "terminate"`).
//!
//! In: a user's name. Out: a [`Credential`]: the user's verifier, or for a user that has none, may not log in or does
//! not exist, one that no proof fits, the same for that name as long as the process lives. Never: a look-up without a
//! deadline, a password, a verifier or a name in the log. What is remembered for a moment is no risk: the server judges
//! every login anew.

mod file;
mod function;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rand::Rng;

use crate::catalog::Connect;
use crate::clock::Now;
use crate::error::{Code, Error, Refusal, Result};
use crate::secret::Key;
use crate::session::Credential;
use crate::wire::scram::Verifier;

/// How long a look-up may take.
const DEADLINE: Duration = Duration::from_secs(3);
/// How long what was looked up is remembered, unknown names included.
const REMEMBERED_NS: u64 = 5_000_000_000;
/// The most names that are remembered.
const NAMES_MAX: usize = 4_096;

/// `[auth] verifiers`
#[derive(Debug)]
pub enum Source {
    /// `pgveil.scram_verifier`, asked as the control account.
    Function(Box<Connect>),
    /// Lines `"user" "SCRAM-SHA-256$…"`, as in PgBouncer's `auth_file`.
    File(PathBuf),
}

/// What a source knows of a name.
#[derive(Debug)]
enum Known {
    /// Nothing, or that it may not log in.
    Nothing,
    /// It may log in, and has no SCRAM verifier.
    Other,
    Scram(Verifier),
}

#[derive(Debug)]
enum Open {
    Function(Box<function::Function>),
    File(PathBuf),
}

/// The verifiers of one server's users.
#[derive(Debug)]
pub struct Verifiers {
    source: Open,
    /// Of this process: mock verifiers are made of it.
    secret: Key,
    remembered: Mutex<HashMap<String, Remembered>>,
}

#[derive(Debug)]
struct Remembered {
    credential: Credential,
    until_ns: u64,
}

impl Verifiers {
    /// Nothing is asked yet.
    pub fn new(source: Source) -> Self {
        let mut secret = [0; 32];
        rand::rng().fill_bytes(&mut secret);
        let source = match source {
            Source::Function(connect) => Open::Function(Box::new(function::Function::new(*connect))),
            Source::File(path) => Open::File(path),
        };
        Self { source, secret: Key::new(secret), remembered: Mutex::default() }
    }

    /// Whether the source can be asked at all.
    ///
    /// # Errors
    /// [`Error::Config`] with the way out; [`Error::Unreachable`] when the server cannot be asked yet.
    pub async fn check(&self) -> Result<()> {
        match &self.source {
            Open::Function(function) => function.check().await,
            Open::File(path) => file::read(path.clone()).await.map(drop),
        }
    }

    /// What is to be known of a user to check its proof.
    ///
    /// # Errors
    /// [`Code::UpstreamDown`] when the source does not answer; the reason is in the log only.
    pub async fn find(&self, user: &str) -> Result<Credential, Refusal> {
        let now_ns = Now::read().mono_ns;
        if let Some(kept) = self.remembered().get(user).filter(|kept| kept.until_ns > now_ns) {
            return Ok(kept.credential.clone());
        }
        let known = match tokio::time::timeout(DEADLINE, self.ask(user)).await {
            Ok(Ok(known)) => known,
            Ok(Err(error)) => return Err(unanswered(&error)),
            Err(_) => return Err(unanswered(&Error::Unreachable("the look-up took too long".into()))),
        };
        let credential = self.credential(known, user);
        let mut remembered = self.remembered();
        if remembered.len() >= NAMES_MAX {
            remembered.retain(|_, kept| kept.until_ns > now_ns);
        }
        if remembered.len() < NAMES_MAX {
            let kept = Remembered { credential: credential.clone(), until_ns: now_ns + REMEMBERED_NS };
            remembered.insert(user.to_owned(), kept);
        }
        Ok(credential)
    }

    /// The next login of that user asks anew.
    pub fn forget(&self, user: &str) {
        self.remembered().remove(user);
    }

    async fn ask(&self, user: &str) -> Result<Known> {
        match &self.source {
            Open::Function(function) => function.ask(user).await,
            Open::File(path) => Ok(file::read(path.clone()).await?.remove(user).unwrap_or(Known::Nothing)),
        }
    }

    fn credential(&self, known: Known, user: &str) -> Credential {
        let mock = Verifier::mock(&self.secret, user);
        match known {
            Known::Scram(verifier) => Credential { verifier, other: false },
            Known::Other => Credential { verifier: mock, other: true },
            Known::Nothing => Credential { verifier: mock, other: false },
        }
    }

    fn remembered(&self) -> MutexGuard<'_, HashMap<String, Remembered>> {
        self.remembered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn unanswered(error: &Error) -> Refusal {
    tracing::error!(%error, "a user's verifier cannot be looked up");
    Refusal::new(
        Code::UpstreamDown,
        "passwords cannot be checked at the moment",
        "Try again later; the operator finds the reason in pgveil's log.",
    )
}
