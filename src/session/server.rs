//! The server's frames once the client is logged in.
//!
//! In: one frame. Out: the frame, its rewritten form, or nothing. Never: a reply that no forwarded message explains.

use std::sync::Arc;

use bytes::BufMut;

use crate::detect::Rule;
use crate::error::{Code, Refusal};
use crate::event::{Action, EventKind, Subject};
use crate::plan::{Moves, Plan, Refused, Step, StepKind};
use crate::wire::message;
use crate::wire::{encode, frame};

use super::added::{Keyed, malformed};
use super::fields::{self, Fields, Opener, subject_key};
use super::pending::{ABORTED, Own, Pending, Portal, Prepared, Running};
use super::record::Tally;
use super::stop::Then;
use super::{Close, Context, Effect, Phase, Session, redact};

impl Session {
    pub(super) fn server_frame(&mut self, message: &[u8], cx: &mut Context<'_>) -> Result<(), Close> {
        if matches!(self.phase, Phase::Login | Phase::Starting) {
            return self.login_server(message, cx);
        }
        let (muted, mark) = (self.muted, cx.to_client.len());
        let result = self.reply(message, cx);
        if muted && !matches!(message[0], b'Z' | b'S' | b'A' | b'N') {
            // The client has its error already and waits for ReadyForQuery.
            cx.to_client.truncate(mark);
        }
        if self.sync_held && self.pending.is_empty() {
            self.release_sync(cx);
        }
        result
    }

    fn reply(&mut self, message: &[u8], cx: &mut Context<'_>) -> Result<(), Close> {
        let body = &message[frame::HEADER..];
        match message[0] {
            // Asynchronous: any time, even inside an answer to us.
            b'S' => return self.parameter_status(message, cx),
            b'A' if self.class(cx.rules).partial() => {
                if !redact::append_notification(body, cx.to_client) {
                    return Err(self.unexpected_reply(cx));
                }
            }
            b'A' => cx.to_client.extend_from_slice(message),
            b'N' => self.notice(message, body, cx),
            b'E' if redact::fatal(body) => cx.to_client.extend_from_slice(message),
            _ if matches!(self.pending.front(), Some(Pending::Own(_))) => return self.own_reply(message, body, cx),
            b'C' | b'I' | b's' => self.completed(message, body, cx),
            b'Z' => return self.ready(message, body, cx),
            b'E' => self.error(message, body, cx),
            b'T' => return self.row_description(message, body, cx),
            b't' => return self.parameter_description(message, body, cx),
            b'n' => self.no_data(message, cx),
            b'1' | b'2' | b'3' => return self.acknowledged(message, cx),
            b'G' | b'H' => return self.copy_begins(message, body, cx),
            b'c' | b'V' => cx.to_client.extend_from_slice(message),
            _ => return Err(self.unexpected_reply(cx)),
        }
        Ok(())
    }

    fn notice(&mut self, message: &[u8], body: &[u8], cx: &mut Context<'_>) {
        if self.class(cx.rules).partial() {
            redact::append(b'N', body, cx.to_client);
        } else {
            let redacts = self.would_redact(body, cx);
            if let Some(Pending::Query(running) | Pending::Execute(running)) = self.pending.front_mut() {
                running.redacts |= redacts;
            }
            cx.to_client.extend_from_slice(message);
        }
    }

    /// Takes the running statement out of the queue's front, to be put back by [`Session::put_back`].
    pub(super) fn take_running(&mut self) -> Option<(Box<Running>, bool)> {
        match self.pending.pop_front() {
            Some(Pending::Query(r)) => Some((r, true)),
            Some(Pending::Execute(r)) => Some((r, false)),
            Some(other) => {
                self.pending.push_front(other);
                None
            }
            None => None,
        }
    }

    pub(super) fn put_back(&mut self, running: Box<Running>, simple: bool) {
        self.pending.push_front(if simple { Pending::Query(running) } else { Pending::Execute(running) });
    }

