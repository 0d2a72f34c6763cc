//! Who is behind a login that several people share.
//!
//! In: what a certificate, an application that may vouch, or a client says. Out: a name, how it is known, and by whose
//! name the detector counts. Never: a right.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::Actor;

/// A person, and how that is known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Person {
    /// A keyed pseudonym of 32 hex digits; as it was said, where the policy wants vouched persons in clear.
    pub person: String,
    /// What that rests on.
    pub person_by: PersonBy,
}

/// What a person's name rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PersonBy {
    /// The client's certificate, of an authority in `[listen] tls client_ca`.
    Certificate,
    /// A token signed by an application that the policy lets vouch.
    Vouched,
    /// The client's word, in a comment.
    Asserted,
}

impl Actor {
    /// By whose name windows count: the person's, if it is more than the client's word, else the login's. No login's name
    /// begins with a zero byte.
    pub fn accountable(&self) -> Cow<'_, str> {
        match &self.person {
            Some(known) if known.person_by != PersonBy::Asserted => Cow::Owned(format!("\0{}", known.person)),
            _ => Cow::Borrowed(&self.role),
        }
    }
}
