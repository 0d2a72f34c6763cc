//! Pure mask functions: the founding documents' formats byte for byte, NULL stays NULL.
//!
//! In: a value's text. Out: the masked text. Never: keys, policy.

use std::sync::Arc;

/// The mask of a column (vectors in `shared/vectors/masks.tsv`).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the names are the policy's")]
pub enum Mask {
    Email,
    Phone,
    Name,
    Date,
    Id,
    Remove,
    Null,
    Fixed(Arc<str>),
    Partial { keep_start: u16, keep_end: u16 },
    Last4,
}
/// Seam only: the values engineer's masks replace this.
pub fn apply(_m: &Mask, _k: crate::wire::types::Kind, _t: &str) -> Option<String> {
    None
}
/// Seam only: the values engineer's masks replace this.
pub fn apply_id(_k: crate::wire::types::Kind, _t: &str) -> Option<String> {
    None
}
