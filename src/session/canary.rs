//! Canaries among the rows released.
//!
//! In: rows with fields that are subject keys by their origin, whatever the statement: SELECT *, a join, a cursor. Out:
//! counts. Never: a key kept, a look at rows when the policy names no canary.

use super::Context;
use super::fields::{Fields, SubjectField, subject_key};
use super::record::Tally;
use super::walk::Key;
use crate::event::Subject;
use crate::policy::rules::Rules;
use crate::wire::message::{self, FieldDescription, Reader};

/// Canaries of one step.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Canaried {
    rows: u64,
    named: bool,
}

impl Canaried {
    /// A row was released.
    pub(super) fn row(&mut self, canary: bool) {
        self.rows += u64::from(canary);
    }

    /// The statement names one.
    pub(super) fn named(&mut self, canary: bool) {
        self.named |= canary;
    }

    /// Rows that are canaries: those that say so, else all of the `rows` of a statement that names one.
    pub(super) fn rows(self, rows: u64) -> u64 {
        if self.rows == 0 && self.named { rows } else { self.rows }
    }
}

/// The field, if it is a column of a table, or of a view over one, that holds the subject's key.
pub(super) fn key(index: usize, field: &FieldDescription<'_>, rules: &Rules) -> Option<SubjectField> {
    if field.table == 0 {
        return None;
    }
    let subject = |table: u32, attnum: i16| {
        let subject = rules.tables.get(&table)?.subject.as_ref()?;
        (subject.attnum == attnum).then(|| subject.kind.clone())
    };
    let source = || rules.schema.relation(field.table)?.column_at(field.attnum)?.source;
    let kind = subject(field.table, field.attnum).or_else(|| source().and_then(|(table, at)| subject(table, at)))?;
    Some(SubjectField { kind, index, type_oid: field.type_oid })
}

impl Tally {
    /// People whom the statement names, by keys of which that is the one integer.
    pub(super) fn named(&mut self, people: &[Subject], key: Key, cx: &Context<'_>) {
        self.key = key;
        for who in people {
            self.canaries.named(cx.rules.detect.canaries.contains(who.pseudonym));
            self.person(who.clone());
        }
    }

    /// Whose row is copied, by that key.
    pub(super) fn copied(&mut self, who: Subject, key: &[u8], cx: &Context<'_>) {
        self.key.see(key);
        self.canaries.row(cx.rules.detect.canaries.contains(who.pseudonym));
        self.person(who);
    }

    /// A row is about to be released.
    pub(super) fn note_canaries(&mut self, fields: &Fields, body: &[u8], formats: &[u8], cx: &Context<'_>) {
        let mut keys = fields.keys.iter().peekable();
        let mut r = Reader::new(body);
        let Ok(count) = r.count() else { return };
        let mut canary = false;
        for index in 0..count {
            let Some(field) = keys.peek() else { break };
            let Ok(value) = r.value() else { break };
            if field.index != index {
                continue;
            }
            let format = message::format_at(formats, index).unwrap_or_default();
            if let Some(key) = value.and_then(|value| subject_key(value, field.type_oid, format)) {
                canary |= cx.rules.detect.canaries.contains(cx.keyring.subject_pseudonym(&field.kind, &key));
            }
            keys.next();
        }
        self.canaries.row(canary);
    }
}
