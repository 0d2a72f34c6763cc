//! Drafts for authorities and for the people concerned, from the access log and an incident's history alone.
//!
//! In: an incident, its evidence, what the policy says about columns, who we are. Out: Markdown that a person completes
//! and sends. Never: a value, a person, a number that the log does not hold; what nobody knows is said to be unknown.

mod art33;
mod art34;
mod local;
mod words;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

pub use art33::art33;
pub use art34::art34;
pub use local::{evidence, synthetic};

use crate::detect::evidence::{Evidence, Light};
use crate::policy::{Policy, level_name};
use crate::store::incidents::{Change, Incident, SignalOf};

/// `[organization]`
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Organization {
    /// The controller.
    pub name: Option<String>,
    /// Where the authority can ask.
    pub contact: Option<String>,
    /// The data protection officer.
    pub dpo: Option<String>,
}

/// What the policy says about a column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Category {
    /// `restricted` and so on.
    pub level: &'static str,
    /// `phi` and so on.
    pub data: Option<&'static str>,
}

/// By `schema.table` and column.
pub type Categories = BTreeMap<(String, String), Category>;

/// Everything a draft is made of.
#[derive(Debug)]
pub struct Facts<'a> {
    /// The incident.
    pub incident: &'a Incident,
    /// Its alerts.
    pub signals: &'a [SignalOf],
    /// What was done about it.
    pub history: &'a [Change],
    /// What the log has about it.
    pub evidence: &'a Evidence,
    /// How the actor was established, in the log's words.
    pub auth: &'a [String],
    /// The end of the time that the evidence is of.
    pub until_us: i64,
    /// What the policy says now.
    pub categories: &'a Categories,
    /// Who reports.
    pub organization: &'a Organization,
    /// When the draft was made.
    pub now_us: i64,
}

impl Facts<'_> {
    /// The kinds of data among the columns that were shown or written.
    fn data(&self) -> BTreeSet<&'static str> {
        let touched = self.evidence.columns.keys();
        touched.filter_map(|column| self.categories.get(column)?.data).collect()
    }
}

/// Those whose showing in clear is no matter by itself.
pub fn light(categories: &Categories) -> Light {
    let low = |category: &Category| matches!(category.level, "public" | "internal");
    categories.iter().filter(|(_, category)| low(category)).map(|(column, _)| column.clone()).collect()
}

/// The columns that a policy names.
pub fn categories(policy: &Policy) -> Categories {
    let mut found = Categories::new();
    for table in &policy.tables {
        for column in &table.columns {
            let data = column.data.map(|tag| tag.word());
            let category = Category { level: level_name(column.level), data };
            found.insert((table.qualified(), column.name.value.clone()), category);
        }
    }
    found
}
