//! The extended protocol: Parse, Bind, Describe, Execute, Close, Sync.
//!
//! In: decoded messages. Out: their rewritten forms, map changes that a refusal undoes. Never: a parameter of a
//! sealed column in clear.

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, OnceLock};

use bytes::{BufMut, BytesMut};

use crate::error::Refusal;
use crate::event::Subject;
use crate::plan::{Decision, Parameter, Plan, Request, Span, StepKind, SubjectFrom, Target};
use crate::sql::comment;
use crate::wire::message::{self, Bind, Parse, Reader};
use crate::wire::types::Format;
use crate::wire::{encode, frame};

use super::added;
use super::client::{Decided, too_long};
use super::failing::Unbound;
use super::fields::subject_key;
use super::handles::Known;
use super::pending::{Pending, Portal, Prepared, Running};
use super::purpose::Claimed;
use super::walk::Key;
use super::write::{Sealer, carries_envelope, envelope_inbound, put_parameter};
use super::{Close, Context, Flow, Session, Side};

/// A parameter of `unknown` type is one of no declared type.
const UNKNOWN: u32 = 705;

/// The type a sealed parameter is declared as: `bytea`, or `bytea[]`.
fn declared_as(target: &Target) -> u32 {
    if target.array { 1001 } else { 17 }
}

fn protected_read(plan: &Plan) -> bool {
    plan.steps.iter().any(|s| !s.touches.is_empty())
}

impl Session {
    /// The spliced text and the parameter types the server is told.
    pub(super) fn write_parse(
        &mut self,
        parse: &Parse<'_>,
        sql: &str,
        plan: &Plan,
        out: &mut BytesMut,
        cx: &mut Context<'_>,
    ) -> Result<(), Refusal> {
        let text = if plan.edits.is_empty() { None } else { Some(self.splice(sql, plan, cx)?) };
        let mark = frame::begin(out, b'P');
        out.put_slice(parse.name);
        out.put_u8(0);
        out.put_slice(text.as_deref().unwrap_or(sql.as_bytes()));
        out.put_u8(0);
        let mut oids = parse.oids.clone();
        let told = |p: &Parameter| *p != Parameter::Plain;
        if !plan.hidden.is_empty() || plan.parameters.iter().any(told) {
            oids.resize(oids.len().max(plan.parameters.len()), 0);
            for (oid, parameter) in oids.iter_mut().zip(&plan.parameters) {
                match parameter {
                    Parameter::Sealed(target) => *oid = declared_as(target),
                    Parameter::Typed(settled) if matches!(*oid, 0 | UNKNOWN) => *oid = *settled,
                    Parameter::Typed(_) | Parameter::Plain => {}
                }
            }
            oids.extend(plan.hidden.iter().map(|h| declared_as(&h.target)));
        }
        let count = u16::try_from(oids.len()).map_err(|_| too_long())?;
        out.put_u16(count);
        for oid in oids {
            out.put_u32(oid);
        }
        frame::finish(out, mark).map_err(|_| too_long())
    }

    /// Notes a forwarded Parse, and asks the server for the result's description.
    pub(super) fn prepared(
        &mut self,
        parse: &Parse<'_>,
        sql: &str,
        plan: Arc<Plan>,
        protected: bool,
        cx: &mut Context<'_>,
    ) {
        let opaque = matches!(first_word(sql).as_str(), "fetch" | "execute" | "call");
        let statement = Arc::new(Prepared {
            sql: sql.into(),
            oids: parse.oids.clone().into(),
            trace: comment::trace(sql),
            by_sql: false,
            rules_version: cx.rules.version,
            names: self.names,
            plan,
            fields: OnceLock::new(),
            again: Mutex::default(),
            described: Mutex::default(),
            types: OnceLock::new(),
        });
        self.open_pipeline = true;
        let undo = self.statement_changed(parse.name, Some(statement.clone()));
        self.pending.push_back(Pending::Parse { undo: Some(undo), refused: None });
        if protected || opaque {
            self.pending.push_back(Pending::DescribeStatement { statement: Some(statement), own: true });
            let name = std::str::from_utf8(parse.name).unwrap_or_default();
            encode::describe(cx.to_server, b'S', name);
        }
    }

