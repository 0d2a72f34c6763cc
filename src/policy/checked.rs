//! A policy as it was meant: every default filled in, every word understood, every place remembered.

use std::collections::HashMap;
use std::sync::Arc;

use super::problem::{At, Place};
use super::purpose::Pattern;
use super::rules::{Copies, Level, Mode, OnFailure, Persons, StatementClass};
use super::voucher::Voucher;
use crate::detect::{Hours, Thresholds};
use crate::mask::Mask;
use crate::wire::types::SqlType;

/// A checked policy, not yet compared with a database.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Where `mode = "observe"` stands, if it does: what would hide plaintext is decided and logged, and not done.
    pub observe: Option<Place>,
    /// Level of columns that a listed table has and the policy does not list.
    pub default_level: Level,
    /// Where that is written, if it is.
    pub default_level_place: Option<Place>,
    /// What each level demands.
    pub levels: Levels,
    /// In the order of the files.
    pub tables: Vec<Table>,
    /// In the order of the files.
    pub roles: Vec<Role>,
    /// For logins without an entry.
    pub default_role: Role,
    /// `[purposes]`, in the order of the files.
    pub purposes: Vec<Purpose>,
    /// `[vouchers]`, in the order of the files.
    pub vouchers: Vec<Voucher>,
    /// `[functions] reviewed`: (schema, name), exact, all overloads.
    pub reviewed: Vec<(String, String)>,
    /// `copies`: what becomes of a table made of a protected plaintext column.
    pub copies: Copies,
    /// `[detect]`
    pub detect: Thresholds,
    /// `[detect.calendars]` by name.
    pub calendars: HashMap<String, Arc<Hours>>,
    /// Changes with the text of the files: the first 64 bits of its SHA-256, 16 hex digits.
    pub digest: String,
    /// Allowed, but worth reading.
    pub warnings: Vec<String>,
}

impl Policy {
    /// The listed table of that exact `schema.table`.
    pub fn table(&self, schema: &str, name: &str) -> Option<&Table> {
        self.tables.iter().find(|table| table.schema == schema && table.name == name)
    }

    /// The listed column of that exact `schema.table.column`.
    pub fn column(&self, full: &str) -> Option<(&Table, &Column)> {
        self.tables.iter().find_map(|table| {
            let rest = full.strip_prefix(&table.schema)?.strip_prefix('.')?;
            let column = rest.strip_prefix(&table.name)?.strip_prefix('.')?;
            table.columns.iter().find(|c| c.name.value == column).map(|c| (table, c))
        })
    }
}

/// What one level demands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Demands {
    /// Listed columns of this level must be encrypted.
    pub encryption_required: bool,
    /// Access must be logged. Access to a protected table always is.
    pub access_logging: bool,
    /// Actors without clearance see masks, never values. They always do.
    pub anonymization_required: bool,
    /// Not enforced by this version.
    pub consent_required: bool,
    /// ISO 8601 calendar period; not enforced by this version.
    pub retention: Option<String>,
    /// Not enforced by this version.
    pub audit_frequency: Option<AuditFrequency>,
}

/// `audit_frequency`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "plain words")]
pub enum AuditFrequency {
    Monthly,
    Quarterly,
    Annually,
}

/// The demands of all four levels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Levels {
    /// Indexed by [`Level`].
    demands: [Demands; 4],
}

impl Levels {
    /// What that level demands.
    pub fn of(&self, level: Level) -> &Demands {
        &self.demands[level as usize]
    }

    pub(super) fn of_mut(&mut self, level: Level) -> &mut Demands {
        &mut self.demands[level as usize]
    }
}

impl Default for Levels {
    /// The founding documents' flags for the demands this version enforces; the others must be written.
    fn default() -> Self {
        let demands = |encryption, logging, anonymization| Demands {
            encryption_required: encryption,
            access_logging: logging,
            anonymization_required: anonymization,
            ..Demands::default()
        };
        Self {
            demands: [
                demands(false, false, false),
                demands(false, true, false),
                demands(true, true, false),
                demands(true, true, true),
            ],
        }
    }
}

/// `[tables."schema.table"]`
#[derive(Clone, Debug)]
pub struct Table {
    /// `nspname`, exact.
    pub schema: String,
    /// `relname`, exact.
    pub name: String,
    /// Where it is listed.
    pub place: Place,
    /// Whose rows they are.
    pub subject: Option<Subject>,
    /// Keys of people in it that nobody has a reason to look at.
    pub canaries: Vec<At<Canary>>,
    /// Listed columns.
    pub columns: Vec<Column>,
    /// Its triggers never look at sealed columns; somebody has checked.
    pub triggers_reviewed: bool,
}

impl Table {
    /// `schema.table`.
    pub fn qualified(&self) -> String {
        format!("{}.{}", self.schema, self.name)
    }
}

/// `subject = { kind = "user", key = "id" }`
#[derive(Clone, Debug)]
pub struct Subject {
    /// `user`, `patient`, …
    pub kind: Arc<str>,
    /// Column of this table that holds the person's key.
    pub key: At<String>,
}

