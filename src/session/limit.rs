//! `max_rows`: how many rows of what is protected one statement may release to the client; and what becomes of a
//! statement of which rows are held back, by it or by a rule of the detector ([`super::stop`]).
//!
//! In: what runs, and the role's limit. Out: how many rows may still go, or an error behind the last of them. Never: a
//! write that is kept although its client was told that it failed: where the server would commit by itself, the Sync of a
//! pipeline waits for the rows, and a simple Query runs between a BEGIN and a COMMIT of ours.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use crate::error::{Code, Refusal};
use crate::event::Access;
use crate::plan::{Plan, Step, StepKind};
use crate::policy::rules::Rules;
use crate::wire::message::tag_rows;
use crate::wire::{encode, frame};

use super::pending::{Own, Pending, Running};
use super::{Context, Session, redact};

/// A cursor that SQL has declared.
#[derive(Clone, Copy, Debug)]
pub(super) struct Declared {
    /// It outlasts its transaction.
    pub hold: bool,
    /// Its rows count.
    counted: bool,
    /// By all FETCHes.
    released: u64,
}

impl Running {
    /// Its last step has come to its end, and only the COMMIT behind it makes that true.
    pub(super) fn ends_wrapped(&self) -> bool {
        let last = self.plan.as_ref().is_some_and(|plan| self.step + 1 == plan.steps.len());
        self.wrapped && self.failed.is_none() && last
    }

    /// The cursor that it fetches from.
    fn fetches(&self) -> Option<&Arc<str>> {
        let step = self.current().filter(|step| step.runs_handle)?;
        step.cursor.as_ref().map(|cursor| &cursor.name)
    }
}

impl Session {
    /// How many rows of what runs may still be released; `None`: all there are.
    pub(super) fn rows_left(&self, running: &Running, cx: &Context<'_>) -> Option<u64> {
        let max = self.class(cx.rules).max_rows?;
        if !self.counts(running) || self.only_observed(running, cx.rules) {
            return None;
        }
        Some(max.saturating_sub(self.released(running)))
    }

    /// What has been released of it, by its portal or cursor too.
    pub(super) fn released(&self, running: &Running) -> u64 {
        let of_statement =
            running.formats.as_ref().map_or(running.tally.released, |portal| portal.released.load(Relaxed));
        let of_cursor = running.fetches().and_then(|name| self.cursors.get(name)).map_or(0, |cursor| cursor.released);
        // COPY counts its rows where it opens them.
        of_statement.max(of_cursor).max(running.tally.rows)
    }

    /// Under `mode = "observe"` only rows with a sealed column are held back.
    pub(super) fn only_observed(&self, running: &Running, rules: &Rules) -> bool {
        let named = || running.current().is_some_and(|step| step.touches.iter().any(|touched| touched.id != 0));
        let shown = || running.fields.as_ref().is_some_and(|fields| fields.any);
        self.observed(rules).is_some() && !shown() && !named()
    }

    /// That many rows have been released, and enforcing would have refused some of them.
    pub(super) fn would_limit(&self, running: &Running, rows: u64, cx: &Context<'_>) -> Option<Refusal> {
        if let Some(rule) = running.would_stop {
            return Some(self.stopped(rule));
        }
        let max = self.class(cx.rules).max_rows?;
        let returns = running.current().is_some_and(|s| !s.writes && !matches!(s.kind, StepKind::Declare));
        let crosses = max < rows && returns && self.counts(running) && self.only_observed(running, cx.rules);
        crosses.then(|| self.row_limit(cx))
    }

    pub(super) fn counts(&self, running: &Running) -> bool {
        let shown = running.fields.as_ref().is_some_and(|fields| fields.protected);
        let Some(step) = running.current().filter(|_| !shown) else { return true };
        if let Some(name) = running.fetches() {
            return self.cursors.get(name).is_none_or(|cursor| cursor.counted);
        }
        step.counted && self.executed(step, |step| step.counted)
    }

    /// Whether that holds for a step of the prepared statement that SQL runs; of one that nobody knows, and of a step that
    /// runs none, it does.
    fn executed(&self, step: &Step, holds: impl Fn(&Step) -> bool) -> bool {
        let plan = step.executes.as_ref().and_then(|executed| self.prepared_plan(executed.name.as_bytes()));
        plan.is_none_or(|plan| plan.steps.iter().any(holds))
    }

    /// So many more have been.
    pub(super) fn rows_released(&mut self, running: &mut Running, rows: u64) {
        running.tally.released += rows;
        if let Some(portal) = &running.formats {
            portal.released.fetch_add(rows, Relaxed);
        }
        if let Some(cursor) = running.fetches().and_then(|name| self.cursors.get_mut(name)) {
            cursor.released += rows;
        }
    }

