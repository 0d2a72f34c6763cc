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
use crate::policy::purpose::{by_application, by_tags};
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
    /// The server knows [`SETTING`], so that it can be asked for.
    pub(super) followed: bool,
    /// What the control connection has written for this backend.
    recorded: Option<Arc<str>>,
    /// It is being written; client input waits.
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

/// Reads what a startup packet claims, and takes it out of the database's name and of `options`.
pub(super) fn at_startup(startup: &mut Startup, role: &str, served: &str, rules: &Rules) -> Result<Purpose, Refusal> {
    let mut purpose = Purpose::default();
    let acts = &rules.class(rules.class_of(role)).acts;
    let check = |claim: &str| match acts.iter().find(|act| *act.purpose == *claim) {
        Some(act) => Ok(act.purpose.clone()),
        None => Err(refusal(claim, role, rules).with_sqlstate(crate::error::SqlState(*b"28000"))),
    };
    let database = startup.database().map(String::from_utf8_lossy).unwrap_or_default().into_owned();
    let claimed = database.strip_prefix(served).and_then(|rest| rest.strip_prefix('@'));
    if let Some(claim) = claimed.filter(|_| database != served) {
        purpose.database = Some(check(claim)?);
        startup.set("database", served.as_bytes());
    }
    let option = startup.take_option(SETTING);
    let setting = startup.parameter(SETTING).map(<[u8]>::to_vec).or(option).unwrap_or_default();
    if !setting.is_empty() {
        purpose.setting = String::from_utf8_lossy(&setting).into_owned();
        check(&purpose.setting)?;
    }
    if !acts.is_empty() {
        // Known from the start, it can be asked for with SHOW, which takes no snapshot.
        startup.set(SETTING, &setting);
        purpose.followed = true;
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

    /// The purpose that is to be written down for this backend: its process id and the purpose.
    pub fn waiting_for_purpose(&self) -> Option<(u32, Arc<str>)> {
        let key = self.key.as_ref().filter(|_| self.purpose.waiting)?;
        Some((key.theirs.pid, self.class_purpose.clone()?))
    }

    pub(super) fn purpose_pending(&self) -> bool {
        self.purpose.waiting
    }

    /// Judges the session by what it claims now. Where PostgreSQL checks the purpose, client input waits until that is
    /// written down.
    pub(super) fn act(&mut self, cx: &Context<'_>) {
        let own = cx.rules.class_of(&self.actor.role);
        let acts = &cx.rules.class(own).acts;
        let named = |claim: &str| acts.iter().find(|act| *act.purpose == *claim);
        let purpose = &self.purpose;
        let chosen = None
            .or_else(|| Some((named(purpose.database.as_deref()?)?, PurposeBy::Database)))
            .or_else(|| Some((named(purpose.comment.as_deref()?)?, PurposeBy::Comment)))
            .or_else(|| Some((named(&purpose.setting)?, PurposeBy::Setting)))
            .or_else(|| {
                let claimed = by_application(&cx.rules.purposes, acts, &self.actor.application)?;
                Some((claimed, PurposeBy::Application))
            })
            .or_else(|| Some((acts.first()?, PurposeBy::Role)));
        let class = cx.rules.acting(chosen.map_or(own, |(act, _)| act.class));
        self.names += u64::from(class != self.class);
        self.class = class;
        self.class_purpose = chosen.map(|(act, _)| act.purpose.clone());
        let (name, by) = (self.class_purpose.as_deref(), chosen.map(|(_, by)| by));
        if self.actor.purpose.as_deref() != name || self.actor.purpose_by != by {
            let purpose = name.map(str::to_owned);
            self.actor = Actor { purpose, purpose_by: by, ..Actor::clone(&self.actor) }.into();
        }
        let checked = acts.len() > 1 && cx.rules.class(class).lens.is_some();
        self.purpose.waiting = checked && self.phase == Phase::Ready && self.purpose.recorded != self.class_purpose;
    }

    /// The control connection has written the purpose down, or could not.
    pub(super) fn purpose_recorded(&mut self, done: Result<(), Refusal>, cx: &mut Context<'_>) -> Result<(), Close> {
        self.purpose.waiting = false;
        match done {
            Ok(()) => self.purpose.recorded.clone_from(&self.class_purpose),
            Err(refusal) => return Err(self.fatal(&refusal, "the session's purpose could not be written down", cx)),
        }
        Ok(())
    }

    /// Why nothing protected is given to this session: it claims a purpose that it does not have.
    pub(super) fn false_claim(&self, rules: &Rules) -> Option<Refusal> {
        let claim = self.purpose.setting.as_str();
        let acts = &rules.class(rules.class_of(&self.actor.role)).acts;
        if claim.is_empty() || !self.purpose.followed {
            return None;
        }
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
        let acts = &cx.rules.class(cx.rules.class_of(&self.actor.role)).acts;
        if acts.len() < 2 || self.purpose.database.is_some() {
            return Ok(Claimed::Yes);
        }
        let tags = if sql.contains("*/") { comment::tags(sql) } else { Vec::new() };
        let direct = tags.iter().find(|(key, _)| key == SETTING).map(|(_, value)| value);
        let claimed = match direct {
            Some(value) => {
                let act = acts.iter().find(|act| *act.purpose == **value);
                Some(act.ok_or_else(|| refusal(value, &self.actor.role, cx.rules))?.purpose.clone())
            }
            None => by_tags(&cx.rules.purposes, acts, &tags).map(|act| act.purpose.clone()),
        };
        // FETCH and COMMIT say nothing, and mean what their transaction has begun.
        if claimed == self.purpose.comment || (claimed.is_none() && (self.transaction != b'I' || self.busy())) {
            return Ok(Claimed::Yes);
        }
        if self.busy() {
            if !self.open_pipeline {
                return Ok(Claimed::Later);
            }
            return Err(Refusal::new(
                Code::CatalogStale,
                "a statement for another purpose cannot follow in the same pipeline",
                "send Sync before it",
            ));
        }
        self.purpose.comment = claimed;
        self.act(cx);
        let asked = self.lens_moved(cx) && self.transaction != b'E' && self.put_path(cx);
        Ok(if asked || self.purpose.waiting { Claimed::Later } else { Claimed::Yes })
    }

    /// The server still works on something of this session.
    fn busy(&self) -> bool {
        !self.pending.is_empty() || self.open_pipeline
    }
}
