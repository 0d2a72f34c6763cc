//! A Bind that is refused, in a form that the server refuses at the same point of its own checks.
//!
//! In: the client's Bind, and what is wrong with it. Out: a Bind that must fail. Never: a value of a sealed column, or
//! one that nobody has looked at.
//!
//! The server looks for the statement, then counts formats and values, then asks whether the transaction is aborted,
//! then whether the portal exists, and then reads value after value (PostgreSQL, `exec_bind_message`). What it finds
//! before the place to blame is the client's to know.

use bytes::{BufMut, BytesMut};

use crate::error::Refusal;
use crate::plan::{Parameter, Plan};
use crate::wire::frame::Overflow;
use crate::wire::message::{Bind, Reader};
use crate::wire::{encode, frame};

use super::pending::{Failing, Pending, Prepared};
use super::record::refused_step;
use super::{Context, Session};

/// Why a Bind cannot go to the server.
#[derive(Debug)]
pub(super) struct Unbound {
    pub refusal: Refusal,
    /// The parameter to blame, hidden ones counted after the client's; `None`: their number, or all together.
    pub at: Option<usize>,
}

impl From<Refusal> for Unbound {
    fn from(refusal: Refusal) -> Self {
        Self { refusal, at: None }
    }
}

impl Session {
    /// Nothing of the Bind goes to the server, which misses a statement of a name that nobody has.
    pub(super) fn refuse_bind(&mut self, statement: Option<&Prepared>, refusal: Refusal, cx: &mut Context<'_>) {
        let mut random = [0; 16];
        cx.entropy.fill(&mut random);
        let mut body = vec![0];
        body.extend_from_slice(b"pgveil_");
        body.extend_from_slice(hex::encode(random).as_bytes());
        body.extend_from_slice(&[0; 7]);
        // Shorter than any limit.
        let _ = encode::raw(cx.to_server, b'B', &body);
        self.bind_fails(statement, refusal, b"26000");
    }

    /// The Bind fails where its number of values, or one of them, is wrong.
    pub(super) fn fail_bind(&mut self, bind: &Bind<'_>, statement: &Prepared, unbound: Unbound, cx: &mut Context<'_>) {
        let (Unbound { refusal, at }, plan) = (unbound, &*statement.plan);
        if at.is_some_and(|at| spoiled(bind, plan, at, cx.to_server).is_ok()) {
            return self.bind_fails(Some(statement), refusal, b"22021");
        }
        if plan.parameters.is_empty() && plan.hidden.is_empty() {
            return self.refuse_bind(Some(statement), refusal, cx);
        }
        // No values for a statement that has parameters.
        let body = [bind.portal, b"\0", bind.statement, &[0; 7]].concat();
        // Shorter than what came in, which has at least as much.
        let _ = encode::raw(cx.to_server, b'B', &body);
        self.bind_fails(Some(statement), refusal, b"08P01");
    }

    fn bind_fails(&mut self, statement: Option<&Prepared>, refusal: Refusal, expected: &'static [u8; 5]) {
        let mut refused = refused_step(statement.map(|statement| &*statement.plan), refusal);
        refused.trace = statement.and_then(|statement| statement.trace);
        self.pending.push_back(Pending::Bind { undo: None, refused: Some(Failing { refused, expected }) });
        self.skipping = true;
    }
}

/// The format code that the client sent for that value.
fn format_code(bind: &Bind<'_>, i: usize) -> u16 {
    let at = if bind.formats.len() == 2 { 0 } else { i * 2 };
    bind.formats.get(at..at + 2).map_or(0, |code| u16::from_be_bytes([code[0], code[1]]))
}

/// Appends the Bind with the values before `at` that the server may see, a value in its place that is of no type, and
/// NULL for all others.
fn spoiled(bind: &Bind<'_>, plan: &Plan, at: usize, out: &mut BytesMut) -> Result<(), Overflow> {
    let total = bind.values + plan.hidden.len();
    let count = u16::try_from(total).map_err(|_| Overflow)?;
    let shown = |i: usize| i < at && i < bind.values && !matches!(plan.parameters.get(i), Some(Parameter::Sealed(_)));
    let mark = frame::begin(out, b'B');
    for name in [bind.portal, bind.statement] {
        out.put_slice(name);
        out.put_u8(0);
    }
    out.put_u16(count);
    for i in 0..total {
        let code = if i < bind.values { format_code(bind, i) } else { 0 };
        // Of a code that is neither text nor binary the server complains itself.
        let kept = shown(i) || (i == at && code > 1);
        out.put_u16(if kept { code } else { 0 });
    }
    out.put_u16(count);
    let mut r = Reader::new(bind.value_bytes);
    for i in 0..total {
        let before = r.rest();
        if i < bind.values {
            r.value().map_err(|_| Overflow)?;
        }
        if shown(i) {
            out.put_slice(&before[..before.len() - r.rest().len()]);
        } else if i == at {
            // Never part of UTF-8, which text has to be whatever its type.
            out.put_slice(&[0, 0, 0, 1, 0xff]);
        } else {
            out.put_i32(-1);
        }
    }
    out.put_u16((bind.result_formats.len() / 2) as u16);
    out.put_slice(bind.result_formats);
    frame::finish(out, mark)
}
