//! Roles → classes of actors: what each may see, search, store, and which plaintext columns are hidden from it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::checked::{Above, Policy, Role};
use super::problem::suggest;
use super::rules::{ActorClass, ByColumn, ClassId, ProtectedTable, SealedColumn, Treatment};
use crate::sql::schema::{RelKind, Relation, Schema};

type Tables = HashMap<u32, Arc<ProtectedTable>>;
type SealedAt = HashMap<(u32, i16), Arc<SealedColumn>>;

/// All classes (the first is `default_role`'s) and the logins that have one of their own.
pub(super) fn build(
    policy: &Policy,
    schema: &Schema,
    tables: &Tables,
    sealed: &SealedAt,
    by_id: &ByColumn<Arc<SealedColumn>>,
    warnings: &mut Vec<String>,
) -> (Vec<ActorClass>, HashMap<String, ClassId>) {
    let mut classes = vec![class(&policy.default_role, schema, tables, sealed, by_id)];
    let mut class_of: HashMap<String, ClassId> = HashMap::new();
    let mut groups = Vec::new();
    for role in &policy.roles {
        let Ok(id) = u16::try_from(classes.len()).map(ClassId) else {
            warnings.push(format!("more than 65535 roles: {} and later ones get default_role", role.name.value));
            break;
        };
        classes.push(class(role, schema, tables, sealed, by_id));
        warn_unknown(role, schema, warnings);
        match &role.member_of {
            Some(group) => groups.push((role, group.value.as_str(), id)),
            None => {
                class_of.insert(role.name.value.clone(), id);
            }
        }
    }
    // A login in several groups gets the lowest clearance of them, so that a grant in PostgreSQL never widens a view.
    groups.sort_by_key(|(role, _, id)| (role.clearance, id.0));
    for (_, group, id) in groups {
        for (login, _) in schema.roles.iter().filter(|(_, role)| role.member_of.iter().any(|g| g == group)) {
            class_of.entry(login.clone()).or_insert(id);
        }
    }
    (classes, class_of)
}

fn warn_unknown(role: &Role, schema: &Schema, warnings: &mut Vec<String>) {
    let named = role.member_of.as_ref().unwrap_or(&role.name);
    match schema.roles.get(&named.value) {
        None => {
            let hint = suggest(&named.value, schema.roles.keys().map(String::as_str), "it may be created later");
            let hint = hint.unwrap_or_default();
            warnings.push(format!("[roles.{}]: PostgreSQL has no role {} ({hint})", role.name.value, named.value));
        }
        Some(real) if real.superuser => warnings.push(format!(
            "[roles.{}]: {} is a superuser, so only pgveil stands between it and plaintext columns",
            role.name.value, named.value
        )),
        Some(_) => {}
    }
}

fn class(
    role: &Role,
    schema: &Schema,
    tables: &Tables,
    sealed: &SealedAt,
    by_id: &ByColumn<Arc<SealedColumn>>,
) -> ActorClass {
    let cleared = |column: &SealedColumn| column.level <= role.clearance;
    let treatment = |column: &SealedColumn| match role.above {
        _ if role.export_sealed => Treatment::Sealed,
        _ if cleared(column) => Treatment::Clear,
        Above::Mask => Treatment::Mask,
        Above::Null => Treatment::Null,
        Above::Deny => Treatment::Deny,
    };
    let may_search = |c: &SealedColumn| cleared(c) && !role.export_sealed;
    let may_write = |c: &SealedColumn| role.write.unwrap_or(cleared(c) && !role.export_sealed);
    let ids = |allowed: &dyn Fn(&SealedColumn) -> bool| -> HashSet<u32> {
        by_id.iter().filter(|(_, c)| allowed(c)).map(|(id, _)| *id).collect()
    };
    ActorClass {
        role: role.name.value.clone(),
        sealed: by_id.iter().map(|(id, column)| (*id, treatment(column))).collect(),
        may_search: ids(&may_search),
        may_write: ids(&may_write),
        hidden: hidden(role, schema, tables, sealed),
    }
}

/// Plaintext columns above the role's clearance: of protected tables, of the tables' parents, and of views that show
/// them or show something that cannot be traced.
fn hidden(role: &Role, schema: &Schema, tables: &Tables, sealed: &SealedAt) -> HashSet<(u32, i16)> {
    let mut hidden = HashSet::new();
    for table in tables.values() {
        let plain = table.levels.iter().filter(|(attnum, _)| !sealed.contains_key(&(table.oid, **attnum)));
        hidden.extend(plain.filter(|(_, level)| **level > role.clearance).map(|(attnum, _)| (table.oid, *attnum)));
    }
    let bases: HashSet<u32> = hidden.iter().map(|(oid, _)| *oid).collect();
    let through = |r: &&Arc<Relation>| {
        matches!(r.kind, RelKind::View | RelKind::MatView) && r.reads.iter().any(|oid| bases.contains(oid))
    };
    let mut views = HashSet::new();
    for view in schema.relations.values().filter(through) {
        let covered = view.columns.iter().filter(|c| c.source.is_none_or(|source| hidden.contains(&source)));
        views.extend(covered.map(|c| (view.oid, c.attnum)));
    }
    hidden.extend(views);
    hidden
}
