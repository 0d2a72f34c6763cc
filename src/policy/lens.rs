//! Lenses: for every role that may not see everything, the views that PostgreSQL itself enforces (DESIGN §6).
//!
//! In: checked policy, live catalog, levels and seals as compiled. Out: the text of each view, and a mark of that text by
//! which a view that somebody made earlier, or otherwise, is told apart. Never: I/O, a view that shows a column the
//! policy has not seen.

use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::checked::{Above, Column as Listed, Policy, Role, Table};
use super::rules::{ProtectedTable, SealedColumn};
use crate::mask::{Mask, sql as mask_sql};
use crate::sql::literal::quoted as literal;
use crate::sql::name::quoted;
use crate::sql::schema::{Column, Relation, Schema};

/// Who owns every lens: a role that nobody logs in as.
pub const OWNER: &str = "pgveil_lens";

/// How the names of lens schemas begin.
pub const PREFIX: &str = "pgveil_lens_";

/// Longest name in bytes (`NAMEDATALEN - 1`).
const NAME_BYTES_MAX: usize = 63;

/// One view of one role class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// The `[roles.…]` entry.
    pub role: Arc<str>,
    /// What the session must act for, or the view is empty; `None` for a role that has no choice.
    pub purpose: Option<Arc<str>>,
    /// The login or group that reads through it.
    pub grantee: Arc<str>,
    /// The table it stands for.
    pub base: u32,
    /// The schema it is in.
    pub schema: Arc<str>,
    /// The table's own name.
    pub name: Arc<str>,
    /// The schema of the table.
    pub base_schema: Arc<str>,
    /// Columns of the view, in order.
    pub columns: Vec<Shown>,
    /// Columns of the table that the role must not read as they are.
    pub hidden: Vec<i16>,
    /// Some rows do not exist for the role.
    pub filtered: bool,
    /// By writing it may learn of those that do not.
    pub accepts_existence: bool,
    /// It is for INSERT. Where rows are hidden no view is for INSERT and for UPDATE: ON CONFLICT DO UPDATE would read and
    /// change a hidden row, which PostgreSQL does not hold against the view's condition.
    pub inserts: bool,
    /// `select …`
    pub select: String,
    /// Of everything that makes the view what it is.
    pub mark: String,
}

/// One column of a view.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// Its name, in the table and in the view.
    pub name: Arc<str>,
    /// `attnum` in the table.
    pub attnum: i16,
    /// It is the column itself, so that it can be written.
    pub itself: bool,
}

impl View {
    /// It has a condition on rows, or on the session.
    pub fn conditional(&self) -> bool {
        self.filtered || self.purpose.is_some()
    }

    /// Whose it is, for people.
    pub fn whose(&self) -> String {
        match &self.purpose {
            Some(purpose) => format!("[roles.{}] for {purpose}", self.role),
            None => format!("[roles.{}]", self.role),
        }
    }

    /// The same for INSERT.
    fn for_inserts(&self) -> View {
        let schema = schema_name(&self.role, self.purpose.as_deref(), &self.base_schema, true).into();
        let mut view = View { schema, inserts: true, ..self.clone() };
        view.sign();
        view
    }

    fn sign(&mut self) {
        // What is granted on it differs, too.
        let kind = if self.conditional() { "\n-- insert elsewhere" } else { "" };
        let digest = Sha256::digest(format!("{}{kind}", self.create()).as_bytes());
        self.mark = format!("pgveil lens {}", hex::encode(&digest[..16]));
    }

    /// The statement that makes it.
    pub fn create(&self) -> String {
        let check = if self.conditional() { "\n  with cascaded check option" } else { "" };
        format!(
            "create view {}.{} with (security_barrier = true) as\n  {}{check}",
            quoted(&self.schema),
            quoted(&self.name),
            self.select
        )
    }
}

/// The lens schema of a role, or of one of its purposes, for the tables of one schema; `inserts`: of the views for INSERT.
/// A name that would be too long ends in a hash of itself.
pub fn schema_name(role: &str, purpose: Option<&str>, schema: &str, inserts: bool) -> String {
    let purpose = purpose.map(|purpose| format!("{purpose}_")).unwrap_or_default();
    let inserts = if inserts { "_insert" } else { "" };
    let name = format!("{PREFIX}{role}_{purpose}{schema}{inserts}");
    if name.len() <= NAME_BYTES_MAX {
        return name;
    }
    let hash = hex::encode(&Sha256::digest(name.as_bytes())[..8]);
    let room = NAME_BYTES_MAX - hash.len() - 1;
    let cut = (0..=room).rev().find(|at| name.is_char_boundary(*at)).unwrap_or(0);
    format!("{}_{hash}", &name[..cut])
}

/// What compiling has found out about the tables.
pub(super) struct Found<'a> {
    pub(super) policy: &'a Policy,
    pub(super) schema: &'a Schema,
    pub(super) tables: &'a HashMap<u32, Arc<ProtectedTable>>,
    pub(super) sealed: &'a HashMap<(u32, i16), Arc<SealedColumn>>,
}