    /// The whole DataRows that `bytes` begins with: their size. 0: nothing runs whose rows they could be.
    pub(super) fn data_rows(&mut self, bytes: &[u8], cx: &mut Context<'_>) -> usize {
        let Some((mut running, simple)) = self.take_running() else { return 0 };
        if running.fields.is_none() && !simple {
            running.fields = running.formats.as_ref().and_then(|p| p.statement.fields.get().cloned().flatten());
        }
        let (fields, portal) = (running.fields.clone(), running.formats.clone());
        let protected = fields.as_ref().is_some_and(|f| f.any || f.disagree || f.subject.is_some())
            || running.current().is_some_and(|s| !s.touches.is_empty() && s.kind != StepKind::Report);
        let path = running.current().is_some_and(|step| step.kind == StepKind::ShowPath);
        let left = self.allowed(&mut running, bytes, b'D', cx);
        let keyed = fields.as_ref().filter(|fields| !fields.keys.is_empty() && !cx.rules.detect.canaries.is_empty());
        let (mut end, mut rows) = (0, 0);
        while let Ok(Some((b'D', size))) = frame::peek(&bytes[end..], self.settings.message_bytes + 4)
            && size <= bytes.len() - end
        {
            if let Some(left) = left.filter(|left| rows >= left.rows && !self.muted) {
                if self.wait(left.then) {
                    break;
                }
                if !protected && !path {
                    cx.to_client.extend_from_slice(&bytes[..end]);
                }
                self.hold_back(&mut running, left.then, cx);
            }
            if let Some(fields) = keyed.filter(|_| !self.muted) {
                let body = &bytes[end + frame::HEADER..end + size];
                let formats = portal.as_ref().map_or(fields.formats.as_slice(), |p| &p.result_formats);
                running.tally.note_canaries(fields, body, formats, cx);
            }
            if path && !self.muted {
                let row = &bytes[end..end + size];
                if !self.tell_path(&row[frame::HEADER..], cx.to_client) {
                    cx.to_client.extend_from_slice(row);
                }
            } else if protected && !self.muted {
                let row = &bytes[end..end + size];
                self.protected_row(&mut running, fields.as_deref(), portal.as_deref(), row, cx);
            }
            end += size;
            rows += u64::from(!self.muted);
        }
        if !protected && !path && !self.muted {
            cx.to_client.extend_from_slice(&bytes[..end]);
        }
        if let Some(left) = left {
            self.rows_released(&mut running, rows);
            self.gone(&mut running, left, rows, cx);
        }
        self.put_back(running, simple);
        end
    }

    fn protected_row(
        &mut self,
        running: &mut Running,
        fields: Option<&Fields>,
        portal: Option<&Portal>,
        message: &[u8],
        cx: &mut Context<'_>,
    ) {
        self.intend_read(running, cx);
        let Some(fields) = fields else {
            if running.current().is_some_and(|step| step.added_key().is_some()) {
                return self.fail_running(running, malformed(), cx);
            }
            running.tally.rows += 1;
            running.tally.unknown_rows += 1;
            cx.to_client.extend_from_slice(message);
            return;
        };
        if fields.disagree {
            return self.fail_running(running, disagreement(), cx);
        }
        let body = &message[frame::HEADER..];
        let formats = portal.map_or(fields.formats.as_slice(), |p| &p.result_formats);
        let keyed = match fields.keyed(body) {
            Some(keyed) => keyed,
            None if fields.added => return self.fail_running(running, malformed(), cx),
            None => Keyed { key: None, end: body.len() },
        };
        if !self.note_subject(running, fields, keyed.key, formats, cx) {
            return self.hold_back(running, Then::Stop(Rule::Subjects), cx);
        }
        if !fields.any {
            running.tally.rows += 1;
            if !fields.added {
                cx.to_client.extend_from_slice(message);
            } else if fields.append_cut(body, keyed.end, cx.to_client).is_err() {
                self.fail_running(running, malformed(), cx);
            }
            return;
        }
        let scratch = &mut self.scratch;
        let mut opener = Opener {
            keyring: cx.keyring,
            class: cx.rules.class(self.class),
            rules: cx.rules,
            style: &self.style,
            envelope: &mut scratch.envelope,
            plain: &mut scratch.plain,
            shown: &mut scratch.shown,
            bytes_max: self.settings.message_bytes,
        };
        let mark = cx.to_client.len();
        match opener.row(&body[..keyed.end], fields, formats, cx.to_client) {
            Ok(shown) => {
                running.tally.row(shown);
                if shown.tampered {
                    self.tampered(running, None, cx);
                }
            }
            Err(broken) => {
                cx.to_client.truncate(mark);
                if broken.tamper {
                    self.tampered(running, Some(&broken.refusal), cx);
                }
                self.fail_running(running, broken.refusal, cx);
            }
        }
    }