    /// What the PREPAREs of a text will make, decided as if it had come by Parse. Sealed parameters are refused there.
    pub(super) fn prepared_by_sql(
        &self,
        sql: &str,
        plan: &Plan,
        cx: &Context<'_>,
    ) -> Vec<(usize, Arc<str>, Arc<Prepared>)> {
        let mut made = Vec::new();
        for (index, step) in plan.steps.iter().enumerate() {
            let StepKind::Prepare { name, query } = &step.kind else { continue };
            let Some(query) = sql.get(query.start as usize..query.end as usize) else { continue };
            // The text inside leaves as it is.
            let decision = cx.plans.decide(&Request { keys: 0, ..self.request(query, &[], true, cx.rules) });
            let (Decision::Pass(plan) | Decision::Act(plan)) = decision else { continue };
            let prepared = Prepared {
                sql: query.into(),
                oids: Box::from([]),
                trace: None,
                by_sql: true,
                rules_version: cx.rules.version,
                names: self.names,
                plan,
                fields: OnceLock::new(),
                again: Mutex::default(),
                described: Mutex::default(),
                types: OnceLock::new(),
            };
            made.push((index, name.clone(), Arc::new(prepared)));
        }
        made
    }

    /// A statement that SQL made is described for us before its rows come.
    fn describe_first(&mut self, statement: &Arc<Prepared>, name: &[u8], cx: &mut Context<'_>) {
        let known = !statement.by_sql || statement.fields.get().is_some() || !protected_read(&statement.plan);
        let (false, Ok(text)) = (known, std::str::from_utf8(name)) else { return };
        self.pending.push_back(Pending::DescribeStatement { statement: Some(statement.clone()), own: true });
        encode::describe(cx.to_server, b'S', text);
    }

    pub(super) fn bind(&mut self, body: &[u8], cx: &mut Context<'_>) -> Result<Flow, Close> {
        let Ok(bind) = message::bind(body) else {
            self.open_pipeline = true;
            self.forward_malformed(b'B', Pending::Bind { undo: None, refused: None }, cx);
            return Ok(Flow::Next);
        };
        let known = self.statement(bind.statement);
        let claimed = match &known {
            Known::Is(statement) => self.claim_by_comment(&statement.sql, cx),
            Known::Later | Known::Nothing => Ok(Claimed::Yes),
        };
        if claimed == Ok(Claimed::Later) {
            return Ok(Flow::Hold);
        }
        self.open_pipeline |= !matches!(known, Known::Later);
        let statement = match known {
            Known::Later => return Ok(Flow::Hold),
            Known::Is(statement) => statement,
            Known::Nothing => return self.bind_unknown(body, &bind, cx),
        };
        let mut actor = None;
        let counts = protected_read(&statement.plan) || statement.plan.steps.iter().any(|step| step.touches_unknown);
        let known = match self.person_of(&statement.sql, cx) {
            Ok(person) => {
                actor = person;
                Ok(())
            }
            Err(refusal) if counts => Err(refusal),
            Err(_) => Ok(()),
        };
        match claimed.and(known).and_then(|()| self.current(&statement, cx)) {
            Ok(true) => {}
            Ok(false) => return Ok(Flow::Hold),
            Err(refusal) => {
                let at = (bind.values > 0).then_some(0);
                self.fail_bind(&bind, &statement, Unbound { refusal, at }, cx);
                return Ok(Flow::Next);
            }
        }
        if let Some(refusal) = self.name_objection_of_portal(bind.portal) {
            self.refuse_bind(Some(&statement), refusal, cx);
            return Ok(Flow::Next);
        }
        self.describe_first(&statement, bind.statement, cx);
        let mark = cx.to_server.len();
        match self.write_bind(&bind, body, &statement, cx) {
            Ok(()) => {
                let (mut subjects, mut key) = self.subjects_of_parameters(&bind, &statement, cx);
                if subjects.is_empty() {
                    (subjects, key) = subjects_of_literals(&statement.sql, &statement.plan, cx);
                }
                let portal = Arc::new(Portal {
                    statement,
                    actor,
                    result_formats: bind.result_formats.into(),
                    subjects,
                    key,
                    released: AtomicU64::new(0),
                });
                let undo = self.portal_changed(bind.portal, Some(portal));
                self.pending.push_back(Pending::Bind { undo: Some(undo), refused: None });
            }
            Err(unbound) => {
                cx.to_server.truncate(mark);
                cx.meters.seal_error();
                self.fail_bind(&bind, &statement, unbound, cx);
            }
        }
        Ok(Flow::Next)
    }

