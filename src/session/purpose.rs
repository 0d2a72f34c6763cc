//! What a session acts for: its login's purposes, which of them it claims, and what the database has been told.
//!
//! In: the database's name at startup (`app@analytics`), tags in comments, the setting `pgveil.purpose`,
//! `application_name`. Out: the class by which it is judged; the request that the control connection writes the purpose
//! down, while client input waits. Never: a purpose that the policy does not give the login; protection by a claim, for
//! views of a lens believe only what the control connection has written.

use std::sync::Arc;

use super::{Close, Context, Phase, Session};
use crate::error::{Code, Refusal};
use crate::event::{Actor, PurposeBy};
use crate::policy::purpose::{Act, by_application, by_tags};
use crate::policy::rules::Rules;
use crate::sql::comment;
use crate::wire::startup::Startup;

/// The setting, and the tag that names a purpose itself.
pub(super) const SETTING: &str = "pgveil.purpose";

/// What is claimed, and what is known.
#[derive(Debug, Default)]
pub(super) struct Purpose {
    /// By the name of the database, for as long as the session lives.
    database: Option<Arc<str>>,
    /// The value of [`SETTING`]; empty: nothing is claimed by it.
    setting: String,
    /// By a comment: of the statement, or of the latest in its transaction that has one.
    comment: Option<Arc<str>>,
    /// The login may act for more than one, so that comments are read.
    several: bool,
    /// The login has purposes, so [`SETTING`] is asked for.
    pub(super) followed: bool,
    /// The server has been told of it.
    pub(super) defined: bool,
    /// What the control connection has written for this backend.
    recorded: Option<Arc<str>>,
    /// What it is writing.
    writing: Option<Arc<str>>,
    /// It is to be written, or being written; client input waits.
    waiting: bool,
}

/// Whether a statement can be decided for what it claims.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Claimed {
    /// As the session stands.
    Yes,
    /// Once something has been answered.
    Later,
}

/// Reads what a startup packet claims, and takes it out of the database's name. What `options` claims the server says.
pub(super) fn at_startup(startup: &mut Startup, role: &str, served: &str, rules: &Rules) -> Result<Purpose, Refusal> {
    let acts = &rules.class(rules.class_of(role)).acts;
    let mut purpose = Purpose { followed: !acts.is_empty(), ..Purpose::default() };
    let check = |claim: &[u8]| {
        let claim = String::from_utf8_lossy(claim);
        match acts.iter().find(|act| *act.purpose == *claim) {
            Some(act) => Ok(act.purpose.clone()),
            None => Err(refusal(&claim, role, rules).with_sqlstate(crate::error::SqlState(*b"28000"))),
        }
    };
    // Not as it is cut for PostgreSQL: a cut purpose may be another one.
    let database = startup.parameter("database").unwrap_or_default();
    let claimed = database.strip_prefix(served.as_bytes()).and_then(|rest| rest.strip_prefix(b"@"));
    if let Some(claim) = claimed {
        purpose.database = Some(check(claim)?);
        startup.set("database", served.as_bytes());
    }
    let setting = |(name, _): &&(Vec<u8>, Vec<u8>)| name.eq_ignore_ascii_case(SETTING.as_bytes());
    if let Some((_, value)) = startup.parameters.iter().rev().find(setting).filter(|(_, value)| !value.is_empty()) {
        purpose.setting = check(value)?.to_string();
    }
    Ok(purpose)
}

fn refusal(claim: &str, role: &str, rules: &Rules) -> Refusal {
    let acts = &rules.class(rules.class_of(role)).acts;
    let allowed: Vec<&str> = acts.iter().map(|act| &*act.purpose).collect();
    let way_out = if allowed.is_empty() {
        "The policy gives this login no purpose.".to_owned()
    } else {
        format!("It may act for: {}.", allowed.join(", "))
    };
    Refusal::new(Code::PurposeDenied, format!("{role} may not act for the purpose \"{}\"", printable(claim)), way_out)
}

/// A name for a message: short, without control characters.
fn printable(claim: &str) -> String {
    claim.chars().take(63).map(|c| if c.is_control() { '?' } else { c }).collect()
}

impl Session {
    /// The setting's value as the server shows it.
    pub(super) fn purpose_shown(&mut self, value: &str) {
        value.clone_into(&mut self.purpose.setting);
    }

    /// The purpose that is to be written down for this backend: its process id and the purpose. It is being written from
    /// here on.
    pub fn write_purpose(&mut self) -> Option<(u32, Arc<str>)> {
        let key = self.key.as_ref().filter(|_| self.purpose.waiting)?;
        let purpose = self.purpose.writing.clone().or_else(|| self.class_purpose.clone())?;
        self.purpose.writing = Some(purpose.clone());
        Some((key.theirs.pid, purpose))
    }

    /// Client input waits for [`Session::write_purpose`] to be done.
    pub fn waiting_for_purpose(&self) -> bool {
        self.purpose.waiting
    }