    /// Stops delivering: the client gets the error now, the rest of the statement is swallowed.
    pub(super) fn fail_running(&mut self, running: &mut Running, refusal: Refusal, cx: &mut Context<'_>) {
        cx.meters.refusal(refusal.code);
        encode::error(cx.to_client, "ERROR", &refusal);
        self.poisoned = Some(refusal.code);
        running.failed = Some(refusal);
        self.muted = true;
    }

    /// Whose row it is. `false`: it may not go.
    fn note_subject(
        &self,
        running: &mut Running,
        fields: &Fields,
        key: Option<&[u8]>,
        formats: &[u8],
        cx: &Context<'_>,
    ) -> bool {
        let Some(subject) = &fields.subject else {
            if running.tally.people.is_empty() {
                running.tally.unknown_rows += 1;
            }
            return true;
        };
        let format = message::format_at(formats, subject.index).unwrap_or_default();
        match key.and_then(|key| subject_key(key, subject.type_oid, format)) {
            Some(key) if key == running.tally.last_key => {}
            Some(key) => {
                let pseudonym = cx.keyring.subject_pseudonym(&subject.kind, &key);
                let who = Subject { kind: subject.kind.clone(), pseudonym };
                if !self.person_may(running, &who, cx) {
                    return false;
                }
                running.tally.person(who);
                running.tally.key.see(&key);
                running.tally.last_key = key;
            }
            None => running.tally.unknown_rows += 1,
        }
        true
    }

    fn completed(&mut self, message: &[u8], body: &[u8], cx: &mut Context<'_>) {
        let Some((mut running, simple)) = self.take_running() else {
            cx.to_client.extend_from_slice(message);
            return;
        };
        self.copy.ended();
        if message[0] == b'C' {
            self.note_handles(&mut running, body);
            self.note_cursor(running.current(), body, cx);
        }
        self.note_effects(running.current(), message[0] == b'C');
        if running.ends_wrapped() {
            running.withheld = Some(message.into());
            return self.put_back(running, simple);
        }
        cx.to_client.extend_from_slice(message);
        let sqlstate = running.failed.as_ref().map(|f| f.sqlstate.0);
        let rows = if message[0] == b'C' { message::tag_rows(body) } else { 0 };
        self.step_ended(&mut running, sqlstate, rows, cx);
        if simple {
            self.put_back(running, true);
        }
    }

    fn row_description(&mut self, message: &[u8], body: &[u8], cx: &mut Context<'_>) -> Result<(), Close> {
        match self.pending.pop_front() {
            Some(Pending::DescribeStatement { statement, own }) => {
                let mark = cx.to_client.len();
                self.understand(message, body, statement.as_deref(), cx)?;
                if own {
                    cx.to_client.truncate(mark);
                }
                Ok(())
            }
            // DECLAREd, for instance: its rows are opened by their origin, as FETCH opens them.
            Some(Pending::DescribePortal { own: true, .. }) => {
                let (fields, _) = self.describe_fields(body, None, cx)?;
                if let Some(Pending::Execute(running)) = self.pending.front_mut() {
                    running.fields = Some(fields);
                }
                Ok(())
            }
            Some(Pending::DescribePortal { portal, .. }) => {
                self.understand(message, body, portal.as_ref().map(|p| &*p.statement), cx)
            }
            Some(Pending::Query(mut running)) => {
                let (fields, _) = self.describe_fields(body, running.current(), cx)?;
                running.fields = Some(fields.clone());
                if fields.disagree {
                    self.fail_running(&mut running, disagreement(), cx);
                } else {
                    self.append_description(message, body, &fields, cx)?;
                }
                self.pending.push_front(Pending::Query(running));
                Ok(())
            }
            other => {
                if let Some(other) = other {
                    self.pending.push_front(other);
                }
                Err(self.unexpected_reply(cx))
            }
        }
    }

    /// Describes a prepared statement's result to the client and remembers it.
    fn understand(
        &mut self,
        message: &[u8],
        body: &[u8],
        statement: Option<&Prepared>,
        cx: &mut Context<'_>,
    ) -> Result<(), Close> {
        if statement.is_some_and(|s| s.tell_again(body, cx.rules.version, cx.to_client)) {
            return Ok(());
        }
        let (fields, plain) = self.describe_fields(body, statement.and_then(|s| s.plan.steps.first()), cx)?;
        let mark = cx.to_client.len();
        self.append_description(message, body, &fields, cx)?;
        if let Some(statement) = statement {
            if plain {
                statement.told(body, cx.rules.version, &cx.to_client[mark..]);
            }
            let _ = statement.fields.set(Some(fields));
        }
        Ok(())
    }