    /// The server may know the statement, if SQL inside a function has prepared it; but nobody knows which of its values
    /// are to be sealed, so that only a Bind without values goes there.
    fn bind_unknown(&mut self, body: &[u8], bind: &Bind<'_>, cx: &mut Context<'_>) -> Result<Flow, Close> {
        if bind.values > 0 {
            let name = String::from_utf8_lossy(bind.statement);
            let missing = if name.is_empty() {
                "unnamed prepared statement does not exist".to_owned()
            } else {
                format!("prepared statement \"{name}\" does not exist")
            };
            let refusal = Refusal::new(crate::error::Code::Protocol, missing, "prepare it with Parse or PREPARE")
                .with_sqlstate(crate::error::SqlState(*b"26000"));
            self.refuse_bind(None, refusal, cx);
            return Ok(Flow::Next);
        }
        let undo = self.portal_changed(bind.portal, None);
        self.pending.push_back(Pending::Bind { undo: Some(undo), refused: None });
        if encode::raw(cx.to_server, b'B', body).is_err() {
            return Err(Close { reason: "a message grew beyond its limit" });
        }
        Ok(Flow::Next)
    }

    /// The statement is as the rules are now; `false`: they are being looked up. A different decision means that the
    /// client must prepare again.
    fn current(&mut self, statement: &Prepared, cx: &mut Context<'_>) -> Result<bool, Refusal> {
        let same = statement.rules_version == cx.rules.version && statement.names == self.names;
        let stale = self.stale && (!statement.plan.edits.is_empty() || protected_read(&statement.plan));
        if same && !stale && !self.moving.names && !self.moving.style {
            return Ok(true);
        }
        match self.decide(&statement.sql, &statement.oids, true, cx) {
            Decided::Wait => Ok(false),
            Decided::Refuse(refused) => Err(refused.refusal),
            Decided::Go { plan, .. } => {
                let same = plan.edits == statement.plan.edits
                    && plan.parameters == statement.plan.parameters
                    && plan.hidden == statement.plan.hidden;
                if same {
                    statement.decided_again(plan);
                }
                // PostgreSQL's own words when a prepared statement has to be made again; drivers know them.
                same.then_some(true).ok_or_else(|| {
                    Refusal::new(
                        crate::error::Code::CatalogStale,
                        "cached plan must not change result type",
                        "prepare the statement again: the policy or the table changed",
                    )
                    .with_sqlstate(crate::error::SqlState(*b"0A000"))
                })
            }
        }
    }

    fn name_objection_of_portal(&self, name: &[u8]) -> Option<Refusal> {
        if name.starts_with(b"pgveil_") {
            return self.name_objection(name);
        }
        self.portals_full(name).then(|| {
            Refusal::new(
                crate::error::Code::Limit,
                "too many open portals in this session",
                "close some, or raise [limits] portals",
            )
        })
    }

    fn write_bind(
        &mut self,
        bind: &Bind<'_>,
        body: &[u8],
        statement: &Prepared,
        cx: &mut Context<'_>,
    ) -> Result<(), Unbound> {
        let mut plain = std::mem::take(&mut self.scratch.plain);
        let mut sealer =
            Sealer { keyring: cx.keyring, entropy: &mut *cx.entropy, style: &self.style, plain: &mut plain };
        let result = write_bind(&mut sealer, bind, body, statement, cx.to_server);
        self.scratch.plain = plain;
        result
    }

