//! The client's frames once it is logged in.
//!
//! In: one frame. Out: the frame, its rewritten form, or something that must fail in its place. Never: an undecided
//! statement on its way.

use std::sync::Arc;

use bytes::{BufMut, BytesMut};

use crate::error::{Code, Refusal};
use crate::plan::{Decision, Moves, Plan, Refused, Request, Step, StepKind};
use crate::policy::rules::{Copies, Rules};
use crate::sql::comment;
use crate::sql::kind::Executed;
use crate::wire::{encode, frame, message};

use super::bind::subjects_of_literals;
use super::pending::{Failing, Pending, Running};
use super::purpose::Claimed;
use super::record::refused_step;
use super::write::{Sealer, envelope_inbound, sql_carries_envelope};
use super::{Close, Context, Effect, Flow, Phase, Session, Side};

/// It must fail, with 42703, and no value stands in it. Its grammar is right, so that the server gets as far as with any
/// statement: where the transaction has failed, perhaps only in this pipeline, it says so instead.
const FAILING_SQL: &str = "select \"refused by pgveil\"";

/// What the planner said, with a refusal of ours possible.
pub(super) enum Decided {
    Go { plan: Arc<Plan>, protected: bool },
    Refuse(Box<Refused>),
    Wait,
}

impl Session {
    pub(super) fn client_frame(&mut self, message: &[u8], cx: &mut Context<'_>) -> Result<Flow, Close> {
        match self.phase {
            Phase::Login => return self.login_client(message, cx).map(|()| Flow::Next),
            Phase::Starting | Phase::Console => return Ok(Flow::Hold),
            Phase::Ready | Phase::Transparent => {}
        }
        let body = &message[frame::HEADER..];
        if self.moving.settings && b"QPBDECF".contains(&message[0]) && !self.copy.inbound() && self.will_be_ready() {
            return Ok(Flow::Hold);
        }
        match message[0] {
            b'S' | b'H' if self.copy.inbound() => self.forward(message, cx),
            b'Q' | b'P' | b'B' | b'D' | b'E' | b'C' | b'F' if self.copy.inbound() => {
                // As the server does: it no longer knows where messages begin.
                let unexpected = Refusal::new(Code::Protocol, "unexpected message type during COPY from stdin", "");
                encode::error(cx.to_client, "ERROR", &unexpected);
                let lost = "terminating connection because protocol synchronization was lost";
                let lost = Refusal::new(Code::Protocol, lost, "");
                return Err(self.fatal(&lost, "the client sent an unexpected message during COPY", cx));
            }
            b'S' => self.sync(message, cx),
            // The server would skip it, and nobody has looked for what is to be sealed in it.
            b'Q' | b'P' | b'B' | b'D' | b'E' | b'C' | b'F' | b'H' if self.skipping => {}
            b'Q' => return self.query(body, cx),
            b'P' => return self.parse(body, cx),
            b'B' => return self.bind(body, cx),
            b'D' => return Ok(self.describe(message, body, cx)),
            b'E' => return Ok(self.execute(message, body, cx)),
            b'C' => self.close(message, body, cx),
            b'F' => self.call(message, cx),
            b'H' => self.flush(message, cx),
            b'd' | b'c' | b'f' if self.copy_awaited() => return Ok(Flow::Hold),
            b'd' => self.copy_data(body, cx),
            b'c' | b'f' => self.copy_end(message, cx),
            b'X' => {
                self.forward(message, cx);
                return Err(Close { reason: "the client said goodbye" });
            }
            // Tags the server will refuse.
            _ => self.forward(message, cx),
        }
        Ok(Flow::Next)
    }

    /// The server says ReadyForQuery without another message of the client.
    fn will_be_ready(&self) -> bool {
        self.pending.iter().any(|p| matches!(p, Pending::Sync | Pending::Query(_) | Pending::Call { .. }))
    }

    pub(super) fn forward(&mut self, message: &[u8], cx: &mut Context<'_>) {
        cx.to_server.extend_from_slice(message);
    }

    /// A message whose body is not what its tag promises: the server refuses an empty one in the same words.
    pub(super) fn forward_malformed(&mut self, tag: u8, pending: Pending, cx: &mut Context<'_>) {
        self.pending.push_back(pending);
        if !matches!(tag, b'Q' | b'F') {
            (self.open_pipeline, self.skipping) = (true, true);
        }
        cx.to_server.put_slice(&[tag, 0, 0, 0, 4]);
    }

