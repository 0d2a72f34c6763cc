//! What a statement did, counted while it runs, and the events made of it.
//!
//! In: plans and what rows showed. Out: [`Effect`]s. Never: a value: subjects are keyed pseudonyms.

use std::collections::HashSet;
use std::sync::Arc;

use crate::error::{Refusal, SqlState};
use crate::event::{Access, Action, Event, EventKind, Part, Pseudonym, Shown, Subject, Subjects, Touch, Would};
use crate::metrics::{Outcome, RowTreatment};
use crate::plan::{How, Plan, Refused, Shape, Step, StepKind, Touched};
use crate::policy::rules::{ActorClass, Treatment};

use super::canary::Canaried;
use super::fields::{Cell, Fields, RowShown};
use super::pending::{Pending, Running};
use super::walk::Key;
use super::{Context, Effect, Session, Side};

/// Counts of one step.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Rows with a protected column released, or written.
    pub rows: u64,
    pub clear: u64,
    pub masked: u64,
    pub sealed: u64,
    /// Distinct people, bounded.
    pub people: HashSet<Pseudonym, foldhash::fast::RandomState>,
    pub kind: Option<Arc<str>>,
    pub more_people: u64,
    pub unknown_rows: u64,
    /// Rows counted against the role's `max_rows`.
    pub released: u64,
    /// Rows that the detector's windows have counted.
    pub admitted: u64,
    /// The people that the statement names have been.
    pub asked: bool,
    /// The intent has been recorded.
    pub intent: bool,
    /// The last pseudonym, so that runs of one person are hashed once.
    pub last_key: Vec<u8>,
    /// Canaries among them.
    pub canaries: Canaried,
    /// The one integer that all named people's keys are.
    pub key: Key,
}

impl Tally {
    pub(super) fn row(&mut self, shown: RowShown) {
        self.rows += 1;
        if shown.clear {
            self.clear += 1;
        } else if shown.masked {
            self.masked += 1;
        } else if shown.sealed {
            self.sealed += 1;
        }
    }

    pub(super) fn person(&mut self, subject: Subject) {
        if self.people.contains(&subject.pseudonym) {
            return;
        }
        if self.people.len() >= Subjects::MAX {
            self.more_people += 1;
            return;
        }
        self.kind = Some(subject.kind);
        self.people.insert(subject.pseudonym);
    }

    fn subjects(&mut self) -> Subjects {
        let mut known = Vec::with_capacity(self.people.len());
        if let Some(kind) = &self.kind {
            known.extend(self.people.drain().map(|pseudonym| Subject { kind: kind.clone(), pseudonym }));
        }
        known.sort();
        Subjects { known, unknown_rows: self.unknown_rows, more: self.more_people }
    }
}

/// Touches as the class sees them.
fn touches(touched: &[Touched], class: &ActorClass, refused: bool) -> Vec<Touch> {
    let shown = |t: &Touched| match t.how {
        _ if refused => Shown::Refused,
        How::Refused => Shown::Refused,
        How::Written => Shown::Written,
        How::Searched => Shown::Searched,
        How::Masked => Shown::Masked,
        How::Read if t.id == 0 => Shown::Clear,
        How::Read => match class.treatment(t.id) {
            Treatment::Clear => Shown::Clear,
            Treatment::Sealed => Shown::Sealed,
            Treatment::Deny => Shown::Refused,
            Treatment::Mask | Treatment::Null => Shown::Masked,
        },
    };
    touched.iter().map(|t| Touch { relation: t.relation.clone(), column: t.column.clone(), shown: shown(t) }).collect()
}

/// The policy lets it make a table of what some role may not see.
fn copied(step: &Step) -> Option<String> {
    let column = step.shows.as_ref().filter(|_| matches!(step.kind, StepKind::Ddl { .. }))?;
    Some(format!("made an unprotected copy of {column}"))
}

