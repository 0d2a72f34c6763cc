//! Why: what the policy says of a column or role, and where. For people who ask; nothing is decided by it.
//!
//! In: what compiling has found out. Out: [`Grounds`]. Never: a decision, a value.

use std::collections::HashMap;
use std::sync::Arc;

use super::checked::{Above, Role};
use super::lens::Found;
use super::problem::Place;
use super::rules::{ClassId, Level};
use crate::mask::Mask;

/// What the policy says, and where.
#[derive(Clone, Debug, Default)]
pub struct Grounds {
    /// Listed columns of protected tables, partitions and children included, by (relation oid, attnum).
    columns: HashMap<(u32, i16), ColumnGround>,
    /// Index = [`ClassId`].
    classes: Vec<RoleGround>,
    /// Where `default_level` stands, if it is written.
    default_level: Option<Place>,
}

/// What the policy says of a listed column.
#[derive(Clone, Debug)]
pub struct ColumnGround {
    /// Its level.
    pub level: Level,
    /// What it is for those who may not see it.
    pub mask: Mask,
    /// Where the column is listed.
    pub place: Place,
}

/// What the policy says of a role.
#[derive(Clone, Debug)]
pub struct RoleGround {
    /// `[roles.…]` or `default_role`.
    pub entry: Arc<str>,
    /// Where it stands; of a `default_role` that nobody wrote, the policy.
    pub place: Place,
    /// Levels up to this are clear.
    pub clearance: Level,
    /// What it gets above.
    pub above: Above,
    /// Relation → the condition on its rows, and where that stands.
    pub rows: HashMap<u32, (Arc<str>, Place)>,
}

impl Grounds {
    /// `roles`: what each class was made of.
    pub(super) fn of(found: &Found<'_>, roles: &[Role]) -> Self {
        let mut columns = HashMap::new();
        for table in found.tables.values() {
            let Some(relation) = found.schema.relation(table.oid) else { continue };
            let Some(listed) = found.listed(relation) else { continue };
            for entry in &listed.columns {
                let Some(column) = relation.column(&entry.name.value) else { continue };
                let place = entry.name.place.clone();
                let ground = ColumnGround { level: entry.level, mask: entry.mask.clone(), place };
                columns.insert((table.oid, column.attnum), ground);
            }
        }
        let classes = roles.iter().map(|role| RoleGround::of(role, found)).collect();
        Self { columns, classes, default_level: found.policy.default_level_place.clone() }
    }

    /// Of a listed column; `None`: it has `default_level`.
    pub fn column(&self, relation: u32, attnum: i16) -> Option<&ColumnGround> {
        self.columns.get(&(relation, attnum))
    }

    /// Of a class.
    pub fn class(&self, id: ClassId) -> Option<&RoleGround> {
        self.classes.get(usize::from(id.0))
    }

    /// Where `default_level` stands, if it is written.
    pub fn default_level(&self) -> Option<&Place> {
        self.default_level.as_ref()
    }
}

impl RoleGround {
    fn of(role: &Role, found: &Found<'_>) -> Self {
        let mut rows = HashMap::new();
        for table in found.tables.values() {
            let Some(listed) = found.schema.relation(table.oid).and_then(|relation| found.listed(relation)) else {
                continue;
            };
            let name = listed.qualified();
            if let Some(filter) = role.rows.iter().find(|filter| filter.table.value == name) {
                rows.insert(table.oid, (filter.condition.clone(), filter.table.place.clone()));
            }
        }
        let entry = match role.name.value.as_str() {
            "" => "default_role".into(),
            name => format!("[roles.{name}]").into(),
        };
        Self { entry, place: role.name.place.clone(), clearance: role.clearance, above: role.above, rows }
    }
}