    /// What is claimed when the statement's comment claims that.
    fn chosen<'a>(&self, comment: Option<&str>, rules: &'a Rules) -> Option<(&'a Act, PurposeBy)> {
        let acts = &rules.class(rules.class_of(&self.actor.role)).acts;
        let named = |claim: &str| acts.iter().find(|act| *act.purpose == *claim);
        let purpose = &self.purpose;
        None.or_else(|| Some((named(purpose.database.as_deref()?)?, PurposeBy::Database)))
            .or_else(|| Some((named(comment?)?, PurposeBy::Comment)))
            .or_else(|| Some((named(&purpose.setting)?, PurposeBy::Setting)))
            .or_else(|| {
                let claimed = by_application(&rules.purposes, acts, &self.actor.application)?;
                Some((claimed, PurposeBy::Application))
            })
            .or_else(|| Some((acts.first()?, PurposeBy::Role)))
    }

    /// Judges the session by what it claims now. Where PostgreSQL checks the purpose, client input waits until that is
    /// written down.
    pub(super) fn act(&mut self, cx: &Context<'_>) {
        if self.transparent || self.console_login {
            // Its database has no policy.
            return;
        }
        let own = cx.rules.class_of(&self.actor.role);
        let chosen = self.chosen(self.purpose.comment.as_deref(), cx.rules);
        let class = cx.rules.acting(chosen.map_or(own, |(act, _)| act.class));
        self.names += u64::from(class != self.class);
        self.class = class;
        self.class_purpose = chosen.map(|(act, _)| act.purpose.clone());
        let (name, by) = (self.class_purpose.as_deref(), chosen.map(|(_, by)| by));
        if self.actor.purpose.as_deref() != name || self.actor.purpose_by != by {
            let purpose = name.map(str::to_owned);
            self.actor = Actor { purpose, purpose_by: by, ..Actor::clone(&self.actor) }.into();
        }
        self.purpose.several = cx.rules.class(own).acts.len() > 1;
        let checked = self.purpose.several && cx.rules.class(class).lens.is_some();
        let due = checked && self.purpose.recorded != self.class_purpose;
        self.purpose.waiting = self.phase == Phase::Ready && (due || self.purpose.writing.is_some());
    }

    /// The control connection has written the purpose down, or could not.
    pub(super) fn purpose_written(&mut self, done: Result<(), Refusal>, cx: &mut Context<'_>) -> Result<(), Close> {
        let written = self.purpose.writing.take();
        if let Err(refusal) = done {
            return Err(self.fatal(&refusal, "the session's purpose could not be written down", cx));
        }
        self.purpose.recorded = written;
        // Something else may be claimed by now.
        self.act(cx);
        Ok(())
    }

    /// A transaction has ended, and with it what comments claimed in it.
    pub(super) fn claims_ended(&mut self) {
        self.unsettled |= self.purpose.comment.take().is_some();
    }

    /// Why nothing protected is given to this session: it claims a purpose that it does not have.
    pub(super) fn false_claim(&self, rules: &Rules) -> Option<Refusal> {
        let claim = self.purpose.setting.as_str();
        if claim.is_empty() || !self.purpose.followed {
            return None;
        }
        let acts = &rules.class(rules.class_of(&self.actor.role)).acts;
        match &self.purpose.database {
            Some(database) if **database != *claim => Some(Refusal::new(
                Code::PurposeDenied,
                format!("this connection acts for {database}, as the name of its database says"),
                format!("RESET {SETTING}, or connect under another name."),
            )),
            Some(_) => None,
            None if acts.iter().any(|act| *act.purpose == *claim) => None,
            None => Some(refusal(claim, &self.actor.role, rules)),
        }
    }

    /// Takes on what the comment of a statement claims.
    ///
    /// # Errors
    /// A change of purpose in the middle of a pipeline: what came before it is not done yet.
    pub(super) fn claim_by_comment(&mut self, sql: &str, cx: &mut Context<'_>) -> Result<Claimed, Refusal> {
        if !self.purpose.several || self.purpose.database.is_some() {
            return Ok(Claimed::Yes);
        }
        let acts = &cx.rules.class(cx.rules.class_of(&self.actor.role)).acts;
        let tags = if sql.contains("*/") { comment::tags(sql) } else { Vec::new() };
        let direct = tags.iter().find(|(key, _)| key == SETTING).map(|(_, value)| value);
        let claimed = match direct {
            Some(value) => {
                let act = acts.iter().find(|act| *act.purpose == **value);
                Some(act.ok_or_else(|| refusal(value, &self.actor.role, cx.rules))?.purpose.clone())
            }
            None => by_tags(&cx.rules.purposes, acts, &tags).map(|act| act.purpose.clone()),
        };
        // In a failed block nothing is given until it has ended.
        if claimed == self.purpose.comment || self.transaction == b'E' {
            return Ok(Claimed::Yes);
        }
        if self.open_pipeline {
            let now = self.chosen(self.purpose.comment.as_deref(), cx.rules).map(|(act, _)| act);
            let then = self.chosen(claimed.as_deref(), cx.rules).map(|(act, _)| act);
            // What says nothing means what its transaction has begun.
            if now == then || (claimed.is_none() && !self.block_changes) {
                return Ok(Claimed::Yes);
            }
            return Err(Refusal::new(
                Code::CatalogStale,
                "a statement for another purpose cannot follow in the same pipeline",
                "send Sync before it",
            ));
        }
        if !self.pending.is_empty() {
            return Ok(Claimed::Later);
        }
        // So do FETCH and COMMIT.
        if claimed.is_none() && self.transaction != b'I' {
            return Ok(Claimed::Yes);
        }
        self.purpose.comment = claimed;
        self.act(cx);
        let asked = self.lens_moved(cx) && self.put_path(cx);
        Ok(if asked || self.purpose.waiting { Claimed::Later } else { Claimed::Yes })
    }
}