/// What every run of the step is recorded as.
fn action(step: &Step, class: &ActorClass, observed: bool) -> Action {
    Action {
        fingerprint: Some(step.shape.fingerprint.clone()),
        text: Some(step.shape.text.clone()),
        access: step.access,
        touches: touches(&step.touches, class, false),
        touches_unknown: step.touches_unknown,
        observed,
        would: step.would.clone().filter(|_| observed),
    }
}

/// The same, of a run that ended in an error, or brought a notice, which would have been redacted.
fn redacted(action: &Action) -> Action {
    let would = Would { redacted: true, ..action.would.as_deref().cloned().unwrap_or_default() };
    Action { observed: true, would: Some(Arc::new(would)), ..action.clone() }
}

/// The same, of a run that released more rows than it would have.
fn limited_to(action: &Action, refusal: &Refusal) -> Action {
    let refused = || Would::refused(refusal.code.as_str(), &refusal.hint);
    let would = action.would.as_deref().cloned().unwrap_or_else(refused);
    Action { would: Some(Arc::new(would)), ..action.clone() }
}

/// Touches of a result whose statement names no column (FETCH, EXECUTE).
fn touches_of_fields(fields: &Fields, class: &ActorClass) -> Vec<Touch> {
    let mut found = Vec::new();
    for cell in &fields.cells {
        if let Cell::Open { column: Some(c), .. } = cell {
            let touched = Touched { relation: c.relation.clone(), column: c.column.clone(), id: c.id, how: How::Read };
            for touch in touches(&[touched], class, false) {
                if !found.contains(&touch) {
                    found.push(touch);
                }
            }
        }
    }
    found
}

/// What the statement's comment says of itself.
fn attribute(event: &mut Event, running: &Running) {
    event.trace = running.trace;
    if let Some(actor) = &running.actor {
        event.actor = Some(actor.clone());
    }
}

impl Session {
    fn step_event(
        &self,
        kind: EventKind,
        step: Option<&Step>,
        fields: Option<&Fields>,
        number: u64,
        cx: &Context<'_>,
    ) -> Event {
        let mut event = self.event(kind, cx);
        event.statement = number;
        let class = self.class(cx.rules);
        event.action = step.map(|step| {
            let made = || Part::from(action(step, class, self.observed(cx.rules).is_some()));
            match step.action.get_or_init(|| (cx.rules.version, made())) {
                (version, kept) if *version == cx.rules.version => kept.clone(),
                _ => made(),
            }
        });
        if event.action().touches.is_empty()
            && let Some(fields) = fields
            && fields.any
        {
            let mut action = event.action().clone();
            action.touches = touches_of_fields(fields, class);
            if !action.touches.is_empty() && action.access == Access::Other {
                action.access = Access::Read;
            }
            event.action = Some(action.into());
        }
        event
    }

    /// About a step of what is running, and its result.
    fn running_event(&self, kind: EventKind, running: &Running, step: Option<&Step>, cx: &Context<'_>) -> Event {
        let mut event = self.step_event(kind, step, running.fields.as_deref(), running.number, cx);
        attribute(&mut event, running);
        event
    }

    /// An intent in front of what is appended to `side` from here on.
    pub(super) fn intend(&self, running: &mut Running, side: Side, cx: &mut Context<'_>) {
        if running.has_intent() || !self.settings.intent {
            return;
        }
        running.tally.intent = true;
        let event = self.running_event(EventKind::Intent, running, running.current(), cx);
        let from = match side {
            Side::Client => cx.to_client.len(),
            Side::Server => cx.to_server.len(),
        };
        cx.effects.push(Effect::Intent { event: Box::new(event), side, from });
    }