    /// The flag: nothing about it has to be said or asked.
    fn describe_fields(
        &mut self,
        body: &[u8],
        step: Option<&Step>,
        cx: &mut Context<'_>,
    ) -> Result<(Arc<Fields>, bool), Close> {
        let Ok((fields, unknown)) = fields::describe(body, step, self.class(cx.rules), cx.rules) else {
            return Err(self.unexpected_reply(cx));
        };
        if unknown && self.ddl.is_none() {
            // A relation made since the snapshot: the next statement sees it described.
            cx.effects.push(Effect::RefreshCatalog);
        }
        if fields.disagree || fields.untyped {
            let mut event = self.event(EventKind::Untyped, cx);
            event.action = step.map(|step| {
                let (fingerprint, text) = (Some(step.shape.fingerprint.clone()), Some(step.shape.text.clone()));
                Action { fingerprint, text, ..Action::none() }.into()
            });
            event.note = Some(if fields.disagree {
                "resolver and server disagree on a sealed field: nothing is opened".to_owned()
            } else {
                "bytes of unknown origin leave as they are".to_owned()
            });
            cx.effects.push(Effect::Event(Box::new(event)));
        }
        let plain = !(unknown || fields.disagree || fields.untyped);
        Ok((Arc::new(fields), plain))
    }

    fn append_description(
        &mut self,
        message: &[u8],
        body: &[u8],
        fields: &Fields,
        cx: &mut Context<'_>,
    ) -> Result<(), Close> {
        if !fields.any && !fields.added {
            cx.to_client.extend_from_slice(message);
            return Ok(());
        }
        fields::append_description(body, fields, cx.to_client).map_err(|_| self.unexpected_reply(cx))
    }

    fn parameter_description(&mut self, message: &[u8], body: &[u8], cx: &mut Context<'_>) -> Result<(), Close> {
        let Some(Pending::DescribeStatement { statement, own }) = self.pending.front() else {
            return Err(self.unexpected_reply(cx));
        };
        if *own {
            if let (Some(statement), Ok(oids)) = (statement, message::parameter_description(body)) {
                let _ = statement.types.set(oids.into());
            }
            return Ok(());
        }
        let plan = statement.as_ref().map(|s| s.plan.clone());
        let Some(plan) = plan.filter(|p| needs_parameter_types(p)) else {
            cx.to_client.extend_from_slice(message);
            return Ok(());
        };
        let Ok(oids) = message::parameter_description(body) else { return Err(self.unexpected_reply(cx)) };
        let client = oids.len().saturating_sub(plan.hidden.len());
        let mark = frame::begin(cx.to_client, b't');
        // Fewer than came in.
        cx.to_client.put_u16(client as u16);
        for (i, oid) in oids.iter().take(client).enumerate() {
            let logical = match plan.parameters.get(i) {
                Some(crate::plan::Parameter::Sealed(t)) => t.told(),
                _ => *oid,
            };
            cx.to_client.put_u32(logical);
        }
        frame::finish(cx.to_client, mark).map_err(|_| Close { reason: "a message grew beyond its limit" })
    }

    fn no_data(&mut self, message: &[u8], cx: &mut Context<'_>) {
        match self.pending.pop_front() {
            Some(Pending::DescribeStatement { statement, own }) => {
                if let Some(statement) = statement {
                    let _ = statement.fields.set(None);
                }
                if own {
                    return;
                }
            }
            Some(Pending::DescribePortal { own: true, .. }) => return,
            Some(Pending::DescribePortal { .. }) | None => {}
            Some(other) => self.pending.push_front(other),
        }
        cx.to_client.extend_from_slice(message);
    }

    fn acknowledged(&mut self, message: &[u8], cx: &mut Context<'_>) -> Result<(), Close> {
        let matches = matches!(
            (message[0], self.pending.front()),
            (b'1', Some(Pending::Parse { refused: None, .. }))
                | (b'2', Some(Pending::Bind { refused: None, .. }))
                | (b'3', Some(Pending::Close { .. }))
        );
        if !matches {
            return Err(self.unexpected_reply(cx));
        }
        self.pending.pop_front();
        cx.to_client.extend_from_slice(message);
        Ok(())
    }