impl Found<'_> {
    /// The views of one role: of every table that holds plaintext above its clearance, or rows it may not reach.
    /// `default_role` has none: nobody knows its logins.
    pub(super) fn views(&self, role: &Role) -> Vec<View> {
        self.views_of(role, None, &HashSet::new())
    }

    /// The views of a role that may act for several purposes, given as narrowed by each: whatever is hidden for one of
    /// them is a view for all, so that the table itself can be taken away.
    pub(super) fn views_by_purpose(&self, acting: &[(&str, Role)]) -> Vec<View> {
        let alone = acting.iter().flat_map(|(_, role)| self.views(role));
        let tables: HashSet<u32> = alone.map(|view| view.base).collect();
        acting.iter().flat_map(|(purpose, role)| self.views_of(role, Some(purpose), &tables)).collect()
    }

    fn views_of(&self, role: &Role, purpose: Option<&str>, always: &HashSet<u32>) -> Vec<View> {
        if role.name.value.is_empty() || role.export_sealed {
            return Vec::new();
        }
        let view = |table: &Arc<ProtectedTable>| self.view(role, purpose, table, always.contains(&table.oid));
        let mut views: Vec<View> = self.tables.values().filter_map(view).collect();
        let inserts: Vec<View> = views.iter().filter(|view| view.conditional()).map(View::for_inserts).collect();
        views.extend(inserts);
        views.sort_by(|a, b| (&a.schema, &a.name).cmp(&(&b.schema, &b.name)));
        views
    }

    /// The policy's entry of a table, or of the listed table that it is a partition or child of.
    pub(super) fn listed(&self, relation: &Relation) -> Option<&Table> {
        self.policy.table(&relation.schema, &relation.name).or_else(|| {
            self.policy.tables.iter().find(|table| {
                let parent = self.schema.named(&table.schema, &table.name);
                parent.is_some_and(|parent| parent.children.contains(&relation.oid))
            })
        })
    }

    fn view(&self, role: &Role, purpose: Option<&str>, table: &ProtectedTable, always: bool) -> Option<View> {
        let relation = self.schema.relation(table.oid)?;
        let listed = self.listed(relation)?;
        let plain_above = |column: &&Column| {
            let level = table.levels.get(&column.attnum).copied().unwrap_or(self.policy.default_level);
            level > role.clearance && !self.sealed.contains_key(&(table.oid, column.attnum))
        };
        let hidden: HashSet<i16> = relation.columns.iter().filter(plain_above).map(|column| column.attnum).collect();
        let condition = role.rows_of(listed);
        if hidden.is_empty() && condition.is_none() && !always {
            return None;
        }
        let mut columns = Vec::with_capacity(relation.columns.len());
        let mut select = "select ".to_owned();
        for column in &relation.columns {
            let entry = listed.columns.iter().find(|entry| entry.name.value == *column.name);
            let masked = self.masked(role, relation, column, entry, hidden.contains(&column.attnum));
            let Some(masked) = masked else { continue };
            let comma = if columns.is_empty() { "" } else { ", " };
            let name = quoted(&column.name);
            let _ = match &masked {
                Some(expression) => write!(select, "{comma}{expression} as {name}"),
                None => write!(select, "{comma}t.{name}"),
            };
            columns.push(Shown { name: column.name.clone(), attnum: column.attnum, itself: masked.is_none() });
        }
        let _ = write!(select, "\n  from {}.{} as t", quoted(&relation.schema), quoted(&relation.name));
        // In a query of its own: PostgreSQL asks once for a whole statement.
        let acts = purpose.map(|purpose| format!("(select pgveil.acts_for({}))", literal(purpose)));
        let conditions: Vec<String> = acts.into_iter().chain(condition.map(|text| format!("({text})"))).collect();
        if !conditions.is_empty() {
            let _ = write!(select, "\n  where {}", conditions.join(" and "));
        }
        let mut view = View {
            role: role.name.value.as_str().into(),
            purpose: purpose.map(Arc::from),
            grantee: role.member_of.as_ref().unwrap_or(&role.name).value.as_str().into(),
            base: table.oid,
            schema: schema_name(&role.name.value, purpose, &relation.schema, false).into(),
            name: relation.name.clone(),
            base_schema: relation.schema.clone(),
            columns,
            hidden: relation.columns.iter().map(|c| c.attnum).filter(|at| hidden.contains(at)).collect(),
            filtered: condition.is_some(),
            accepts_existence: role.accepts_existence,
            inserts: false,
            select,
            mark: String::new(),
        };
        view.sign();
        Some(view)
    }

    /// `None`: the column is not there. `Some(None)`: as it is. Else the expression that stands for it.
    #[allow(clippy::option_option, reason = "absent, itself, or an expression")]
    fn masked(
        &self,
        role: &Role,
        relation: &Relation,
        column: &Column,
        listed: Option<&Listed>,
        hidden: bool,
    ) -> Option<Option<String>> {
        let name = format!("t.{}", quoted(&column.name));
        let null = || Some(Some(format!("null::{}", column.type_name)));
        let mask = listed.map_or(&Mask::Null, |listed| &listed.mask);
        if let Some(sealed) = self.sealed.get(&(relation.oid, column.attnum)) {
            let above = sealed.level > role.clearance;
            let blank = role.above != Above::Mask || matches!(mask, Mask::Null | Mask::Remove);
            return if above && blank { null() } else { Some(None) };
        }
        if column.sealed.is_some() || !hidden {
            return Some(None);
        }
        match role.above {
            Above::Null => null(),
            Above::Deny => None,
            Above::Mask if *mask == Mask::Remove => None,
            Above::Mask => {
                let whose = format!("{}.{}", relation.qualified(), column.name);
                Some(Some(mask_sql::expression(mask, &column.type_name, &name, &whose)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schemas_have_names_that_postgresql_keeps_whole() {
        assert_eq!(schema_name("analyst", None, "public", false), "pgveil_lens_analyst_public");
        assert_eq!(schema_name("app", Some("care"), "public", true), "pgveil_lens_app_care_public_insert");
        let long = "é".repeat(30);
        let (a, b) = (schema_name(&long, None, "public", false), schema_name(&long, None, "publik", false));
        assert!(a.len() <= NAME_BYTES_MAX && b.len() <= NAME_BYTES_MAX && a != b, "{a} {b}");
        assert!(a.starts_with("pgveil_lens_éé"));
    }
}
