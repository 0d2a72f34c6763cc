//! COPY.

use std::ops::Range;

use super::decide::{Text, unread_step};
use super::refuse;
use super::{Step, Touched};
use crate::error::Refusal;

impl Text<'_> {
    /// COPY of a protected table, or of a query.
    pub(super) fn copy(&mut self, range: Range<usize>, named: bool, _: &mut Vec<Touched>) -> Result<Step, Refusal> {
        if named || self.restricted {
            return Err(refuse::unreadable("COPY"));
        }
        Ok(unread_step(self.request, self.tokens, range))
    }
}