/// A canary's subject key as it is written.
#[derive(Clone, PartialEq, Eq)]
pub struct Canary(Box<str>);

impl Canary {
    /// Takes the text over.
    pub fn new(text: String) -> Self {
        Self(text.into())
    }

    /// The text, for what makes its pseudonym.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Canary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Canary(…)")
    }
}

/// One listed column.
#[derive(Clone, Debug)]
pub struct Column {
    /// `attname`, exact.
    pub name: At<String>,
    /// Its level.
    pub level: Level,
    /// What kind of data.
    pub data: Option<DataTag>,
    /// How it is encrypted, if it is.
    pub sealing: Option<Sealing>,
    /// What actors without clearance see; NULL when nothing is written.
    pub mask: Mask,
}

/// `data = "…"`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are the founding documents'")]
pub enum DataTag {
    Phi,
    Pii,
    Financial,
    Biometric,
    Behavioral,
}

impl DataTag {
    /// As the policy writes it.
    pub fn word(self) -> &'static str {
        super::words::DATA.iter().find(|(_, tag)| *tag == self).map_or("", |(word, _)| word)
    }
}

/// `encrypt = "…"` and what goes with it.
#[derive(Clone, Debug)]
pub struct Sealing {
    /// How.
    pub mode: Mode,
    /// `as`: the logical type; `None` = the type the column has when `pgveil apply` seals it.
    pub ty: Option<At<SqlType>>,
    /// What a client gets when a cell does not open.
    pub on_failure: OnFailure,
    /// The column's former `schema.table.column`.
    pub was: Option<At<String>>,
    /// `schema.table.column` whose column id it shares.
    pub same_as: Option<At<String>>,
    /// `accept_leakage = ["equality"]`.
    pub accepts_equality: bool,
    /// Where `encrypt` stands.
    pub place: Place,
}

/// What an actor gets of columns above its clearance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are the policy's")]
pub enum Above {
    Mask,
    Null,
    Deny,
}

/// `[roles.…]` or `default_role`.
#[derive(Clone, Debug)]
pub struct Role {
    /// A PostgreSQL login, or a label when `member_of` is given; empty for `default_role`.
    pub name: At<String>,
    /// The group whose members it is for.
    pub member_of: Option<At<String>>,
    /// Levels up to this are clear.
    pub clearance: Level,
    /// What it gets above.
    pub above: Above,
    /// May store into sealed columns: `None` = those within clearance, else all or none.
    pub write: Option<bool>,
    /// `export = "sealed"`: gets envelopes instead of values.
    pub export_sealed: bool,
    /// `[roles.….rows]`: which rows of a table it may reach.
    pub rows: Vec<RowFilter>,
    /// `refuse = […]`: statements it may not send.
    pub refuses: Vec<StatementClass>,
    /// `max_rows`: most rows that one statement may release; `None`: as many as there are.
    pub max_rows: Option<u64>,
    /// `accept_leakage = ["existence"]`: by writing it may learn which hidden rows and values exist.
    pub accepts_existence: bool,
    /// `purpose`: what it acts for when nothing is claimed.
    pub purpose: Option<At<String>>,
    /// `calendar`: when it may work, by `[detect.calendars]`.
    pub calendar: Option<At<String>>,
    /// `peers`: the group that its behaviour is compared with; `None`: those with the same entry.
    pub peers: Option<Arc<str>>,
    /// `purposes`: what it may claim to act for.
    pub purposes: Vec<At<String>>,
    /// `vouches`, `persons`: it may say who is behind it, and how that is logged.
    pub vouches: Option<At<Persons>>,
}

/// `[purposes.…]`: what data is used for.
#[derive(Clone, Debug)]
pub struct Purpose {
    /// Its name.
    pub name: At<String>,
    /// Levels up to this are clear for it, to whoever acts for it and is cleared for them.
    pub clearance: Option<Level>,
    /// Which rows of a table it may reach.
    pub rows: Vec<RowFilter>,
    /// It is for emergencies: its use is an alert.
    pub break_glass: bool,
    /// `application_name`: clients that call themselves so act for it.
    pub applications: Vec<Pattern>,
    /// `[purposes.….comment]`: statements with such a tag in a comment act for it.
    pub tags: Vec<(String, Pattern)>,
}

/// `"public.users" = "closed_at is null"`
#[derive(Clone, Debug)]
pub struct RowFilter {
    /// The listed `schema.table`.
    pub table: At<String>,
    /// An SQL condition on a row of it; only rows for which it is true exist for the role.
    pub condition: Arc<str>,
}

impl Role {
    /// The condition on rows of that listed table.
    pub fn rows_of(&self, table: &Table) -> Option<&Arc<str>> {
        let name = table.qualified();
        self.rows.iter().find(|filter| filter.table.value == name).map(|filter| &filter.condition)
    }
}
