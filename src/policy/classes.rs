//! Roles → classes of actors: what each may see, search, store, and which plaintext columns are hidden from it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::checked::{Above, Policy, Role};
use super::grounds::Grounds;
use super::lens::{Found, View};
use super::observe;
use super::problem::suggest;
use super::purpose::Act;
use super::rules::{ActorClass, ByColumn, ClassId, Lens, ProtectedTable, SealedColumn, Treatment};
use crate::sql::schema::{RelKind, Relation, Schema};

type Tables = HashMap<u32, Arc<ProtectedTable>>;
type SealedAt = HashMap<(u32, i16), Arc<SealedColumn>>;

/// Who may do what.
pub(super) struct Classes {
    /// The first is `default_role`'s.
    pub(super) classes: Vec<ActorClass>,
    /// Logins that have one of their own.
    pub(super) class_of: HashMap<String, ClassId>,
    /// The views of all of them.
    pub(super) views: Vec<View>,
    pub(super) grounds: Grounds,
}

pub(super) fn build(
    policy: &Policy,
    schema: &Schema,
    tables: &Tables,
    sealed: &SealedAt,
    by_id: &ByColumn<Arc<SealedColumn>>,
    warnings: &mut Vec<String>,
) -> Classes {
    let found = Found { policy, schema, tables, sealed };
    let mut build = Build { found: &found, by_id, warnings, classes: Vec::new(), roles: Vec::new(), views: Vec::new() };
    build.role(&policy.default_role);
    let mut class_of: HashMap<String, ClassId> = HashMap::new();
    let mut groups = Vec::new();
    for role in &policy.roles {
        let Some(id) = build.role(role) else {
            let name = &role.name.value;
            let most = observe::classes_max(policy) - 1;
            build.warnings.push(format!("more than {most} classes of roles: {name} and later ones get default_role"));
            break;
        };
        warn_unknown(role, schema, build.warnings);
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
    let Build { classes, roles, views, .. } = build;
    let grounds = Grounds::of(&found, &roles);
    Classes { classes, class_of, views, grounds }
}

struct Build<'a> {
    found: &'a Found<'a>,
    by_id: &'a ByColumn<Arc<SealedColumn>>,
    warnings: &'a mut Vec<String>,
    classes: Vec<ActorClass>,
    /// What each class was made of.
    roles: Vec<Role>,
    views: Vec<View>,
}

impl Build<'_> {
    /// The role's own class, and one for each other purpose it may act for. `None`: there are too many.
    fn role(&mut self, role: &Role) -> Option<ClassId> {
        let purposes = role.purposes(&self.found.policy.purposes);
        let names: Vec<&str> = purposes.iter().map(|purpose| purpose.name.value.as_str()).collect();
        let narrowed = purposes.iter().map(|purpose| role.acting_for(purpose));
        let acting: Vec<(&str, Role)> = names.iter().copied().zip(narrowed).collect();
        let first = self.classes.len();
        if first + acting.len().max(1) > observe::classes_max(self.found.policy) {
            return None;
        }
        match acting.as_slice() {
            [] => self.class(role, None, self.found.views(role)),
            [(purpose, alone)] => self.class(alone, Some(purpose), self.found.views(alone)),
            several => {
                let views = self.found.views_by_purpose(several);
                for (purpose, role) in several {
                    let own = views.iter().filter(|view| view.purpose.as_deref() == Some(*purpose));
                    self.class(role, Some(purpose), own.cloned().collect());
                }
            }
        }
        let id = |at: usize| u16::try_from(first + at).map(ClassId).ok();
        let act = |(at, name): (usize, &&str)| Some(Act { purpose: Arc::from(*name), class: id(at)? });
        self.classes[first].acts = names.iter().enumerate().filter_map(act).collect();
        id(0)
    }

    fn class(&mut self, role: &Role, purpose: Option<&str>, views: Vec<View>) {
        let mut class = class(role, self.found, self.by_id);
        class.purpose = purpose.map(Arc::from);
        class.lens = lens(role, &views, self.found, self.warnings);
        if self.found.policy.observe.is_some() && class.lens.is_some() {
            self.warnings.push(observe::held(&class.role));
        }
        self.classes.push(class);
        self.roles.push(role.clone());
        self.views.extend(views);
    }
}

