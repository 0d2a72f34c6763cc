//! What the breach detector's rules let go while rows are on their way: `action = "stop"` and `"throttle"`.
//!
//! In: rows that are about to be released, the windows that all sessions of the actor share. Out: how many of them may go
//! and why not more. Never: a row that no window has counted, where a rule says `stop`.

use std::sync::Arc;

use crate::clock::Now;
use crate::detect::{Batch, Limits, Passage, Rule, note};
use crate::error::{Code, Refusal, SqlState};
use crate::event::{Access, Subject};
use crate::plan::How;
use crate::policy::rules::{Rules, Treatment};
use crate::wire::frame;

use super::pending::Running;
use super::{Context, Effect, Session};

/// What the rules have against this session's rows.
#[derive(Debug, Default)]
pub(super) struct Guard {
    limits: Option<Limits>,
    /// The actor's windows, once they were asked for.
    passage: Option<Arc<Passage>>,
    /// The server's next row waits until then.
    until_ns: Option<u64>,
    /// The client does not want to wait for it.
    pub(super) cancelled: bool,
}

impl Guard {
    pub(super) fn new(rules: &Rules, role: &str) -> Self {
        Self { limits: Limits::of(&rules.detect, role), ..Self::default() }
    }

    /// Some rule stops this actor's statements.
    pub(super) fn stops(&self) -> bool {
        self.limits.is_some()
    }
}

/// Why no more rows may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Then {
    /// More may be asked for.
    Ask,
    /// The role's `max_rows`.
    Limit,
    /// A rule that stops.
    Stop(Rule),
    /// A rule that throttles; the next may go then.
    Wait(u64),
}

/// So many rows of what has come may go.
#[derive(Clone, Copy, Debug)]
pub(super) struct Allowed {
    pub rows: u64,
    pub then: Then,
    /// The windows hold them.
    counted: bool,
}

/// The messages of that kind that `bytes` begins with, or `most` of them.
fn messages(bytes: &[u8], tag: u8, most: u64) -> u64 {
    let (mut rest, mut count) = (bytes, 0);
    while count < most
        && let Ok(Some((found, size))) = frame::peek(rest, usize::MAX)
        && found == tag
        && let Some((_, after)) = rest.split_at_checked(size)
    {
        (rest, count) = (after, count + 1);
    }
    count
}

impl Session {
    /// The rules are others.
    pub(super) fn guard(&mut self, cx: &Context<'_>) {
        self.guard.limits = Limits::of(&cx.rules.detect, &self.actor.role);
    }

    /// Rows of what is protected may be held back: what writes and returns some is to be undone then.
    pub(super) fn limited(&self, cx: &Context<'_>) -> bool {
        self.guard.stops() || self.class(cx.rules).max_rows.is_some()
    }

    /// How many of the rows in `bytes`, messages of that kind, may be released beside those that have been; `None`: all
    /// there are.
    pub(super) fn allowed(
        &mut self,
        running: &mut Running,
        bytes: &[u8],
        tag: u8,
        cx: &Context<'_>,
    ) -> Option<Allowed> {
        let left = self.rows_left(running, cx);
        let limit = left.map(|rows| Allowed { rows, then: Then::Limit, counted: false });
        let throttled = cx.gate.throttles();
        if self.muted || !(throttled || self.guard.stops()) || !self.counts(running) {
            return limit;
        }
        let asked = messages(bytes, tag, left.unwrap_or(u64::MAX));
        let mut allowed = self.let_go(running, asked, throttled, cx);
        if allowed.then == Then::Ask && left == Some(asked) {
            allowed.then = Then::Limit;
        }
        Some(allowed)
    }

    /// One more row, of a message that has several; or why not.
    pub(super) fn one_more(&mut self, running: &mut Running, allowed: &mut Allowed, cx: &Context<'_>) -> bool {
        if allowed.then == Then::Ask {
            let more = self.let_go(running, 1, false, cx);
            (allowed.rows, allowed.then) = (allowed.rows + more.rows, more.then);
            return more.rows > 0;
        }
        // It goes with the message that it is in: what comes then waits the longer.
        matches!(allowed.then, Then::Wait(_))
    }

    fn let_go(&mut self, running: &mut Running, rows: u64, throttled: bool, cx: &Context<'_>) -> Allowed {
        let (limits, now) = (self.guard.limits.unwrap_or_default(), cx.clock.now());
        let passage = self.guard.passage.get_or_insert_with(|| cx.gate.passage(&self.actor.role, now)).clone();
        let mut batch = self.batch(running, rows, cx);
        if self.only_observed(running, cx.rules) {
            running.would_stop = running.would_stop.or(passage.count(batch, &limits, now));
            self.admitted(running, rows);
            return Allowed { rows, then: Then::Ask, counted: true };
        }
        if rows > 0 && batch.shown && !self.known_people_may(running, &passage, now) {
            return Allowed { rows: 0, then: Then::Stop(Rule::Subjects), counted: true };
        }
        let mut then = Then::Ask;
        if throttled {
            let paced = passage.pace(rows, now);
            batch.rows = paced.rows;
            then = paced.again_ns.map_or(Then::Ask, Then::Wait);
        }
        let granted = passage.rows(batch, &limits, now);
        self.admitted(running, granted.rows);
        Allowed { rows: granted.rows, then: granted.stopped.map_or(then, Then::Stop), counted: true }
    }