    /// A cursor was declared or closed, or code ran that may have done so.
    pub(super) fn note_cursor(&mut self, step: Option<&Step>, tag: &[u8], cx: &Context<'_>) {
        let Some(step) = step.filter(|_| self.limited(cx)) else { return };
        if matches!(tag, b"CLOSE CURSOR ALL\0" | b"DISCARD ALL\0") {
            self.cursors.clear();
        }
        if step.touches_unknown || step.executes.is_some() {
            self.cursors.retain(|_, cursor| cursor.counted);
        }
        let Some(cursor) = step.cursor.as_ref().filter(|_| !step.runs_handle) else { return };
        self.cursors.remove(&cursor.name);
        if step.kind == StepKind::Declare && self.cursors.len() < self.settings.portals {
            let declared = Declared { hold: cursor.hold, counted: step.counted, released: 0 };
            self.cursors.insert(cursor.name.clone(), declared);
        }
    }

    pub(super) fn row_limit(&self, cx: &Context<'_>) -> Refusal {
        let max = self.class(cx.rules).max_rows.unwrap_or_default();
        Refusal::new(
            Code::RowLimit,
            format!("the statement would release more than {max} rows, which is this role's max_rows"),
            "Add LIMIT, or ask for a higher max_rows in the policy's [roles].",
        )
    }

    /// The Sync behind what may cross the limit waits for its rows, if the pipeline may have written.
    pub(super) fn counted_in_pipeline(&mut self, running: &Running, cx: &Context<'_>) {
        if !self.limited(cx) {
            return;
        }
        let steps = || running.plan.iter().flat_map(|plan| &plan.steps);
        self.pipeline_opens |= running.plan.is_none() || steps().any(|step| step.counted);
        self.pipeline_writes |= steps().any(|step| self.may_write(step));
    }

    fn may_write(&self, step: &Step) -> bool {
        let writes = |step: &Step| step.writes || step.touches_unknown;
        writes(step) || (step.executes.is_some() && self.executed(step, writes))
    }

    /// Whether a simple Query must run between BEGIN and COMMIT, so that what it writes can be undone when its rows cross
    /// the limit. `None`: that is known once what runs has ended.
    pub(super) fn wraps(&self, plan: &Plan, cx: &Context<'_>) -> Result<Option<bool>, Refusal> {
        let returns = |step: &Step| {
            let rows = step.access != Access::Other && matches!(step.kind, StepKind::Ordinary | StepKind::CopyOut(_));
            rows && step.counted && step.fields.as_ref().is_none_or(|fields| !fields.is_empty())
        };
        let sealed = |s: &Step| s.touches_unknown || s.touches.iter().any(|touched| touched.id != 0);
        let observed = self.observed(cx.rules).is_some() && !plan.steps.iter().any(sealed);
        let limited = self.limited(cx) && !observed;
        if !limited || !plan.steps.iter().any(returns) || !plan.steps.iter().any(|step| self.may_write(step)) {
            return Ok(Some(false));
        }
        let alone = |step: &Step| matches!(step.kind, StepKind::Transaction { .. } | StepKind::CopyIn(_));
        if plan.steps.iter().any(alone) || self.open_pipeline {
            return Err(Refusal::new(
                Code::RowLimit,
                "this role's rows are limited, and what this text writes could not be undone when its rows are too many",
                "Send BEGIN, COMMIT, COPY FROM and the statements between them one by one.",
            ));
        }
        if !self.pending.is_empty() {
            return Ok(None);
        }
        Ok(Some(self.transaction == b'I'))
    }

    /// What the client sends next waits until [`Session::wrapped_ended`].
    pub(super) fn begin_wrapped(&mut self, wrapped: bool, cx: &mut Context<'_>) {
        if wrapped {
            self.pending.push_back(Pending::Own(Own::Begin));
            self.probing = true;
            encode::query(cx.to_server, "begin");
        }
    }

    /// The server is ready, inside the transaction that we began.
    pub(super) fn end_wrapped(&mut self, status: u8, cx: &mut Context<'_>) {
        let Some((running, _)) = self.take_running() else { return };
        let poisoned = self.poisoned.take().is_some();
        self.copy.ended();
        (self.pipeline_writes, self.pipeline_opens) = (false, false);
        self.wrapped = Some(running);
        self.pending.push_front(Pending::Own(Own::End));
        encode::query(cx.to_server, if status == b'T' && !poisoned { "commit" } else { "rollback" });
    }

    /// Our COMMIT or ROLLBACK was answered: only now the client learns how its last statement ended.
    pub(super) fn wrapped_ended(&mut self, message: &[u8], body: &[u8], cx: &mut Context<'_>) {
        let Some(mut running) = self.wrapped.take() else { return };
        let Some(complete) = running.withheld.take() else { return };
        let (mut sqlstate, mut rows) = (None, 0);
        if message[0] == b'C' {
            rows = complete.get(frame::HEADER..).map_or(0, tag_rows);
            cx.to_client.extend_from_slice(&complete);
        } else {
            sqlstate = Some(redact::sqlstate(body));
            self.server_error(message, body, cx);
        }
        self.step_ended(&mut running, sqlstate, rows, cx);
    }

    /// The connection ends before that.
    pub(super) fn record_wrapped(&mut self, sqlstate: [u8; 5], cx: &mut Context<'_>) {
        if let Some(mut running) = self.wrapped.take().filter(|running| running.withheld.is_some()) {
            self.step_ended(&mut running, Some(sqlstate), 0, cx);
        }
    }
}
