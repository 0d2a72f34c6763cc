//! Rows and people that nobody has a reason to look at: whoever does is not doing his work.
//!
//! In: pseudonyms of subject keys. Out: whether one of them is a canary. Never: a key.

use std::collections::HashSet;
use std::sync::Arc;

use crate::event::Pseudonym;

/// The pseudonyms of all canaries. Kinds never share one but by chance (2⁻¹²⁸). Cheap to clone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Canaries(Option<Arc<HashSet<Pseudonym>>>);

impl Canaries {
    /// There is none: nothing need be looked up.
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// That person is one.
    pub fn contains(&self, pseudonym: Pseudonym) -> bool {
        self.0.as_ref().is_some_and(|all| all.contains(&pseudonym))
    }
}

impl FromIterator<Pseudonym> for Canaries {
    fn from_iter<I: IntoIterator<Item = Pseudonym>>(all: I) -> Self {
        let all: HashSet<Pseudonym> = all.into_iter().collect();
        Self((!all.is_empty()).then(|| Arc::new(all)))
    }
}