/// The role's lens, if all its views are in the database as the policy has them now.
fn lens(role: &Role, views: &[View], found: &Found<'_>, warnings: &mut Vec<String>) -> Option<Arc<Lens>> {
    if views.is_empty() {
        return None;
    }
    let schema = found.schema;
    let mut lens = Lens::default();
    for view in views {
        let real = schema.named(&view.schema, &view.name);
        match real.filter(|real| schema.lens_views.get(&real.oid).is_some_and(|mark| **mark == *view.mark)) {
            Some(real) if view.inserts => {
                lens.inserts.insert(view.base, (view.schema.clone(), real.oid));
            }
            Some(real) => {
                lens.schemas.insert(view.base_schema.clone(), view.schema.clone());
                lens.views.insert(view.base, real.oid);
            }
            None => {
                let until = match found.policy.observe {
                    None => "until then whatever SQL could show more than it may see is refused",
                    Some(_) => "do that once the policy enforces; without it SQL that could show more would be refused",
                };
                warnings.push(format!(
                    "[roles.{}]: its lens is not in the database as the policy has it: run `pgveil apply --lenses`; {until}",
                    role.name.value
                ));
                return None;
            }
        }
    }
    Some(Arc::new(lens))
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

fn class(role: &Role, found: &Found<'_>, by_id: &ByColumn<Arc<SealedColumn>>) -> ActorClass {
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
    let filtered = filtered(role, found);
    ActorClass {
        role: role.name.value.clone(),
        sealed: by_id.iter().map(|(id, column)| (*id, treatment(column))).collect(),
        may_search: ids(&may_search),
        may_write: ids(&may_write),
        hidden: hidden(role, found),
        refuses: role.refuses.clone(),
        max_rows: role.max_rows,
        filtered,
        lens: None,
        purpose: None,
        vouches: role.vouches.as_ref().map(|at| at.value),
        acts: Vec::new(),
    }
}

/// Relations of which the role may not reach every row: filtered tables, their partitions and children, the views over
/// them.
fn filtered(role: &Role, found: &Found<'_>) -> HashSet<u32> {
    let mut filtered: HashSet<u32> = HashSet::new();
    for table in found.policy.tables.iter().filter(|table| role.rows_of(table).is_some()) {
        let Some(relation) = found.schema.named(&table.schema, &table.name) else { continue };
        filtered.extend(relation.children.iter().chain([&relation.oid]));
    }
    let views = views(found.schema).filter(|view| view.reads.iter().any(|oid| filtered.contains(oid)));
    let views: Vec<u32> = views.map(|view| view.oid).collect();
    filtered.extend(views);
    filtered
}

/// Views and materialised views other than lenses.
fn views(schema: &Schema) -> impl Iterator<Item = &Arc<Relation>> {
    let view = |r: &&Arc<Relation>| matches!(r.kind, RelKind::View | RelKind::MatView);
    schema.relations.values().filter(view).filter(|r| !schema.lens_views.contains_key(&r.oid))
}

/// Plaintext columns above the role's clearance: of protected tables, of the tables' parents, and of views that show
/// them or show something that cannot be traced.
fn hidden(role: &Role, found: &Found<'_>) -> HashSet<(u32, i16)> {
    let mut hidden = HashSet::new();
    for table in found.tables.values() {
        let plain = table.levels.iter().filter(|(attnum, _)| !found.sealed.contains_key(&(table.oid, **attnum)));
        hidden.extend(plain.filter(|(_, level)| **level > role.clearance).map(|(attnum, _)| (table.oid, *attnum)));
    }
    let bases: HashSet<u32> = hidden.iter().map(|(oid, _)| *oid).collect();
    let mut seen = HashSet::new();
    for view in views(found.schema).filter(|view| view.reads.iter().any(|oid| bases.contains(oid))) {
        let covered = view.columns.iter().filter(|c| c.source.is_none_or(|source| hidden.contains(&source)));
        seen.extend(covered.map(|c| (view.oid, c.attnum)));
    }
    hidden.extend(seen);
    hidden
}
