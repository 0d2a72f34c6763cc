//! COPY both ways: rows cut out of the stream, sealed cells sealed or opened, everything else untouched.
//!
//! In: CopyData of either peer and the plan's layout. Out: CopyData with some fields replaced. Never: a row whose
//! fields do not match the plan (the server would quote it in its log), an unsealed cell of a sealed column.

use bytes::{BufMut, BytesMut};

use crate::detect::Rule;
use crate::error::{Code, Refusal, SqlState};
use crate::event::Subject;
use crate::plan::{CopyPlan, StepKind, SubjectFrom, SubjectPlan, Target};
use crate::policy::rules::Treatment;
use crate::wire::copy::{CopyError, Row, RowFormat, RowKind, Splitter};
use crate::wire::types::Format;
use crate::wire::{encode, frame};

use super::fields::{Opener, RowShown, subject_key};
use super::pending::{Pending, Running};
use super::record::refused_step;
use super::stop::{Allowed, Then};
use super::write::{Scratch, Sealer, carries_envelope, data_carries_envelope, envelope_inbound};
use super::{Close, Context, Session, Side};

/// The CopyData behind the last row of a binary COPY.
const BINARY_END: &[u8] = &[0xff, 0xff];

/// What the data stream is at the moment.
#[derive(Debug)]
pub(super) enum Copying {
    None,
    /// COPY IN of nothing protected.
    PlainIn,
    /// COPY OUT of nothing protected.
    PlainOut,
    In(Box<Stream>),
    Out(Box<Stream>),
    /// COPY IN that was refused, or that the server will: the client's remaining data goes nowhere.
    Refused,
    /// The client has sent all of it; the server has yet to answer.
    Done,
}

#[derive(Debug)]
pub(super) struct Stream {
    splitter: Splitter,
    plan: CopyPlan,
}

impl Copying {
    /// The server expects CopyData: it ignores Sync and Flush.
    pub(super) fn inbound(&self) -> bool {
        matches!(self, Copying::PlainIn | Copying::In(_))
    }

    pub(super) fn ended(&mut self) {
        *self = Copying::None;
    }
}

fn bad_rows(error: CopyError) -> Refusal {
    Refusal::new(Code::BadValue, error.what, "compare the data with the COPY statement's columns and options")
        .with_sqlstate(error.sqlstate)
}

fn wrong_columns() -> Refusal {
    Refusal::new(
        Code::BadValue,
        "a row has more or fewer fields than the COPY has columns",
        "compare the data with the COPY statement's columns and options",
    )
    .with_sqlstate(SqlState(*b"22P04"))
}

impl Session {
    /// CopyInResponse or CopyOutResponse.
    pub(super) fn copy_begins(&mut self, message: &[u8], body: &[u8], cx: &mut Context<'_>) -> Result<(), Close> {
        let Some((mut running, simple)) = self.take_running() else { return Err(self.unexpected_reply(cx)) };
        let kind = running.current().map(|s| s.kind.clone());
        // Format byte, then the number of columns.
        let format = body.first().copied();
        let columns = body.get(1..3).map(|n| usize::from(u16::from_be_bytes([n[0], n[1]])));
        let row_max = self.settings.message_bytes;
        let (inbound, plan) = match kind {
            Some(StepKind::CopyIn(Some(plan))) => (true, Some(plan)),
            Some(StepKind::CopyOut(plan)) => (false, Some(plan)),
            _ => (message[0] == b'G', None),
        };
        let agrees = plan.as_ref().is_none_or(|plan| {
            format == Some(u8::from(cells(plan) == Format::Binary)) && columns == Some(plan.columns.len())
        });
        if inbound != (message[0] == b'G') || (!agrees && !inbound) {
            self.put_back(running, simple);
            return Err(self.unexpected_reply(cx));
        }
        if inbound {
            // The server ignores a Sync that came before the data; the client sends another one after it.
            self.pipelines.answered(self.pending.iter().filter(|p| matches!(p, Pending::Sync)).count());
            self.pending.retain(|p| !matches!(p, Pending::Sync | Pending::Flush));
            self.open_pipeline = !simple;
            self.sync_held = false;
        }
        cx.to_client.extend_from_slice(message);
        if inbound && !self.pending.is_empty() {
            // Something else than data is on its way: the server ends the connection at it, and takes no rows.
            self.copy = Copying::Refused;
            self.put_back(running, simple);
            return Ok(());
        }
        self.copy = match plan {
            None if inbound => Copying::PlainIn,
            None => Copying::PlainOut,
            Some(plan) => {
                let splitter = Splitter::new(plan.layout.clone(), row_max);
                let stream = Box::new(Stream { splitter, plan });
                if inbound { Copying::In(stream) } else { Copying::Out(stream) }
            }
        };
        if !agrees {
            self.refuse_copy(&mut running, wrong_columns(), cx);
        }
        self.put_back(running, simple);
        Ok(())
    }