    fn error(&mut self, message: &[u8], body: &[u8], cx: &mut Context<'_>) {
        let sqlstate = redact::sqlstate(body);
        self.copy.ended();
        match self.pending.front_mut() {
            Some(Pending::Query(_)) => {
                if let Some((mut running, simple)) = self.take_running() {
                    self.running_error(&mut running, message, body, sqlstate, cx);
                    self.put_back(running, simple);
                }
            }
            Some(Pending::Execute(_)) => {
                if let Some((mut running, simple)) = self.take_running() {
                    self.running_error(&mut running, message, body, sqlstate, cx);
                    self.put_back(running, simple);
                }
                self.skip_to_sync(sqlstate, cx);
            }
            Some(Pending::Call { refused }) => {
                let refused = super::call::answered(refused, sqlstate);
                self.answer_error(message, body, refused, None, sqlstate, cx);
            }
            Some(Pending::Parse { refused, .. } | Pending::Bind { refused, .. }) => {
                let failed = refused.take().filter(|failing| [*failing.expected, ABORTED].contains(&sqlstate));
                self.answer_error(message, body, failed.map(|failing| failing.refused), None, sqlstate, cx);
                self.skip_to_sync(sqlstate, cx);
            }
            Some(
                Pending::DescribeStatement { .. }
                | Pending::DescribePortal { .. }
                | Pending::Close { .. }
                | Pending::Flush,
            ) => {
                self.answer_error(message, body, None, None, sqlstate, cx);
                self.skip_to_sync(sqlstate, cx);
            }
            None | Some(Pending::Sync | Pending::Own(_)) => {
                self.answer_error(message, body, None, None, sqlstate, cx);
            }
        }
    }

    /// The server ignores everything up to Sync: what was forwarded since has not happened.
    fn skip_to_sync(&mut self, sqlstate: [u8; 5], cx: &mut Context<'_>) {
        let end = self.pending.iter().position(|p| matches!(p, Pending::Sync));
        // What is refused here is known to fail before the server has said so.
        self.skipping |= end.is_none();
        let mut undone: Vec<Pending> = self.pending.drain(..end.unwrap_or(self.pending.len())).collect();
        undone.iter_mut().for_each(|pending| self.record_unfinished(pending, sqlstate, cx));
        self.take_back(undone);
    }

    fn running_error(
        &mut self,
        running: &mut Running,
        message: &[u8],
        body: &[u8],
        sqlstate: [u8; 5],
        cx: &mut Context<'_>,
    ) {
        let expected = [*running.expected, ABORTED].contains(&sqlstate);
        let refused = running.refused.take().filter(|_| expected);
        let was_refused = refused.is_some();
        running.redacts |= !was_refused && self.would_redact(body, cx);
        self.answer_error(message, body, refused, Some(running), sqlstate, cx);
        if was_refused {
            // That was the outcome.
            (running.tally, running.intended) = (Tally::default(), None);
        } else if running.plan.is_some() {
            self.step_ended(running, Some(sqlstate), 0, cx);
        }
    }

    /// The client's view of an error: ours where the server was made to fail, else the server's, redacted.
    fn answer_error(
        &mut self,
        message: &[u8],
        body: &[u8],
        refused: Option<Box<Refused>>,
        running: Option<&Running>,
        sqlstate: [u8; 5],
        cx: &mut Context<'_>,
    ) {
        if let Some(refused) = refused {
            self.refused(&refused, running, cx);
            if sqlstate != ABORTED {
                encode::error(cx.to_client, "ERROR", &refused.refusal);
                return;
            }
        }
        let denied = running.is_none() && sqlstate == *b"42501";
        if denied {
            let event = self.event(EventKind::Statement, cx).ended(crate::error::SqlState(sqlstate));
            cx.effects.push(Effect::Event(Box::new(event)));
        }
        self.server_error(message, body, cx);
    }

    pub(super) fn server_error(&self, message: &[u8], body: &[u8], cx: &mut Context<'_>) {
        if self.class(cx.rules).partial() {
            redact::append(b'E', body, cx.to_client);
        } else {
            cx.to_client.extend_from_slice(message);
        }
    }