    /// People named by parameters.
    fn subjects_of_parameters(&self, bind: &Bind<'_>, statement: &Prepared, cx: &Context<'_>) -> (Vec<Subject>, Key) {
        let (mut found, mut integer) = (Vec::new(), Key::default());
        let subject = statement.plan.steps.first().and_then(|s| s.subject.as_ref());
        let Some((kind, SubjectFrom::Parameters(indices))) = subject.map(|s| (&s.kind, &s.from)) else {
            return (found, integer);
        };
        let mut r = Reader::new(bind.value_bytes);
        for i in 0..bind.values {
            let Ok(value) = r.value() else { break };
            let (Some(value), true) = (value, indices.iter().any(|n| usize::from(*n) == i)) else { continue };
            let format = message::format_at(bind.formats, i).unwrap_or_default();
            let declared = statement.oids.get(i).copied().unwrap_or(0);
            // Undeclared binary integers are recognised by their size.
            let oid = match (declared, value.len()) {
                (0, 2) => 21,
                (0, 4) => 23,
                (0, 8) => 20,
                (0, 16) => 2950,
                (declared, _) => declared,
            };
            if let Some(key) = subject_key(value, oid, format) {
                integer.see(&key);
                found.push(Subject { kind: kind.clone(), pseudonym: cx.keyring.subject_pseudonym(kind, &key) });
            }
        }
        (found, integer)
    }

    pub(super) fn describe(&mut self, message: &[u8], body: &[u8], cx: &mut Context<'_>) -> Flow {
        let pending = match message::target(body) {
            Ok((b'S', name)) => match self.statement(name) {
                Known::Later => return Flow::Hold,
                Known::Is(statement) => Pending::DescribeStatement { statement: Some(statement), own: false },
                Known::Nothing => Pending::DescribeStatement { statement: None, own: false },
            },
            Ok((_, name)) => match self.portal(name) {
                Known::Later => return Flow::Hold,
                Known::Is(portal) => Pending::DescribePortal { portal: Some(portal), own: false },
                Known::Nothing => Pending::DescribePortal { portal: None, own: false },
            },
            Err(_) => {
                self.open_pipeline = true;
                self.forward_malformed(b'D', Pending::DescribePortal { portal: None, own: false }, cx);
                return Flow::Next;
            }
        };
        self.open_pipeline = true;
        self.pending.push_back(pending);
        self.forward(message, cx);
        Flow::Next
    }

    pub(super) fn execute(&mut self, message: &[u8], body: &[u8], cx: &mut Context<'_>) -> Flow {
        let Ok((name, _)) = message::execute(body) else {
            self.open_pipeline = true;
            let running = self.next_running(None, cx);
            self.forward_malformed(b'E', Pending::Execute(running), cx);
            return Flow::Next;
        };
        let portal = match self.portal(name) {
            Known::Later => return Flow::Hold,
            Known::Is(portal) => Some(portal),
            Known::Nothing => None,
        };
        self.open_pipeline = true;
        let mut running = self.next_running(portal.as_ref().map(|p| p.statement.newest(cx.rules.version)), cx);
        if let Some(portal) = portal {
            running.tally.named(&portal.subjects, portal.key, cx);
            running.trace = portal.statement.trace;
            running.actor.clone_from(&portal.actor);
            for (_, name, prepared) in self.prepared_by_sql(&portal.statement.sql, &portal.statement.plan, cx) {
                running.undo.push(self.statement_changed(name.as_bytes(), Some(prepared)));
            }
            running.formats = Some(portal);
        } else {
            // Made by SQL, if it is there at all: nobody else knows what its rows are.
            self.pending.push_back(Pending::DescribePortal { portal: None, own: true });
            // Shorter than the Execute.
            let _ = encode::raw(cx.to_server, b'D', &[b"P", name, b"\0"].concat());
        }
        self.pipeline_opens |= running.formats.as_ref().is_none_or(|portal| portal.statement.opens());
        if running.plan.as_ref().is_some_and(|p| p.steps.iter().any(|s| s.writes)) {
            self.pipeline_writes = true;
        }
        self.counted_in_pipeline(&running, cx);
        self.intend_write(&mut running, cx);
        self.note_moving(running.plan.as_deref());
        self.pending.push_back(Pending::Execute(running));
        self.forward(message, cx);
        Flow::Next
    }

    pub(super) fn close(&mut self, message: &[u8], body: &[u8], cx: &mut Context<'_>) {
        self.open_pipeline = true;
        let undo = match message::target(body) {
            Ok((b'S', name)) => self.statement_changed(name, None),
            Ok((_, name)) => self.portal_changed(name, None),
            Err(_) => return self.forward_malformed(b'C', Pending::Close { undo: None }, cx),
        };
        self.pending.push_back(Pending::Close { undo: Some(undo) });
        self.forward(message, cx);
    }

