//! The admin console: what operators type at `psql -p 6432 pgveil`, carried out.
//!
//! In: a text of a proven login that `[console]` names. Out: rows, or a refusal; an event in the access log for every text,
//! before it is carried out. Never: SQL, a value, a key, a command of a role that may only look.

mod command;
mod show;

use std::sync::Arc;
use std::time::Duration;

pub use command::{ACTIONS, Command, NoCommand, Show, parse};

use crate::catalog::Keeper;
use crate::clock::Now;
use crate::desk::Desk;
use crate::error::{Code, Refusal};
use crate::event::{Actor, Event, EventKind, Part};
use crate::metrics::Meters;
use crate::relay::{Answer, Answering, Drain, Operator, Roster, ServerTls};

/// How often a pause looks whether everything rests.
const LOOK: Duration = Duration::from_millis(20);

/// Which logins may do what.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Roles {
    /// All commands.
    pub all: Vec<String>,
    /// `SHOW` only.
    pub read_only: Vec<String>,
}

/// What the console can see and do.
pub struct Console {
    /// Who may use it.
    pub roles: Roles,
    /// Rules, keys, and their reload.
    pub keeper: Keeper,
    /// Where commands are recorded.
    pub desk: Desk,
    /// Where the pause is counted.
    pub meters: Arc<Meters>,
    /// What `/metrics` says.
    pub metrics: Box<dyn Fn() -> String + Send + Sync>,
    /// The pause.
    pub drain: Arc<Drain>,
    /// Who is logged in.
    pub roster: Arc<Roster>,
    /// Towards clients; reloaded with the rest.
    pub tls: Option<Arc<ServerTls>>,
    /// Names and values of the settings, without secrets.
    pub settings: Vec<(String, String)>,
    /// How long PAUSE waits for what runs.
    pub patience: Duration,
}

impl Roles {
    /// Somebody may use the console.
    pub fn any(&self) -> bool {
        !(self.all.is_empty() && self.read_only.is_empty())
    }
}

impl std::fmt::Debug for Console {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Console").field("roles", &self.roles).finish_non_exhaustive()
    }
}

impl Operator for Console {
    fn answer<'a>(&'a self, actor: &'a Part<Actor>, connection: u64, text: &'a str) -> Answering<'a> {
        Box::pin(async move {
            let judged = judge(&self.roles, &actor.role, text);
            self.record(actor, connection, &judged).await?;
            self.carry_out(judged?).await
        })
    }
}

/// What was typed, if it is a command and that role may give it.
fn judge(roles: &Roles, role: &str, text: &str) -> Result<Command, Refusal> {
    let hint = "SHOW HELP lists the commands.";
    let command = parse(text).map_err(|why| Refusal::new(Code::ConsoleCommand, why.to_string(), hint))?;
    let named = |roles: &[String]| roles.iter().any(|name| name == role);
    if named(&roles.all) || (command.reads_only() && named(&roles.read_only)) {
        return Ok(command);
    }
    let hint = "A role in [console] roles may do more than SHOW.";
    Err(Refusal::new(Code::ConsoleDenied, format!("role \"{role}\" may not give {}", command.tag()), hint))
}

impl Console {
    /// Nothing is done before the desk has it.
    async fn record(
        &self,
        actor: &Part<Actor>,
        connection: u64,
        judged: &Result<Command, Refusal>,
    ) -> Result<(), Refusal> {
        let mut event = Event::new(EventKind::Console, Now::read().unix_us);
        event.connection = connection;
        event.actor = Some(actor.clone());
        event.rules_version = self.keeper.rules().version;
        match judged {
            Ok(command) => event.note = Some(command.to_string()),
            Err(refusal) => {
                event.sqlstate = Some(refusal.sqlstate.as_str().to_owned());
                event.code = Some(refusal.code.as_str().to_owned());
                event.note = Some(refusal.message.to_string());
            }
        }
        self.desk.event(event).await.map_err(|down| {
            let hint = "See pgveil's own log, and restart it.";
            Refusal::new(Code::AuditDown, format!("{down}, so no command is carried out"), hint)
        })
    }

    async fn carry_out(&self, command: Command) -> Result<Answer, Refusal> {
        match command {
            Command::Show(what) => Ok(self.show(what)),
            Command::Reload => self.reload(),
            Command::Pause => self.pause().await,
            Command::Resume => {
                self.drain.pause(false);
                self.meters.paused(false);
                tracing::info!("resumed on the console");
                Ok(Answer { tag: "RESUME", ..Answer::default() })
            }
        }
    }

    fn show(&self, what: Show) -> Answer {
        let now_us = Now::read().unix_us;
        match what {
            Show::Help => show::help(),
            Show::Stats => show::stats(&(self.metrics)()),
            Show::Sessions => show::sessions(self.roster.lines(), now_us),
            Show::Rules => show::rules(&self.keeper.rules()),
            Show::Policy => show::policy(&self.keeper.rules(), self.keeper.ready(), self.keeper.freshness().0),
            Show::Keys => show::keys(&self.keeper.keyring(), now_us),
            Show::Audit => show::audit(self.desk.writable(), &self.settings, &(self.metrics)()),
            Show::Config => show::pairs(self.settings.iter().cloned()),
            Show::Version => show::version(),
        }
    }

    /// The policy is read by the keeper's task; what comes of it is an event and SHOW POLICY's version.
    fn reload(&self) -> Result<Answer, Refusal> {
        self.keeper.reload();
        if let Some(tls) = &self.tls {
            tls.reload().map_err(|error| {
                let hint = "The old certificate stays; keyring and policy are being read.";
                Refusal::new(Code::ConsoleCommand, format!("TLS certificate not reloaded: {error}"), hint)
            })?;
        }
        Ok(Answer { tag: "RELOAD", ..Answer::default() })
    }

    async fn pause(&self) -> Result<Answer, Refusal> {
        self.drain.pause(true);
        self.meters.paused(true);
        tracing::warn!("paused on the console: new statements wait for RESUME");
        let rest = async {
            while self.roster.at_work() > 0 {
                tokio::time::sleep(LOOK).await;
            }
        };
        if tokio::time::timeout(self.patience, rest).await.is_ok() {
            return Ok(Answer { tag: "PAUSE", ..Answer::default() });
        }
        let working = self.roster.at_work();
        let message = format!("{working} sessions are still in a statement or transaction; new ones wait");
        Err(Refusal::new(Code::ConsoleCommand, message, "SHOW SESSIONS names them; RESUME ends the pause."))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_may_only_look_may_only_look() {
        let roles = Roles { all: vec!["dba".into()], read_only: vec!["sre".into()] };
        let code = |role: &str, text: &str| judge(&roles, role, text).map_err(|refusal| refusal.code.as_str());
        assert_eq!(code("dba", "reload"), Ok(Command::Reload));
        assert_eq!(code("sre", "show keys"), Ok(Command::Show(Show::Keys)));
        for action in ["reload", "pause", "resume"] {
            assert_eq!(code("sre", action), Err("PV040"), "{action}");
            assert_eq!(code("app", action), Err("PV040"), "{action}");
        }
        assert_eq!(code("app", "show version"), Err("PV040"));
        assert_eq!(code("dba", "select 1"), Err("PV041"));
    }
}