    /// A COPY FROM STDIN is on its way to the server: its data may come before the server has said that it waits for
    /// it (asyncpg does so), and until then we do not know whether it will.
    pub(super) fn copy_awaited(&self) -> bool {
        // Of the COPY in front nothing more can come.
        let over = usize::from(matches!(self.copy, Copying::Refused | Copying::Done));
        // A portal that nobody saw being made is of a cursor, or of a statement that SQL prepared: neither takes rows.
        let into = |running: &Running, from: usize| {
            let mut steps = running.plan.iter().flat_map(|plan| plan.steps.iter().skip(from));
            steps.any(|step| matches!(step.kind, StepKind::CopyIn(_)))
        };
        !self.copy.inbound()
            && self.pending.iter().enumerate().any(|(at, pending)| match pending {
                Pending::Execute(running) => at >= over && into(running, 0),
                Pending::Query(running) if at >= over => into(running, running.step),
                Pending::Query(running) => matches!(self.copy, Copying::Done) && into(running, running.step + over),
                _ => false,
            })
    }

    /// CopyData of the client.
    pub(super) fn copy_data(&mut self, body: &[u8], cx: &mut Context<'_>) {
        match std::mem::replace(&mut self.copy, Copying::None) {
            Copying::In(stream) => self.rows_in(stream, Some(body), cx),
            Copying::PlainIn => {
                self.copy = Copying::PlainIn;
                if data_carries_envelope(cx.keyring, body) {
                    self.refuse_running_copy(envelope_inbound(), cx);
                } else {
                    // As long as it came in.
                    let _ = encode::raw(cx.to_server, b'd', body);
                }
            }
            // Outside COPY IN the server would ignore it, after an error for instance: rows that nobody has sealed.
            other => self.copy = other,
        }
    }

    /// CopyDone or CopyFail of the client.
    pub(super) fn copy_end(&mut self, message: &[u8], cx: &mut Context<'_>) {
        match std::mem::replace(&mut self.copy, Copying::Done) {
            Copying::In(stream) if message[0] == b'c' => {
                self.rows_in(stream, None, cx);
                if !matches!(self.copy, Copying::Refused) {
                    self.forward(message, cx);
                    self.copy = Copying::Done;
                }
            }
            Copying::In(_) | Copying::PlainIn => self.forward(message, cx),
            other => self.copy = other,
        }
    }

    /// Seals what has come in whole rows; `None`: there is no more.
    fn rows_in(&mut self, mut stream: Box<Stream>, chunk: Option<&[u8]>, cx: &mut Context<'_>) {
        match chunk {
            Some(chunk) => stream.splitter.feed(chunk),
            None => stream.splitter.finish(),
        }
        let Some((mut running, simple)) = self.take_running() else { return };
        self.intend(&mut running, Side::Server, cx);
        let mark = cx.to_server.len();
        let result = self.seal_rows(&mut stream, &mut running, cx);
        self.copy = Copying::In(stream);
        if let Err(refusal) = result {
            cx.to_server.truncate(mark);
            cx.meters.seal_error();
            self.refuse_copy(&mut running, refusal, cx);
        }
        self.put_back(running, simple);
    }

    fn seal_rows(&mut self, stream: &mut Stream, running: &mut Running, cx: &mut Context<'_>) -> Result<(), Refusal> {
        // The rows that one message of the client completes are one of ours.
        let mark = frame::begin(cx.to_server, b'd');
        let begun = cx.to_server.len();
        let subject = running.current().and_then(|step| step.subject.clone());
        let Scratch { envelope, plain, .. } = &mut self.scratch;
        while let Some(row) = stream.splitter.next().map_err(bad_rows)? {
            if row.kind() != RowKind::Data {
                cx.to_server.put_slice(row.raw());
                continue;
            }
            if row.len() != stream.plan.columns.len() {
                return Err(wrong_columns());
            }
            match subject_of(subject.as_ref(), &stream.plan, &row, cx) {
                Some((who, key)) => running.tally.copied(who, &key, cx),
                None => running.tally.unknown_rows += 1,
            }
            let (keyring, plain) = (cx.keyring, &mut *plain);
            let mut sealer = Sealer { keyring, entropy: &mut *cx.entropy, style: &self.style, plain };
            seal_row(&mut sealer, &stream.plan, &row, envelope, cx.to_server)?;
            if cx.to_server.len() - begun > frame::LENGTH_MAX {
                return Err(super::client::too_long());
            }
        }
        if cx.to_server.len() == begun {
            cx.to_server.truncate(mark);
            return Ok(());
        }
        frame::finish(cx.to_server, mark).map_err(|_| super::client::too_long())
    }