    fn ready(&mut self, message: &[u8], body: &[u8], cx: &mut Context<'_>) -> Result<(), Close> {
        let &[status] = body else { return Err(self.unexpected_reply(cx)) };
        if matches!(self.pending.front(), Some(Pending::Query(running)) if running.wrapped) {
            self.end_wrapped(status, cx);
            return Ok(());
        }
        match self.pending.pop_front() {
            Some(Pending::Query(_) | Pending::Call { .. }) => {}
            Some(Pending::Sync) => self.pipelines.answered(1),
            _ => return Err(self.unexpected_reply(cx)),
        }
        self.copy.ended();
        self.muted = false;
        self.guard.cancelled = false;
        // A Query in the middle of a pipeline ends it too.
        self.open_pipeline &= !self.pending.is_empty();
        if !self.open_pipeline {
            (self.pipeline_writes, self.pipeline_opens) = (false, false);
            self.block_changes &= !self.pending.is_empty();
        }
        if let Some(code) = self.poisoned.take().filter(|_| status == b'T') {
            // The block must not go on as if the client had its rows.
            if !self.pending.is_empty() || self.open_pipeline {
                let what = "a result failed in its middle and later statements are under way";
                let refusal = Refusal::new(code, what, "");
                return Err(self.fatal(&refusal, "a result failed inside a pipelined transaction", cx));
            }
            self.pending.push_back(Pending::Own(Own::Fail));
            self.probing = true;
            fail_parse(cx);
            encode::sync(cx.to_server);
            return Ok(());
        }
        self.transaction = status;
        cx.to_client.extend_from_slice(message);
        self.settled(status, cx);
        Ok(())
    }

    /// After ReadyForQuery: portals that ended, the catalog, the settings.
    fn settled(&mut self, status: u8, cx: &mut Context<'_>) {
        if status == b'I' {
            self.pipelines.no_transaction();
            if self.pending.is_empty() && !self.open_pipeline {
                self.portals.clear();
            }
        }
        if status == b'I' {
            self.cursors.retain(|_, declared| declared.hold);
        }
        if status == b'I' && std::mem::take(&mut self.in_block).settings {
            self.unsettled = true;
        }
        if let Some(ddl) = self.ddl.take_if(|_| status == b'I') {
            self.fresh.clear();
            if ddl.far_reaching || self.class(cx.rules).restricted() {
                self.waiting = true;
            } else {
                self.stale = true;
            }
            cx.effects.push(Effect::RefreshCatalog);
        }
        if self.pending.is_empty() && !self.open_pipeline {
            self.moving = Moves::default();
        }
        if self.unsettled && status != b'E' && self.pending.is_empty() && !self.open_pipeline {
            self.probe(cx);
        }
    }

    /// A reply to a Query of ours.
    fn own_reply(&mut self, message: &[u8], body: &[u8], cx: &mut Context<'_>) -> Result<(), Close> {
        let Some(Pending::Own(own)) = self.pending.front_mut() else { return Ok(()) };
        match (message[0], *own) {
            (b'D', Own::Probe { row }) => {
                *own = Own::Probe { row: row.saturating_add(1) };
                self.probed(row, body);
            }
            (b'1' | b'E', Own::FailPipeline) => {
                self.pending.pop_front();
            }
            (b'C' | b'E', Own::End) => self.wrapped_ended(message, body, cx),
            (b'Z', own) => {
                let &[status] = body else { return Err(self.unexpected_reply(cx)) };
                self.pending.pop_front();
                self.probing = own == Own::Begin;
                self.transaction = status;
                match own {
                    Own::Probe { .. } => self.probe_answered(cx),
                    Own::Begin if status != b'T' => return Err(self.unexpected_reply(cx)),
                    Own::Fail | Own::End => {
                        self.muted = false;
                        encode::ready_for_query(cx.to_client, status);
                        self.settled(status, cx);
                    }
                    Own::Begin | Own::Path | Own::FailPipeline => {}
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// The Sync that waited for its pipeline's cells goes out once they have been delivered.
    fn release_sync(&mut self, cx: &mut Context<'_>) {
        self.sync_held = false;
        if self.poisoned.take().is_some() && !self.skipping {
            // Before it, so that the implicit transaction rolls back.
            self.pending.push_back(Pending::Own(Own::FailPipeline));
            fail_parse(cx);
        }
        self.send_sync(cx);
    }
}

/// A Parse that fails; under a name, since it would drop the client's unnamed statement.
fn fail_parse(cx: &mut Context<'_>) {
    // Shorter than any limit.
    let _ = encode::raw(cx.to_server, b'P', b"pgveil_\0\"\0\0\0");
}

fn needs_parameter_types(plan: &Plan) -> bool {
    !plan.hidden.is_empty() || plan.parameters.iter().any(|p| matches!(p, crate::plan::Parameter::Sealed(_)))
}

fn disagreement() -> Refusal {
    Refusal::new(
        Code::SealedUse,
        "pgveil and the server disagree on which output column is sealed; nothing is opened",
        "name the columns one by one",
    )
}