    /// A step ended. `rows` is what the command tag says.
    pub(super) fn step_ended(
        &mut self,
        running: &mut Running,
        sqlstate: Option<[u8; 5]>,
        rows: u64,
        cx: &mut Context<'_>,
    ) {
        let step = running.plan.as_ref().and_then(|p| p.steps.get(running.step));
        let fields = running.fields.as_deref();
        let touches_protected = step.is_some_and(|s| !s.touches.is_empty()) || fields.is_some_and(|f| f.any);
        let access = step.map_or(Access::Other, |s| s.access);
        let outcome = if sqlstate.is_some() { Outcome::Error } else { Outcome::Ok };
        cx.meters.statement(access, outcome);
        let rows = if step.is_some_and(|s| s.kind == StepKind::Report) { 0 } else { rows };
        let denied = sqlstate.is_some_and(|s| s.starts_with(b"28") || s == *b"42501");
        // What the windows have counted the log says, for they are made of it again.
        let admitted = running.tally.admitted;
        let noted = running.failed.is_some()
            || admitted > 0
            || step.is_some_and(|s| s.touches_unknown || matches!(s.kind, StepKind::Ddl { .. }));
        let limited = self.would_limit(running, rows, cx);
        let would = step.is_some_and(|s| s.would.is_some() && self.observed(cx.rules).is_some()) || running.redacts;
        let would = would || limited.is_some();
        let canaries = running.tally.canaries.rows(running.tally.rows.max(rows));
        if touches_protected || denied || noted || would || canaries > 0 || self.settings.log_all {
            let mut event = self.running_event(EventKind::Statement, running, step, cx);
            if running.redacts {
                event.action = Some(redacted(event.action()).into());
            }
            if let Some(refusal) = limited {
                event.action = Some(limited_to(event.action(), &refusal).into());
            }
            let tally = &mut running.tally;
            let returned = tally.rows > 0;
            event.rows = if running.failed.is_some() || admitted > 0 {
                tally.rows.max(tally.released).max(admitted)
            } else if returned {
                tally.rows
            } else if touches_protected {
                rows
            } else {
                0
            };
            if touches_protected && tally.people.is_empty() && tally.unknown_rows == 0 {
                tally.unknown_rows = event.rows;
            }
            event.subjects = tally.subjects();
            event.canaries = canaries;
            let walk = self.walks.step(event.action(), event.rows, tally.key);
            event.walk = walk;
            event.sqlstate = sqlstate.map(|s| SqlState(s).as_str().to_owned());
            event.code = running.failed.as_ref().map(|refusal| refusal.code.as_str().to_owned());
            event.duration_us = cx.clock.now().since_us(running.started);
            event.note = running.note.take().or_else(|| step.and_then(copied).filter(|_| sqlstate.is_none()));
            let written =
                step.is_some_and(|s| s.writes) && event.action().touches.iter().any(|t| t.shown == Shown::Written);
            cx.meters.rows(RowTreatment::Opened, tally.clear);
            cx.meters.rows(RowTreatment::Masked, tally.masked);
            cx.meters.rows(RowTreatment::Sealed, tally.sealed);
            if written && sqlstate.is_none() {
                cx.meters.rows(RowTreatment::Written, rows);
            }
            cx.effects.push(Effect::Event(Box::new(event)));
        }
        if let (Some(sqlstate), Some(later)) = (sqlstate, running.intended.filter(|later| *later > running.step)) {
            self.not_run(running, later, sqlstate, cx);
        }
        running.step += 1;
        running.redacts = false;
        running.would_stop = None;
        running.fields = None;
        running.tally = Tally::default();
    }

    /// A step whose intent is recorded will not run: one before it has failed.
    fn not_run(&self, running: &Running, step: usize, sqlstate: [u8; 5], cx: &mut Context<'_>) {
        let step = running.plan.as_ref().and_then(|plan| plan.steps.get(step));
        let mut event = self.step_event(EventKind::Statement, step, None, running.number, cx);
        attribute(&mut event, running);
        event.sqlstate = Some(SqlState(sqlstate).as_str().to_owned());
        event.duration_us = cx.clock.now().since_us(running.started);
        cx.effects.push(Effect::Event(Box::new(event)));
    }

    /// The server skips these, or nobody will tell how they end: those whose intent is recorded have an outcome.
    pub(super) fn record_unfinished(&mut self, pending: &mut Pending, sqlstate: [u8; 5], cx: &mut Context<'_>) {
        if let Pending::Query(running) | Pending::Execute(running) = pending
            && (running.owes_outcome() || running.tally.rows > 0)
        {
            self.step_ended(running, Some(sqlstate), 0, cx);
        }
    }

