//! Seam only: the plan engineer's cache replaces this file.

use super::{Decision, Refused, Request, Shape};
use crate::error::{Code, Refusal};
use std::sync::Arc;

impl Cache {
    /// Empty.
    pub fn new(_capacity: usize) -> Self {
        Self
    }
}

/// Bounded decisions.
#[derive(Debug)]
pub struct Cache;

impl Cache {
    /// Decides.
    pub fn decide(&self, _request: &Request<'_>) -> Decision {
        Decision::Refuse(Refused {
            refusal: Refusal::new(Code::Internal, "no planner in this build", ""),
            touches: Arc::from([]),
            shape: Arc::new(Shape { fingerprint: Arc::from(""), text: Arc::from("") }),
        })
    }
}