    /// The server is told to fail the COPY; its error becomes ours on the way back.
    fn refuse_copy(&mut self, running: &mut Running, refusal: Refusal, cx: &mut Context<'_>) {
        running.refused = Some(refused_step(running.plan.as_deref(), refusal));
        running.expected = b"57014";
        encode::copy_fail(cx.to_server, "refused by pgveil");
        self.copy = Copying::Refused;
    }

    fn refuse_running_copy(&mut self, refusal: Refusal, cx: &mut Context<'_>) {
        if let Some((mut running, simple)) = self.take_running() {
            self.refuse_copy(&mut running, refusal, cx);
            self.put_back(running, simple);
        }
    }

    /// Whose row is copied out. `false`: it may not go.
    fn note_copied(
        &self,
        running: &mut Running,
        subject: Option<&SubjectPlan>,
        plan: &CopyPlan,
        row: &Row<'_>,
        cx: &Context<'_>,
    ) -> bool {
        let Some((who, key)) = subject_of(subject, plan, row, cx) else {
            running.tally.unknown_rows += 1;
            return true;
        };
        let may = self.person_may(running, &who, cx);
        if may {
            running.tally.copied(who, &key, cx);
        }
        may
    }

    /// The whole CopyData that `bytes` begins with: their size. 0: no COPY TO STDOUT runs that they could be of.
    pub(super) fn copy_rows(&mut self, bytes: &[u8], cx: &mut Context<'_>) -> usize {
        if !matches!(self.copy, Copying::Out(_) | Copying::PlainOut) {
            return 0;
        }
        let Some((mut running, simple)) = self.take_running() else { return 0 };
        let mut copy = std::mem::replace(&mut self.copy, Copying::None);
        let mut left = self.allowed(&mut running, bytes, b'd', cx);
        let before = running.tally.rows;
        let (mut end, mut rows) = (0, 0);
        while let Ok(Some((b'd', size))) = frame::peek(&bytes[end..], self.settings.message_bytes + 4)
            && size <= bytes.len() - end
        {
            let body = &bytes[end + frame::HEADER..end + size];
            let full = |left: &Allowed, rows| rows >= left.rows && body != BINARY_END;
            if let Copying::Out(stream) = &mut copy
                && !self.muted
            {
                if left.is_some_and(|left| full(&left, running.tally.rows - before) && self.wait(left.then)) {
                    break;
                }
                self.copy_row(stream, &mut running, body, (&mut left, before), cx);
            } else if let Some(left) = left.filter(|_| !self.muted && body != BINARY_END) {
                if full(&left, rows) {
                    if self.wait(left.then) {
                        break;
                    }
                    cx.to_client.extend_from_slice(&bytes[..end]);
                    self.hold_back(&mut running, left.then, cx);
                }
                rows += u64::from(!self.muted);
            }
            end += size;
        }
        if let Some(left) = left {
            if matches!(copy, Copying::PlainOut) {
                self.rows_released(&mut running, rows);
            } else {
                rows = running.tally.rows - before;
            }
            self.gone(&mut running, left, rows, cx);
        }
        if matches!(copy, Copying::PlainOut) && !self.muted {
            cx.to_client.extend_from_slice(&bytes[..end]);
        }
        self.copy = copy;
        self.put_back(running, simple);
        end
    }

    /// So many rows may be released beside those that the statement has had before.
    fn copy_row(
        &mut self,
        stream: &mut Stream,
        running: &mut Running,
        body: &[u8],
        left: (&mut Option<Allowed>, u64),
        cx: &mut Context<'_>,
    ) {
        self.intend(running, Side::Client, cx);
        stream.splitter.feed(body);
        let mark = cx.to_client.len();
        if let Err((refusal, tamper)) = self.open_rows(stream, running, left, cx) {
            cx.to_client.truncate(mark);
            if tamper {
                self.tampered(running, Some(&refusal), cx);
            }
            self.fail_running(running, refusal, cx);
        }
    }

