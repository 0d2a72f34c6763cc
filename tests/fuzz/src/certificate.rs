//! Certificates in DER: a name is text without a NUL, and what is torn names nobody and binds to nothing.

use pgveil::wire::certificate::{EndPoint, common_name};

/// One input.
pub fn run(data: &[u8]) {
    let name = common_name(data);
    assert!(name.is_none_or(|name| !name.is_empty() && !name.contains('\0') && name.len() < data.len()));
    let bound = EndPoint::of(data);
    assert!(bound.is_none_or(|end_point| (28..=64).contains(&end_point.bytes().len())));
    if let Some(torn) = data.len().checked_sub(1).map(|length| &data[..length]) {
        assert!(bound.is_none() || EndPoint::of(torn).is_none());
        assert!(name.is_none() || common_name(torn).is_none());
    }
}