    /// The server refuses a Flush that has a body, and skips to Sync as after any error of a pipeline.
    pub(super) fn flush(&mut self, message: &[u8], cx: &mut Context<'_>) {
        if message.len() > frame::HEADER {
            self.open_pipeline = true;
            self.pending.push_back(Pending::Flush);
        }
        self.forward(message, cx);
    }

    /// Sync ends a pipeline. When the pipeline writes and also opens cells, the commit waits until they have opened.
    pub(super) fn sync(&mut self, message: &[u8], cx: &mut Context<'_>) {
        if message.len() > frame::HEADER {
            // The server refuses what follows the header, in its own words, and is ready afterwards.
            self.sync_sent();
            return self.forward(message, cx);
        }
        // In a block it costs a round trip and changes nothing.
        let implicit = self.transaction == b'I' || self.block_changes;
        if implicit && !self.skipping && self.pipeline_writes && self.pipeline_opens && self.runs_something() {
            encode::flush(cx.to_server);
            self.sync_held = true;
            return;
        }
        self.send_sync(cx);
    }

    /// Something runs, and nothing waits for the client: during COPY FROM STDIN the server ignores Sync, and the
    /// client has to go on.
    fn runs_something(&self) -> bool {
        let copies = |r: &Running| r.current().is_some_and(|s| matches!(s.kind, StepKind::CopyIn(_)));
        let mut executes = self.pending.iter().filter_map(|p| match p {
            Pending::Execute(running) => Some(running),
            _ => None,
        });
        self.pending.iter().any(|p| matches!(p, Pending::Execute(_))) && !executes.any(|r| copies(r))
    }

    pub(super) fn send_sync(&mut self, cx: &mut Context<'_>) {
        self.sync_sent();
        encode::sync(cx.to_server);
    }

    fn sync_sent(&mut self) {
        self.skipping = false;
        self.open_pipeline = false;
        self.pipeline_writes = false;
        self.pipeline_opens = false;
        self.pipelines.sync();
        self.pending.push_back(Pending::Sync);
    }

    /// The first protected row of a portal: its intent goes in front.
    pub(super) fn intend_read(&self, running: &mut Running, cx: &mut Context<'_>) {
        self.intend(running, Side::Client, cx);
    }
}

/// People named by literals of a text's first statement, and the integer that their keys are.
pub(super) fn subjects_of_literals(sql: &str, plan: &Plan, cx: &Context<'_>) -> (Vec<Subject>, Key) {
    let mut integer = Key::default();
    let subject = plan.steps.first().and_then(|step| step.subject.as_ref());
    let Some((kind, SubjectFrom::Literals(spans))) = subject.map(|subject| (&subject.kind, &subject.from)) else {
        return (Vec::new(), integer);
    };
    let person = |span: &Span| {
        let text = sql.get(span.start as usize..span.end as usize)?;
        let tokens = crate::sql::lexer::lex(text, 4).ok()?;
        let [token] = tokens.as_slice() else { return None };
        let key = crate::sql::literal::string_value(text, token).map_or(text.to_owned(), |v| v.into_owned());
        integer.see(key.as_bytes());
        Some(Subject { kind: kind.clone(), pseudonym: cx.keyring.subject_pseudonym(kind, key.as_bytes()) })
    };
    let people = spans.iter().filter_map(person).collect();
    (people, integer)
}

fn first_word(sql: &str) -> String {
    if sql.trim_start().starts_with(['/', '-']) {
        let tokens = crate::sql::lex(sql, usize::MAX).unwrap_or_default();
        return tokens.first().map_or_else(String::new, |first| first.text(sql).to_ascii_lowercase());
    }
    let end = sql.trim_start().find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(sql.trim_start().len());
    sql.trim_start()[..end].to_ascii_lowercase()
}

