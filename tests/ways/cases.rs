//! What a case is: SQL that makes one way around the lens of `tests/ways.rs`, and SQL that walks it.

use std::ops::RangeInclusive;

use pgveil::catalog::ways::WayKind;

/// What the SQL that comes with a way may touch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Closes {
    /// Rights of the masked role.
    ForItAlone,
    /// Rights of others too.
    ForOthersToo,
    /// There is none.
    ByAPerson,
}

/// One way.
pub struct Case {
    /// For people.
    pub name: &'static str,
    /// Run as superuser on the clean base; `{m}` is the masked role.
    pub setup: &'static str,
    /// What is found, in order.
    pub kinds: &'static [WayKind],
    /// The hardest of them.
    pub closes: Closes,
    /// Run as the masked role it returns something hidden; `None` where no SQL in this transaction can.
    pub proof: Option<&'static str>,
    /// Major versions of PostgreSQL that have it.
    pub versions: RangeInclusive<u32>,
    /// An extension.
    pub needs: Option<&'static str>,
}

/// Every version that is served.
pub const ANY: RangeInclusive<u32> = 15..=99;

/// A case of every version; an empty proof is none.
pub const fn case(
    name: &'static str,
    kinds: &'static [WayKind],
    closes: Closes,
    setup: &'static str,
    proof: &'static str,
) -> Case {
    let proof = if proof.is_empty() { None } else { Some(proof) };
    Case { name, setup, kinds, closes, proof, versions: ANY, needs: None }
}

impl Case {
    /// From that major version on.
    pub const fn since(mut self, major: u32) -> Self {
        self.versions = major..=99;
        self
    }

    /// Up to that major version.
    pub const fn until(mut self, major: u32) -> Self {
        self.versions = 15..=major;
        self
    }

    /// With that extension.
    pub const fn needs(mut self, extension: &'static str) -> Self {
        self.needs = Some(extension);
        self
    }
}