    /// What the windows have counted the log says, for they are made of it again.
    fn admitted(&self, running: &mut Running, rows: u64) {
        if self.guard.stops() {
            running.tally.admitted += rows;
        }
    }

    fn batch(&self, running: &Running, rows: u64, cx: &Context<'_>) -> Batch {
        let export = running.current().is_some_and(|step| step.access == Access::Export);
        Batch { rows, shown: self.shows(running, cx), export, before: self.released(running) }
    }

    /// Some value in its rows is shown, or nobody knows what they show: as the detector sees it.
    fn shows(&self, running: &Running, cx: &Context<'_>) -> bool {
        let Some(step) = running.current().filter(|step| !step.touches.is_empty() && !step.touches_unknown) else {
            return true;
        };
        let class = self.class(cx.rules);
        step.touches.iter().any(|touched| match touched.how {
            How::Masked => true,
            How::Read => touched.id == 0 || !matches!(class.treatment(touched.id), Treatment::Sealed | Treatment::Deny),
            How::Refused | How::Written | How::Searched => false,
        })
    }

    /// People that the statement itself names, before any row of it goes.
    fn known_people_may(&self, running: &mut Running, passage: &Passage, now: Now) -> bool {
        let Some(limits) = self.guard.limits.filter(Limits::people) else { return true };
        if std::mem::replace(&mut running.tally.asked, true) {
            return true;
        }
        let Some(kind) = running.tally.kind.clone() else { return true };
        let may = |pseudonym| passage.person(&Subject { kind: kind.clone(), pseudonym }, &limits, now);
        running.tally.people.iter().copied().all(may)
    }

    /// Whether that person's row may go; then the person counts.
    pub(super) fn person_may(&self, running: &Running, who: &Subject, cx: &Context<'_>) -> bool {
        let Some(limits) = self.guard.limits.filter(Limits::people) else { return true };
        let Some(passage) = &self.guard.passage else { return true };
        let counted = running.tally.asked && running.tally.people.contains(&who.pseudonym);
        counted
            || self.only_observed(running, cx.rules)
            || !self.shows(running, cx)
            || passage.person(who, &limits, cx.clock.now())
    }

    /// So many of the rows that might go have gone.
    pub(super) fn gone(&self, running: &mut Running, allowed: Allowed, rows: u64, cx: &Context<'_>) {
        let rows = allowed.rows.saturating_sub(rows);
        if let Some(passage) = self.guard.passage.as_ref().filter(|_| allowed.counted && rows > 0) {
            passage.give_back(rows, self.batch(running, rows, cx), cx.clock.now());
            running.tally.admitted = running.tally.admitted.saturating_sub(rows);
        }
    }

    /// The server's rows wait.
    pub(super) fn wait(&mut self, then: Then) -> bool {
        if let Then::Wait(until_ns) = then
            && !self.guard.cancelled
        {
            self.guard.until_ns = Some(until_ns);
        }
        self.guard.until_ns.is_some()
    }

    /// The client has asked for what runs to be cancelled, and so is the server. Rows that wait here would delay its word
    /// of that.
    pub fn cancelled(&mut self) {
        self.guard.cancelled = !self.pending.is_empty();
    }

    /// Whether they do; the pump is told until when.
    pub(super) fn waits(&mut self, cx: &mut Context<'_>) -> bool {
        let until = self.guard.until_ns.take();
        cx.effects.extend(until.map(|until_ns| Effect::Wait { until_ns }));
        until.is_some()
    }

    /// What the client is told when rows beyond what is allowed would go.
    pub(super) fn held_back(&self, running: &mut Running, then: Then, cx: &Context<'_>) -> Refusal {
        match then {
            Then::Stop(rule) => {
                running.note = Some(note(rule));
                self.stopped(rule)
            }
            Then::Wait(_) => {
                let message = "canceling statement due to user request, while the breach detector throttled its rows";
                Refusal::new(Code::Stopped, message, "").with_sqlstate(SqlState(*b"57014"))
            }
            Then::Ask | Then::Limit => self.row_limit(cx),
        }
    }

    /// The next row is beyond what may go.
    pub(super) fn hold_back(&mut self, running: &mut Running, then: Then, cx: &mut Context<'_>) {
        let refusal = self.held_back(running, then, cx);
        self.fail_running(running, refusal, cx);
    }

    /// What a statement that a rule has stopped, or would have, is told.
    pub(super) fn stopped(&self, rule: Rule) -> Refusal {
        let (most, window_s) = self.guard.limits.and_then(|limits| limits.of_rule(rule)).unwrap_or_default();
        let what = if rule == Rule::Subjects { "people" } else { "records" };
        Refusal::new(
            Code::Stopped,
            format!(
                "the breach detector's rule {} stopped this statement: this login has had the {most} {what} that it may \
                 have in {window_s} seconds",
                rule.as_str()
            ),
            format!(
                "Ask for less, or later; or have the rule's threshold or exempt changed in [detect.rules.{}].",
                rule.as_str()
            ),
        )
    }
}