    /// Text that is not UTF-8: the server refuses a byte that never is, in the same words.
    fn forward_not_utf8(&mut self, tag: u8, pending: Pending, cx: &mut Context<'_>) {
        self.pending.push_back(pending);
        if tag == b'Q' {
            cx.to_server.put_slice(&[b'Q', 0, 0, 0, 6, 0xff, 0]);
        } else {
            (self.open_pipeline, self.skipping) = (true, true);
            cx.to_server.put_slice(&[b'P', 0, 0, 0, 9, 0, 0xff, 0, 0, 0]);
        }
    }

    /// A question to the planner as this session stands.
    pub(super) fn request<'a>(
        &'a self,
        sql: &'a str,
        oids: &'a [u32],
        extended: bool,
        rules: &'a Rules,
    ) -> Request<'a> {
        Request {
            sql,
            parameter_oids: oids,
            extended,
            class: self.class,
            role: &self.actor.role,
            keys: if self.settings.subject_keys { self.readable_keys(rules) } else { 0 },
            search_path: &self.search_path,
            temporary: &self.temporary,
            rules,
        }
    }

    /// Asks the planner, for the purpose that the statement claims.
    pub(super) fn decide(&mut self, sql: &str, oids: &[u32], extended: bool, cx: &mut Context<'_>) -> Decided {
        match self.claim_by_comment(sql, cx) {
            Ok(Claimed::Yes) => {}
            Ok(Claimed::Later) => return Decided::Wait,
            Err(refusal) => return Decided::Refuse(refused_step(None, refusal)),
        }
        let request = self.request(sql, oids, extended, cx.rules);
        let (decision, found) = cx.plans.look_up(&request);
        cx.meters.plan(found);
        if !found {
            cx.meters.plan_entries(cx.plans.len());
        }
        if self.stale && !self.retry && matches!(decision, Decision::Act(_) | Decision::Refuse(_)) {
            return self.look_up(cx);
        }
        let (plan, protected) = match decision {
            Decision::Pass(plan) => (plan, false),
            Decision::Act(plan) => (plan, true),
            Decision::Refuse(refused) => return Decided::Refuse(Box::new(refused)),
            Decision::Unknown(_) if !self.retry && self.ddl.is_none() => return self.look_up(cx),
            Decision::Unknown(plan) if self.class(cx.rules).restricted() => {
                return Decided::Refuse(refused_step(Some(&plan), crate::plan::unknown_relation()));
            }
            Decision::Unknown(plan) => {
                let protected = plan.steps.iter().any(|s| !s.touches.is_empty());
                (plan, protected)
            }
        };
        if let Some(refusal) = self.objection(sql, &plan, protected, cx) {
            return Decided::Refuse(refused_step(Some(&plan), refusal));
        }
        let counts = protected || plan.steps.iter().any(|step| step.touches_unknown);
        if let Some(refusal) = self.person_objection(sql, counts, cx) {
            return Decided::Refuse(refused_step(Some(&plan), refusal));
        }
        let plan = self.noted(sql, plan, (extended, protected), cx);
        Decided::Go { plan, protected }
    }

    /// The frame stays in the input until the catalog has been read again.
    fn look_up(&mut self, cx: &mut Context<'_>) -> Decided {
        self.waiting = true;
        cx.effects.push(Effect::RefreshCatalog);
        Decided::Wait
    }

    /// What the session itself has against a plan.
    fn objection(&self, sql: &str, plan: &Plan, protected: bool, cx: &Context<'_>) -> Option<Refusal> {
        let styled = |s: &Step| crate::plan::styled(cx.rules, s);
        // A cast may print or read a date for a column of another type.
        let restyled = self.uncertain(plan, self.moving.style, self.in_block.style);
        if restyled && (plan.casts() || plan.steps.iter().any(styled)) {
            return Some(Refusal::new(
                Code::CatalogStale,
                "the form of values may change before this statement",
                "send it once the change has been answered",
            ));
        }
        let mut executed = plan.steps.iter().filter_map(|s| s.executes.as_ref());
        if let Some(refusal) = executed.find_map(|it| self.execute_objection(it)) {
            return Some(refusal);
        }
        let named = self.names_objection(sql, plan, protected, cx.rules);
        let enforced = |_: &Refusal| !cx.rules.observing() || mentions(sql, cx.rules.guarded_names());
        if let Some(refusal) = named.filter(enforced) {
            return Some(refusal);
        }
        let defines = |s: &Step| matches!(s.kind, StepKind::Ddl { .. } | StepKind::Transaction { .. });
        if !self.fresh.is_empty() && !plan.steps.iter().all(defines) && mentions(sql, &self.fresh) {
            return Some(Refusal::new(
                Code::CatalogStale,
                "a table with sealed columns was made in this transaction, and its columns are not known yet",
                "commit first",
            ));
        }
        if let Some(refusal) = plan.steps.iter().find_map(|s| match &s.kind {
            StepKind::Prepare { name, .. } => self.name_objection(name.as_bytes()),
            _ => None,
        }) {
            return Some(refusal);
        }
        let settings = plan.steps.iter().any(|s| s.moves.settings);
        if let Some(refusal) = settings.then(|| super::settings::pinned(sql)).flatten() {
            return Some(refusal);
        }
        sql_carries_envelope(cx.keyring, sql).then(envelope_inbound)
    }

    /// What the session has against a plan that names protected relations: what the names mean, or will, and what they are
    /// read for.
    pub(super) fn names_objection(&self, sql: &str, plan: &Plan, protected: bool, rules: &Rules) -> Option<Refusal> {
        if self.uncertain(plan, self.moving.names, self.in_block.names) && (protected || mentions(sql, &rules.names)) {
            return Some(Refusal::new(
                Code::CatalogStale,
                "the search path may change before this statement, so names of protected tables are not certain",
                "send it once the change has been answered",
            ));
        }
        if protected && self.ddl.is_some_and(|ddl| ddl.protected) {
            return Some(Refusal::new(
                Code::CatalogStale,
                "a protected table changed in this transaction",
                "commit the change first",
            ));
        }
        let hides = |s: &Step| match &s.kind {
            StepKind::Ddl { temporary: Some(name), .. } => rules.names.contains(&name.to_lowercase()),
            _ => false,
        };
        if plan.steps.iter().any(hides) {
            let message = "a temporary table may not hide a protected one";
            return Some(Refusal::new(Code::ReservedName, message, "give it another name"));
        }
        // What nobody can see into may reach something protected.
        let unseen = self.observed(rules).is_none() && plan.steps.iter().any(|step| step.touches_unknown);
        let claim = (protected || unseen).then(|| self.false_claim(rules)).flatten();
        claim.or_else(|| plan.steps.iter().find_map(|step| self.copies_by_execute(step, rules)))
    }

    /// A change is under way in the same pipeline, or taken back by an end of the transaction in the same text.
    fn uncertain(&self, plan: &Plan, moving: bool, in_block: bool) -> bool {
        let restores = |s: &Step| matches!(s.kind, StepKind::Transaction { restores: true, .. });
        let restored = plan.steps.len() > 1 && plan.steps.iter().any(restores);
        (moving && self.open_pipeline) || (restored && in_block)
    }

    /// What may mean something else once these steps have run. Without a plan it is a portal that SQL made.
    pub(super) fn note_moving(&mut self, plan: Option<&Plan>) {
        let Some(plan) = plan else {
            self.moving |= self.handles;
            return;
        };
        for step in &plan.steps {
            self.moving |= self.moved_by(step);
            match step.kind {
                StepKind::Transaction { restores, .. } => {
                    if restores {
                        self.moving |= self.in_block;
                    }
                    self.block_changes = true;
                }
                StepKind::Prepare { .. } | StepKind::Declare => {
                    self.handles |= step.moves;
                    self.moving.settings = true;
                }
                StepKind::Deallocate(_) => self.moving.settings = true,
                _ => {}
            }
            if step.creates_sealed.is_some() || matches!(step.kind, StepKind::Ddl { protected: true, .. }) {
                (self.moving.settings, self.moving.names) = (true, true);
            }
        }
    }

    /// What that step moves itself, and through cursors and statements of SQL's.
    pub(super) fn moved_by(&self, step: &Step) -> Moves {
        let mut moved = match step.kind {
            StepKind::Prepare { .. } | StepKind::Declare => Moves::default(),
            _ => step.moves,
        };
        if step.runs_handle {
            moved |= self.handles;
        }
        moved
    }

    pub(super) fn next_running(&mut self, plan: Option<Arc<Plan>>, cx: &Context<'_>) -> Box<Running> {
        self.statement_number += 1;
        Box::new(Running::new(plan, cx.clock.now(), self.statement_number))
    }

    fn query(&mut self, body: &[u8], cx: &mut Context<'_>) -> Result<Flow, Close> {
        let Ok(sql) = message::query(body) else {
            let running = self.next_running(None, cx);
            self.forward_malformed(b'Q', Pending::Query(running), cx);
            return Ok(Flow::Next);
        };
        let Ok(sql) = std::str::from_utf8(sql) else {
            let running = self.next_running(None, cx);
            self.forward_not_utf8(b'Q', Pending::Query(running), cx);
            return Ok(Flow::Next);
        };
        let decided = self.decide(sql, &[], false, cx);
        let spliced = match &decided {
            Decided::Wait => return Ok(Flow::Hold),
            Decided::Go { plan, .. } if !plan.edits.is_empty() => Some(self.splice(sql, plan, cx)),
            _ => None,
        };
        let plan = match (decided, spliced) {
            (Decided::Refuse(refused), _) => {
                self.refuse_query(refused, sql, cx);
                return Ok(Flow::Next);
            }
            (Decided::Go { plan, .. }, Some(Err(refusal))) => {
                self.refuse_query(refused_step(Some(&plan), refusal), sql, cx);
                return Ok(Flow::Next);
            }
            (Decided::Go { plan, .. }, spliced) => {
                let wrapped = match self.wraps(&plan, cx) {
                    Ok(Some(wrapped)) => wrapped,
                    Ok(None) => return Ok(Flow::Hold),
                    Err(refusal) => {
                        self.refuse_query(refused_step(Some(&plan), refusal), sql, cx);
                        return Ok(Flow::Next);
                    }
                };
                let mut running = self.next_running(Some(plan.clone()), cx);
                running.wrapped = wrapped;
                running.trace = comment::trace(sql);
                running.actor = self.person_here();
                running.prepares = self.prepared_by_sql(sql, &plan, cx);
                running.undo = self.unnamed_dropped();
                let (people, key) = subjects_of_literals(sql, &plan, cx);
                running.tally.named(&people, key, cx);
                self.intend_write(&mut running, cx);
                self.note_moving(Some(&plan));
                self.begin_wrapped(wrapped, cx);
                self.pending.push_back(Pending::Query(running));
                let text = spliced.and_then(Result::ok);
                let mark = frame::begin(cx.to_server, b'Q');
                cx.to_server.put_slice(text.as_deref().unwrap_or(sql.as_bytes()));
                cx.to_server.put_u8(0);
                if frame::finish(cx.to_server, mark).is_ok() {
                    return Ok(Flow::Next);
                }
                if wrapped {
                    return Err(self.fatal(&too_long(), "a message grew beyond its limit", cx));
                }
                let unsent = self.pending.pop_back();
                self.take_back(unsent.into_iter().collect());
                plan
            }
            (Decided::Wait, _) => return Ok(Flow::Hold),
        };
        self.refuse_query(refused_step(Some(&plan), too_long()), sql, cx);
        Ok(Flow::Next)
    }

    fn refuse_query(&mut self, mut refused: Box<Refused>, sql: &str, cx: &mut Context<'_>) {
        refused.trace = comment::trace(sql);
        let mut running = self.next_running(None, cx);
        running.refused = Some(refused);
        running.undo = self.unnamed_dropped();
        self.pending.push_back(Pending::Query(running));
        encode::query(cx.to_server, FAILING_SQL);
    }

    /// The spliced text.
    pub(super) fn splice(&mut self, sql: &str, plan: &Plan, cx: &mut Context<'_>) -> Result<Vec<u8>, Refusal> {
        let mut plain = std::mem::take(&mut self.scratch.plain);
        let mut sealer =
            Sealer { keyring: cx.keyring, entropy: &mut *cx.entropy, style: &self.style, plain: &mut plain };
        let result = sealer.splice(sql, &plan.edits);
        self.scratch.plain = plain;
        if result.is_err() {
            cx.meters.seal_error();
        }
        result
    }

    /// Protected writes and exports are recorded before they leave.
    pub(super) fn intend_write(&mut self, running: &mut Running, cx: &mut Context<'_>) {
        let protected = |s: &Step| {
            let ddl = matches!(s.kind, StepKind::Ddl { protected: true, .. });
            ddl || (s.writes && !s.touches.is_empty())
        };
        let first = running.plan.as_ref().and_then(|p| p.steps.iter().position(protected));
        if let Some(step) = first {
            let at = std::mem::replace(&mut running.step, step);
            self.intend(running, Side::Server, cx);
            running.intended = std::mem::take(&mut running.tally.intent).then_some(step);
            running.step = at;
            self.pipeline_writes = true;
        }
    }

    fn parse(&mut self, body: &[u8], cx: &mut Context<'_>) -> Result<Flow, Close> {
        let nothing = |refused| Pending::Parse { undo: None, refused };
        let Ok(parse) = message::parse(body) else {
            self.forward_malformed(b'P', nothing(None), cx);
            return Ok(Flow::Next);
        };
        let (Ok(sql), Ok(_)) = (std::str::from_utf8(parse.sql), std::str::from_utf8(parse.name)) else {
            self.forward_not_utf8(b'P', nothing(None), cx);
            return Ok(Flow::Next);
        };
        let decided = match self.name_objection(parse.name) {
            Some(refusal) => Decided::Refuse(refused_step(None, refusal)),
            None => self.decide(sql, &parse.oids, true, cx),
        };
        let mut refused = match decided {
            Decided::Wait => return Ok(Flow::Hold),
            Decided::Refuse(refused) => refused,
            Decided::Go { plan, protected } => {
                let mut out = BytesMut::new();
                match self.write_parse(&parse, sql, &plan, &mut out, cx) {
                    Ok(()) => {
                        cx.to_server.unsplit(out);
                        self.prepared(&parse, sql, plan, protected, cx);
                        return Ok(Flow::Next);
                    }
                    Err(refusal) => refused_step(Some(&plan), refusal),
                }
            }
        };
        refused.trace = comment::trace(sql);
        self.open_pipeline = true;
        // Under the client's own name: a Parse of the unnamed statement drops the one before, a named one does not.
        let undo = parse.name.is_empty().then(|| self.statement_changed(b"", None));
        self.pending.push_back(Pending::Parse { undo, refused: Some(Failing { refused, expected: b"42703" }) });
        self.skipping = true;
        let failing = [parse.name, b"\0", FAILING_SQL.as_bytes(), b"\0\0\0"].concat();
        if encode::raw(cx.to_server, b'P', &failing).is_err() {
            return Err(Close { reason: "a message grew beyond its limit" });
        }
        Ok(Flow::Next)
    }

    /// The values of SQL's EXECUTE are not sealed. NULL needs no seal; sqlx has statements explained with it.
    fn execute_objection(&self, executed: &Executed) -> Option<Refusal> {
        let target = self.prepared_plan(executed.name.as_bytes())?.sealed().next().filter(|_| !executed.null)?;
        Some(Refusal::new(
            Code::SealedUse,
            format!("EXECUTE has a parameter for sealed column {}.{}", target.column.relation, target.column.column),
            "Bind it by the protocol, as every driver does, instead of EXECUTE.",
        ))
    }

    /// CREATE TABLE … AS EXECUTE: what the prepared statement reads is known here.
    fn copies_by_execute(&self, step: &Step, rules: &Rules) -> Option<Refusal> {
        let StepKind::Ddl { temporary: None, .. } = &step.kind else { return None };
        let plan = self.prepared_plan(step.executes.as_ref()?.name.as_bytes())?;
        let column = plan.steps.iter().find_map(|step| step.shows.as_ref())?;
        (rules.copies == Copies::Refuse).then(|| crate::plan::copy_refused(column))
    }

    pub(super) fn name_objection(&self, name: &[u8]) -> Option<Refusal> {
        if name.starts_with(b"pgveil_") {
            return Some(Refusal::new(
                Code::ReservedName,
                "names beginning with pgveil_ are reserved",
                "choose another statement or portal name",
            ));
        }
        self.statements_full(name).then(|| {
            Refusal::new(
                Code::Limit,
                "too many prepared statements in this session",
                "close some, or raise [limits] prepared_statements",
            )
        })
    }
}

/// One of the names is in the text.
fn mentions(sql: &str, names: &std::collections::HashSet<String>) -> bool {
    let tokens = crate::sql::lex(sql, usize::MAX);
    tokens.is_ok_and(|tokens| crate::sql::mentions(sql, &tokens, names))
}

pub(super) fn too_long() -> Refusal {
    Refusal::new(Code::Limit, "the message would be too long once its values are sealed", "send fewer values at once")
}