    fn open_rows(
        &mut self,
        stream: &mut Stream,
        running: &mut Running,
        (left, before): (&mut Option<Allowed>, u64),
        cx: &mut Context<'_>,
    ) -> Result<(), (Refusal, bool)> {
        // One message of the server is one of ours, whatever rows are in it.
        let mark = frame::begin(cx.to_client, b'd');
        let begun = cx.to_client.len();
        let subject = running.current().and_then(|step| step.subject.clone());
        while let Some(row) = stream.splitter.next().map_err(|e| (bad_rows(e), false))? {
            if row.kind() != RowKind::Data {
                cx.to_client.put_slice(row.raw());
                continue;
            }
            if row.len() != stream.plan.columns.len() {
                return Err((wrong_columns(), false));
            }
            if let Some(left) = left.as_mut().filter(|left| running.tally.rows - before >= left.rows)
                && !self.one_more(running, left, cx)
            {
                return Err((self.held_back(running, left.then, cx), false));
            }
            if !self.note_copied(running, subject.as_ref(), &stream.plan, &row, cx) {
                return Err((self.held_back(running, Then::Stop(Rule::Subjects), cx), false));
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
            let shown = open_row(&mut opener, &stream.plan, &row, cx.to_client)?;
            running.tally.row(shown);
            if shown.tampered {
                self.tampered(running, None, cx);
            }
        }
        if cx.to_client.len() == begun {
            cx.to_client.truncate(mark);
            return Ok(());
        }
        frame::finish(cx.to_client, mark).map_err(|_| (super::client::too_long(), false))
    }
}

/// The form of the cells in these rows.
fn cells(plan: &CopyPlan) -> Format {
    if plan.layout.format == RowFormat::Binary { Format::Binary } else { Format::Text }
}

fn seal_row(
    sealer: &mut Sealer<'_>,
    plan: &CopyPlan,
    row: &Row<'_>,
    envelope: &mut Vec<u8>,
    out: &mut BytesMut,
) -> Result<(), Refusal> {
    let format = cells(plan);
    let mut rewriter = row.rewriter();
    for (i, column) in plan.columns.iter().enumerate() {
        let Some(value) = row.field(i) else { continue };
        let Some(column) = column else {
            if carries_envelope(sealer.keyring, &value, format) {
                return Err(envelope_inbound());
            }
            continue;
        };
        let target = Target::stored(column.clone());
        envelope.clear();
        sealer.value(&target, 0, format, &value, envelope)?;
        rewriter.replace_bytea(i, envelope, out);
    }
    rewriter.finish(out);
    Ok(())
}

fn open_row(
    opener: &mut Opener<'_>,
    plan: &CopyPlan,
    row: &Row<'_>,
    out: &mut BytesMut,
) -> Result<RowShown, (Refusal, bool)> {
    let mut shown = RowShown::default();
    let (mut rewriter, begun) = (row.rewriter(), out.len());
    for (i, column) in plan.columns.iter().enumerate() {
        let Some(column) = column else { continue };
        let Some(value) = row.field(i) else { continue };
        if opener.class.treatment(column.id) == Treatment::Sealed {
            shown.sealed = true;
            continue;
        }
        opener.shown.clear();
        let opened = opener
            .cell(&value, Some(column), column.ty, cells(plan), &mut shown)
            .map_err(|broken| (broken.refusal, broken.tamper))?;
        rewriter.replace(i, opened.then_some(opener.shown.as_slice()), out);
        if out.len() - begun > opener.bytes_max {
            return Err((super::fields::row_too_long(), false));
        }
    }
    rewriter.finish(out);
    Ok(shown)
}

/// The person a row is about, if the COPY has the key's column, and that key in PostgreSQL's text form.
fn subject_of(
    subject: Option<&SubjectPlan>,
    plan: &CopyPlan,
    row: &Row<'_>,
    cx: &Context<'_>,
) -> Option<(Subject, Vec<u8>)> {
    let subject = subject?;
    let SubjectFrom::Field(index) = subject.from else { return None };
    let key = subject_key(&row.field(usize::from(index))?, plan.subject_type, cells(plan))?;
    let pseudonym = cx.keyring.subject_pseudonym(&subject.kind, &key);
    Some((Subject { kind: subject.kind.clone(), pseudonym }, key))
}
