//! What the policy would have done to a statement if it were enforced: the log of `mode = "observe"`.
//!
//! In: names, codes, the planner's hints. Out: a member of the event. Never: a value, a message made of client bytes.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// What would have been otherwise; never empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Would {
    /// The PV code of the refusal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<Arc<str>>,
    /// The way out of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<Arc<str>>,
    /// The refusal ends once the role's lens is in the database; then the columns and rows below are what changes.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub until_lens: bool,
    /// Columns that would have been something else.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub columns: Vec<Changed>,
    /// `schema.table`: rows outside the role's filter would not have been there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub filtered: Vec<Arc<str>>,
    /// Places of the server's error or notice in which a value can stand would have been taken out.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub redacted: bool,
}

/// One column.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Changed {
    /// `schema.table`.
    pub relation: Arc<str>,
    /// Column name.
    pub column: Arc<str>,
    /// What it would have been.
    pub becomes: Becomes,
}

/// What a column would have been.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Becomes {
    /// Its mask.
    Masked,
    /// NULL.
    Null,
    /// Not there: PostgreSQL would have said that there is no such column.
    Gone,
    /// Not to be written: PostgreSQL would have refused.
    Unwritable,
}

impl Becomes {
    /// Each with its words, in the order in which they are told.
    pub const WORDS: [(Becomes, &'static str); 4] = [
        (Becomes::Masked, "masked"),
        (Becomes::Null, "null"),
        (Becomes::Gone, "not there"),
        (Becomes::Unwritable, "not writable"),
    ];
}

impl Would {
    /// Refused with that code.
    pub fn refused(code: &str, hint: &str) -> Self {
        Self { refused: Some(code.into()), hint: Some(hint.into()).filter(|_| !hint.is_empty()), ..Self::default() }
    }

    /// The columns that would have become that, each as `schema.table.column`.
    pub fn columns_that(&self, what: Becomes) -> Vec<String> {
        let found = self.columns.iter().filter(|changed| changed.becomes == what);
        found.map(|changed| format!("{}.{}", changed.relation, changed.column)).collect()
    }

    /// Everything in a few words, for one line.
    pub fn words(&self) -> String {
        let mut said = Vec::new();
        match &self.refused {
            Some(code) if self.until_lens => said.push(format!("refused {code} until its lens is there")),
            Some(code) => said.push(format!("refused {code}")),
            None => {}
        }
        for (becomes, words) in Becomes::WORDS {
            let columns = self.columns_that(becomes);
            if !columns.is_empty() {
                said.push(format!("{words}: {}", columns.join(", ")));
            }
        }
        if !self.filtered.is_empty() {
            said.push(format!("rows filtered: {}", self.filtered.join(", ")));
        }
        if self.redacted {
            said.push("error redacted".to_owned());
        }
        said.join("; ")
    }
}