    /// A statement was refused.
    pub(super) fn refused(&mut self, refused: &Refused, running: Option<&Running>, cx: &mut Context<'_>) {
        let mut event = self.event(EventKind::Refused, cx);
        let action = Action {
            fingerprint: Some(refused.shape.fingerprint.clone()),
            text: Some(refused.shape.text.clone()),
            touches: touches(&refused.touches, self.class(cx.rules), true),
            observed: self.observed(cx.rules).is_some(),
            ..Action::none()
        };
        event.action = Some(action.into());
        event.sqlstate = Some(refused.refusal.sqlstate.as_str().to_owned());
        event.code = Some(refused.refusal.code.as_str().to_owned());
        event.trace = refused.trace;
        if let Some(running) = running {
            event.statement = running.number;
            event.duration_us = cx.clock.now().since_us(running.started);
        }
        cx.meters.refusal(refused.refusal.code);
        cx.meters.statement(Access::Other, Outcome::Refused);
        cx.effects.push(Effect::Event(Box::new(event)));
    }

    /// What waited for its intent is not done, because the access log could not be written. Counted as one refusal, by who ends
    /// the session.
    pub(super) fn denied(&mut self, refusal: &Refusal, cx: &mut Context<'_>) {
        let told = cx.effects.len();
        let mut pending = std::mem::take(&mut self.pending);
        for pending in &mut pending {
            let (Pending::Query(running) | Pending::Execute(running)) = pending else { continue };
            if !running.owes_outcome() {
                continue;
            }
            let mut event = self.step_event(EventKind::Refused, running.current(), None, running.number, cx);
            event.sqlstate = Some(refusal.sqlstate.as_str().to_owned());
            event.code = Some(refusal.code.as_str().to_owned());
            event.duration_us = cx.clock.now().since_us(running.started);
            cx.effects.push(Effect::Event(Box::new(event)));
            // This is its outcome.
            (running.tally.intent, running.intended) = (false, None);
        }
        self.pending = pending;
        if cx.effects.len() == told {
            // The server has answered, and the statement has its outcome; the answer is held, and goes nowhere.
            let mut event = self.event(EventKind::Refused, cx);
            event.sqlstate = Some(refusal.sqlstate.as_str().to_owned());
            event.code = Some(refusal.code.as_str().to_owned());
            event.note = Some("the answer before this was withheld".to_owned());
            cx.effects.push(Effect::Event(Box::new(event)));
        }
    }

    /// A cell did not open.
    pub(super) fn tampered(&mut self, running: &Running, refusal: Option<&Refusal>, cx: &mut Context<'_>) {
        cx.meters.open_error();
        let mut event = self.running_event(EventKind::Tamper, running, running.current(), cx);
        if let Some(refusal) = refusal {
            event.sqlstate = Some(refusal.sqlstate.as_str().to_owned());
            event.code = Some(refusal.code.as_str().to_owned());
        }
        cx.effects.push(Effect::Event(Box::new(event)));
    }

    /// What was still running, and the logout.
    pub(super) fn record_end(&mut self, cx: &mut Context<'_>) {
        self.record_wrapped(*b"08006", cx);
        for mut pending in std::mem::take(&mut self.pending) {
            self.record_unfinished(&mut pending, *b"08006", cx);
        }
        if self.authenticated() {
            let event = self.event(EventKind::Logout, cx);
            cx.effects.push(Effect::Event(Box::new(event)));
        }
    }
}

/// What is known of a statement whose refusal was made here and not by the planner.
pub(super) fn refused_step(plan: Option<&Plan>, refusal: Refusal) -> Box<Refused> {
    let step = plan.and_then(|p| p.steps.first());
    let shape = step.map_or_else(
        || Arc::new(Shape { fingerprint: Arc::from("0000000000000000"), text: Arc::from("(unreadable)") }),
        |s| s.shape.clone(),
    );
    let touches = step.map_or_else(|| Arc::from([]), |s| s.touches.clone());
    Box::new(Refused::new(refusal, touches, shape))
}
