//! The key that a plan asks for beside what the client asked for ([`crate::plan::SubjectFrom::Added`]).
//!
//! In: a Bind, rows with one cell more than the client knows of. Out: the Bind with a format for that cell, the cell, the row
//! without it. Never: that cell in what a client gets; a row that has none passed on.

use bytes::{BufMut, BytesMut};

use crate::error::{Code, Refusal};
use crate::plan::{Plan, Step};
use crate::wire::frame::{self, Overflow};
use crate::wire::message::{Bind, Reader};

use super::fields::Fields;

/// Bytes of a count of the protocol.
const COUNT: usize = 2;

/// The refusal of a result that is not what was asked for.
pub(super) fn malformed() -> Refusal {
    Refusal::new(Code::Protocol, "the server sent a malformed row", "look at the server's log")
}

fn adds(plan: &Plan) -> bool {
    plan.steps.first().and_then(Step::added_key).is_some()
}

/// Appends a Bind whose values stay as they are.
pub(super) fn append_bind(body: &[u8], bind: &Bind<'_>, plan: &Plan, out: &mut BytesMut) -> Result<(), Overflow> {
    let mark = frame::begin(out, b'B');
    out.put_slice(&body[..body.len() - COUNT - bind.result_formats.len()]);
    append_formats(bind.result_formats, plan, out);
    frame::finish(out, mark)
}

/// Appends result format codes. None, or one for all, holds for the key too. Of several there is one for each column,
/// and then text for the key; of any other number PostgreSQL complains, and still does with one more.
pub(super) fn append_formats(codes: &[u8], plan: &Plan, out: &mut BytesMut) {
    // A Bind has at most as many as its own count says.
    let count = u16::try_from(codes.len() / 2).unwrap_or(u16::MAX);
    let more = u16::from(count > 1 && count < u16::MAX && adds(plan));
    out.put_u16(count + more);
    out.put_slice(codes);
    out.put_slice(if more == 1 { &[0, 0] } else { &[] });
}

/// What a row says of its person.
pub(super) struct Keyed<'r> {
    /// The key's cell.
    pub key: Option<&'r [u8]>,
    /// Where in the row the cells end that are the client's.
    pub end: usize,
}

impl Fields {
    /// Looks for the key in a row. `None`: there is no cell for it, or another behind it.
    pub(super) fn keyed<'r>(&self, row: &'r [u8]) -> Option<Keyed<'r>> {
        let Some(subject) = &self.subject else { return Some(Keyed { key: None, end: row.len() }) };
        let mut r = Reader::new(row);
        let count = r.count().ok()?;
        for _ in 0..subject.index {
            r.value().ok()?;
        }
        let end = row.len() - r.rest().len();
        let key = r.value().ok()?;
        if !self.added {
            return Some(Keyed { key, end: row.len() });
        }
        (count == subject.index + 1 && r.end().is_ok()).then_some(Keyed { key, end })
    }

    /// How many cells the server's rows have.
    pub(super) fn cells_of_server(&self) -> usize {
        self.cells.len() + usize::from(self.added)
    }

    /// Appends a row that has nothing to open, without the key.
    pub(super) fn append_cut(&self, row: &[u8], end: usize, out: &mut BytesMut) -> Result<(), Overflow> {
        let mark = frame::begin(out, b'D');
        out.put_slice(&row[..end]);
        self.recount(out, mark);
        frame::finish(out, mark)
    }

    /// Puts the client's number of cells into the row begun at `mark`.
    pub(super) fn recount(&self, out: &mut BytesMut, mark: usize) {
        if self.added {
            // Fewer than the server's, which fit.
            let count = self.cells.len() as u16;
            out[mark + frame::HEADER..mark + frame::HEADER + COUNT].copy_from_slice(&count.to_be_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::fields::{Cell, SubjectField};
    use super::*;

    fn fields(added: bool) -> Fields {
        let subject = Some(SubjectField { kind: "user".into(), index: 1, type_oid: 25 });
        let (cells, formats) = (vec![Cell::Pass], vec![0, 0]);
        Fields {
            cells,
            formats,
            any: false,
            disagree: false,
            untyped: false,
            protected: true,
            subject,
            keys: Vec::new(),
            added,
        }
    }

    fn row(cells: &[&[u8]]) -> Vec<u8> {
        let mut row = (cells.len() as u16).to_be_bytes().to_vec();
        for cell in cells {
            row.extend_from_slice(&(cell.len() as u32).to_be_bytes());
            row.extend_from_slice(cell);
        }
        row
    }

    #[test]
    fn only_the_last_of_as_many_cells_as_were_asked_for_is_the_key() {
        let whole = row(&[b"a", b"7"]);
        let keyed = fields(true).keyed(&whole).unwrap();
        assert_eq!((keyed.key, keyed.end), (Some(&b"7"[..]), 7));
        let mut out = BytesMut::new();
        fields(true).append_cut(&whole, keyed.end, &mut out).unwrap();
        assert_eq!(out[..], *b"D\0\0\0\x0b\0\x01\0\0\0\x01a");
        assert_eq!(fields(false).keyed(&whole).map(|keyed| keyed.end), Some(whole.len()));
        for cells in [&[][..], &[&b"7"[..]], &[b"a", b"7", b"8"]] {
            assert!(fields(true).keyed(&row(cells)).is_none());
        }
        for cut in 0..whole.len() {
            assert!(fields(true).keyed(&whole[..cut]).is_none());
        }
        let mut more = whole.clone();
        more.push(0);
        assert!(fields(true).keyed(&more).is_none());
    }
}