/// Rewrites a Bind: sealed parameters become binary bytea, hidden ones follow the client's.
fn write_bind(
    sealer: &mut Sealer<'_>,
    bind: &Bind<'_>,
    body: &[u8],
    statement: &Prepared,
    out: &mut BytesMut,
) -> Result<(), Unbound> {
    let plan = &*statement.plan;
    let sealed = |i: usize| match plan.parameters.get(i) {
        Some(Parameter::Sealed(target)) => Some(target),
        _ => None,
    };
    if plan.hidden.is_empty() && !(0..bind.values).any(|i| sealed(i).is_some()) {
        no_envelopes(sealer, bind)?;
        return Ok(added::append_bind(body, bind, plan, out).map_err(|_| too_long())?);
    }
    let total = bind.values + plan.hidden.len();
    let count = u16::try_from(total).map_err(|_| too_long())?;
    let formats = bind.formats.len() / 2;
    if formats > 1 && formats != bind.values {
        let what = format!("bind message has {formats} parameter formats but {} parameters", bind.values);
        return Err(Refusal::new(crate::error::Code::Protocol, what, "").into());
    }
    // Counted before any value is looked at, as the server does.
    let expected = plan.parameters.len().max(statement.oids.len());
    if bind.values != expected {
        let what =
            format!("bind message supplies {} parameters, but prepared statement requires {expected}", bind.values);
        return Err(Refusal::new(crate::error::Code::Protocol, what, "").into());
    }
    let mark = frame::begin(out, b'B');
    out.put_slice(bind.portal);
    out.put_u8(0);
    out.put_slice(bind.statement);
    out.put_u8(0);
    let format = |i: usize| message::format_at(bind.formats, i);
    out.put_u16(count);
    for i in 0..total {
        let binary = i >= bind.values || sealed(i).is_some() || format(i) == Some(Format::Binary);
        out.put_u16(u16::from(binary));
    }
    out.put_u16(count);
    let mut r = Reader::new(bind.value_bytes);
    let mut cell = Vec::new();
    let blamed = |at: usize| move |refusal: Refusal| Unbound { refusal, at: Some(at) };
    let mut values: Vec<Option<&[u8]>> = Vec::with_capacity(if plan.hidden.is_empty() { 0 } else { bind.values });
    for i in 0..bind.values {
        let value = r.value().map_err(|_| too_long())?;
        if !plan.hidden.is_empty() {
            values.push(value);
        }
        match (sealed(i), value) {
            (Some(target), Some(bytes)) => {
                cell.clear();
                seal_one(sealer, target, target.told(), format(i), bytes, &mut cell).map_err(blamed(i))?;
                put_parameter(out, Some(&cell))?;
            }
            (None, Some(bytes)) if carries_envelope(sealer.keyring, bytes, format(i).unwrap_or_default()) => {
                return Err(blamed(i)(envelope_inbound()));
            }
            (_, value) => put_parameter(out, value)?,
        }
    }
    for (at, hidden) in (bind.values..).zip(&plan.hidden) {
        let i = usize::from(hidden.source);
        match values.get(i).copied().flatten() {
            Some(bytes) => {
                cell.clear();
                let declared = statement.type_of(i, &hidden.target);
                seal_one(sealer, &hidden.target, declared, format(i), bytes, &mut cell).map_err(blamed(at))?;
                put_parameter(out, Some(&cell))?;
            }
            None => put_parameter(out, None)?,
        }
    }
    added::append_formats(bind.result_formats, plan, out);
    Ok(frame::finish(out, mark).map_err(|_| too_long())?)
}

/// A client that could write envelopes could move a value to where another policy opens it.
fn no_envelopes(sealer: &Sealer<'_>, bind: &Bind<'_>) -> Result<(), Unbound> {
    let mut r = Reader::new(bind.value_bytes);
    for i in 0..bind.values {
        let value = r.value().map_err(|_| too_long())?;
        let format = message::format_at(bind.formats, i).unwrap_or_default();
        if value.is_some_and(|bytes| carries_envelope(sealer.keyring, bytes, format)) {
            return Err(Unbound { refusal: envelope_inbound(), at: Some(i) });
        }
    }
    Ok(())
}

fn seal_one(
    sealer: &mut Sealer<'_>,
    target: &Target,
    declared: u32,
    format: Option<Format>,
    bytes: &[u8],
    cell: &mut Vec<u8>,
) -> Result<(), Refusal> {
    let format = format.ok_or_else(|| {
        Refusal::new(crate::error::Code::Protocol, "a parameter's format code is neither text nor binary", "")
    })?;
    if target.array {
        sealer.array(target, declared, format, bytes, cell)
    } else {
        sealer.value(target, declared, format, bytes, cell)
    }
}
