//! Checked policy + live catalog + column ids → rules.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::canary;
use super::checked::{Column as Listed, Policy, Sealing, Table};
use super::classes::{self, Classes};
use super::code;
use super::functions::Functions;
use super::observe::{self, Observe};
use super::problem::{Place, Problem, suggest};
use super::readers::Readers;
use super::rules::{ActorClass, ByColumn, ClassId, Level, Mode, ProtectedTable, Rules, SealedColumn, SubjectKey};
use super::types;
use super::words::{level_name, mode_name};
use crate::detect::Thresholds;
use crate::event::Pseudonym;
use crate::sql::schema::{Column, RelKind, Relation, Schema};
use crate::wire::types::SqlType;

/// The keyring's id of a `schema.table.column`, and how its cells are sealed.
pub type Ids<'a> = &'a dyn Fn(&str) -> Option<(u32, Mode)>;

/// Compares the policy with the catalog and fills in everything that decisions need. `ids` is the keyring's
/// `schema.table.column` → column id.
///
/// # Errors
/// Every contradiction between policy, catalog and keyring. What only waits for `pgveil apply` is a warning.
pub fn compile(policy: &Policy, schema: Arc<Schema>, ids: Ids<'_>, version: u64) -> Result<Rules, Vec<Problem>> {
    let mut build = Build {
        policy,
        schema: &schema,
        ids,
        problems: Vec::new(),
        warnings: policy.warnings.clone(),
        tables: HashMap::new(),
        sealed: HashMap::new(),
        by_id: ByColumn::default(),
        owners: HashMap::new(),
    };
    for table in &policy.tables {
        build.table(table);
    }
    build.relatives();
    build.unlisted_seals();
    // Their pseudonyms are the keyring's: whoever has it makes them.
    if let Err(found) = canary::canaries(policy, &schema, &|_, _| Pseudonym(0)) {
        build.problems.extend(found);
    }
    let Build { problems, mut warnings, tables, sealed, by_id, .. } = build;
    if !problems.is_empty() {
        return Err(problems);
    }
    let names = names(&schema, &tables);
    let Classes { mut classes, class_of, views, grounds } =
        classes::build(policy, &schema, &tables, &sealed, &by_id, &mut warnings);
    let observe = policy.observe.clone().map(|place| {
        classes = observe::classes(std::mem::take(&mut classes), &views);
        Observe { place, sealed_names: self::names(&schema, &HashMap::new()) }
    });
    let hidden = classes.iter().flat_map(|class| class.hidden.iter().copied()).collect();
    let code = code::build(policy, &schema, &hidden, &mut warnings);
    warnings.extend(Functions::warning(schema.server_version));
    warnings.sort();
    warnings.dedup();
    let (detect, reviewed, purposes) = (policy.detect.clone(), policy.reviewed.clone(), policy.purposes.clone());
    let detect = watched(policy, detect, &classes, &class_of);
    let (copies, vouchers) = (policy.copies, policy.vouchers.clone());
    let readers = Readers::build(&schema, &tables, &classes);
    Ok(Rules {
        version,
        schema,
        tables,
        sealed,
        by_id,
        classes,
        class_of,
        names,
        code,
        views,
        purposes,
        vouchers,
        reviewed,
        grounds,
        observe,
        readers,
        copies,
        detect,
        warnings,
    })
}

/// The calendars and peers of roles as logins have them.
fn watched(
    policy: &Policy,
    mut detect: Thresholds,
    classes: &[ActorClass],
    class_of: &HashMap<String, ClassId>,
) -> Thresholds {
    for (login, id) in class_of {
        let Some(class) = classes.get(usize::from(id.0)) else { continue };
        let entry = policy.roles.iter().find(|role| role.name.value == class.role);
        let calendar = entry.and_then(|role| policy.calendars.get(&role.calendar.as_ref()?.value));
        detect.calendars.extend(calendar.map(|calendar| (login.clone(), calendar.clone())));
        let peers = entry.map(|role| role.peers.clone().unwrap_or_else(|| role.name.value.as_str().into()));
        detect.peers.extend(peers.map(|peers| (login.clone(), peers)));
    }
    detect
}

/// The listed table's relation, or why there is none.
pub(super) fn find<'s>(schema: &'s Schema, table: &Table) -> Result<&'s Arc<Relation>, Problem> {
    let name = table.qualified();
    let Some(relation) = schema.named(&table.schema, &table.name) else {
        let all: Vec<String> = schema.relations.values().map(|r| r.qualified()).collect();
        let hint = suggest(&name, all.iter().map(String::as_str), "create it, or remove it from the policy");
        return Err(Problem::at(&table.place, format!("there is no table {name} in {}", schema.database), hint));
    };
    match relation.kind {
        RelKind::Table | RelKind::Partitioned => Ok(relation),
        RelKind::View | RelKind::MatView => {
            let hint = "list the tables it reads; the view follows them".to_owned();
            Err(Problem::at(&table.place, format!("{name} is a view"), hint))
        }
        RelKind::Foreign | RelKind::Sequence | RelKind::Composite => {
            Err(Problem::at(&table.place, format!("{name} is not an ordinary or partitioned table"), None))
        }
    }
}

/// The listed column of a relation, or the problem.
pub(super) fn find_column<'r>(relation: &'r Relation, name: &str, place: &Place) -> Result<&'r Column, Problem> {
    relation.column(name).ok_or_else(|| {
        let all = relation.columns.iter().map(|c| &*c.name);
        let hint = suggest(name, all, "add it to the table, or remove it from the policy");
        Problem::at(place, format!("{} has no column {name}", relation.qualified()), hint)
    })
}

struct Build<'a> {
    policy: &'a Policy,
    schema: &'a Schema,
    ids: Ids<'a>,
    problems: Vec<Problem>,
    warnings: Vec<String>,
    tables: HashMap<u32, Arc<ProtectedTable>>,
    sealed: HashMap<(u32, i16), Arc<SealedColumn>>,
    by_id: ByColumn<Arc<SealedColumn>>,
    /// Without those that share another's id by `same_as`.
    owners: HashMap<u32, Arc<SealedColumn>>,
}

impl Build<'_> {
    fn table(&mut self, table: &Table) {
        let relation = match find(self.schema, table) {
            Ok(relation) => relation.clone(),
            Err(problem) => return self.problems.push(problem),
        };
        let mut levels: HashMap<i16, Level> =
            relation.columns.iter().map(|c| (c.attnum, self.policy.default_level)).collect();
        let mut pending = Vec::new();
        for listed in &table.columns {
            match find_column(&relation, &listed.name.value, &listed.name.place) {
                Ok(column) => {
                    levels.insert(column.attnum, listed.level);
                    self.column(table, &relation, listed, column, &mut pending);
                }
                Err(problem) => self.problems.push(problem),
            }
        }
        self.warn_unlisted(table, &relation);
        let subject = table.subject.as_ref().and_then(|subject| {
            match find_column(&relation, &subject.key.value, &subject.key.place) {
                Ok(c) => Some(SubjectKey { kind: subject.kind.clone(), attnum: c.attnum, column: c.name.clone() }),
                Err(problem) => {
                    self.problems.push(problem);
                    None
                }
            }
        });
        let name = relation.qualified().into();
        self.tables
            .insert(relation.oid, Arc::new(ProtectedTable { oid: relation.oid, name, subject, levels, pending }));
    }

    fn warn_unlisted(&mut self, table: &Table, relation: &Relation) {
        let listed = |name: &str| table.columns.iter().any(|c| c.name.value == name);
        let unlisted: Vec<&str> = relation.columns.iter().map(|c| &*c.name).filter(|name| !listed(name)).collect();
        if !unlisted.is_empty() {
            let level = level_name(self.policy.default_level);
            self.warnings.push(format!(
                "{}: not listed, so {level} by default and stored in plaintext: {}",
                relation.qualified(),
                unlisted.join(", ")
            ));
        }
    }

    fn column(
        &mut self,
        table: &Table,
        relation: &Relation,
        listed: &Listed,
        column: &Column,
        pending: &mut Vec<Arc<str>>,
    ) {
        let full = format!("{}.{}", relation.qualified(), column.name);
        let Some(sealing) = &listed.sealing else {
            if column.sealed.is_some() {
                let message = format!("{full} is sealed in the database but the policy does not encrypt it");
                let hint = "add encrypt = …; taking seals off comes in a later version".to_owned();
                self.problems.push(Problem::at(&listed.name.place, message, hint));
            }
            return;
        };
        let Some(ty) = self.logical_type(&full, relation, column, sealing) else { return };
        if let Some((why, hint)) = types::unfit(ty, sealing.mode, sealing.accepts_equality) {
            self.problems.push(Problem::at(&sealing.place, format!("{full}: {why}"), hint.to_owned()));
        }
        if column.sealed.is_none() {
            let until = if self.policy.observe.is_some() { "plaintext for everybody" } else { "refused" };
            self.warnings.push(format!("{full} is not sealed yet: run `pgveil apply`; until then it is {until}"));
            return pending.push(column.name.clone());
        }
        let Some(id) = self.id(&full, sealing) else { return };
        let sealed = Arc::new(SealedColumn {
            id,
            relation: relation.qualified().into(),
            column: column.name.clone(),
            relation_oid: relation.oid,
            attnum: column.attnum,
            ty,
            mode: sealing.mode,
            level: listed.level,
            mask: listed.mask.clone(),
            on_failure: sealing.on_failure,
        });
        if sealing.same_as.is_none() {
            self.by_id.insert(id, sealed.clone());
            if let Some(other) = self.owners.insert(id, sealed.clone()) {
                let message = format!("{full} and {}.{} have the same column id", other.relation, other.column);
                let hint = "`was` may only name a column that no longer exists".to_owned();
                self.problems.push(Problem::at(&table.place, message, hint));
            }
        } else {
            self.by_id.entry(id).or_insert_with(|| sealed.clone());
        }
        self.sealed.insert((relation.oid, column.attnum), sealed);
    }

    fn logical_type(&mut self, full: &str, relation: &Relation, column: &Column, sealing: &Sealing) -> Option<SqlType> {
        let recorded = match column.sealed {
            Some(kind) => {
                let recorded = self.schema.sealed_types.get(&(relation.oid, column.attnum)).copied();
                recorded.or_else(|| sealing.ty.is_none().then_some(SqlType { kind, typmod: -1 }))
            }
            None => match SqlType::parse(&column.type_name) {
                Ok(ty) => Some(ty),
                Err(reason) => {
                    let message = format!("{full}: {reason}");
                    self.problems.push(Problem::at(&sealing.place, message, types::SEALABLE.to_owned()));
                    return None;
                }
            },
        };
        let Some(written) = &sealing.ty else { return recorded };
        let domain_differs = column.sealed.is_some_and(|kind| kind != written.value.kind);
        let differs = recorded.is_some_and(|recorded| recorded != written.value);
        if differs || domain_differs {
            let real = recorded.map_or_else(|| column.type_name.to_string(), |ty| ty.to_string());
            let message = format!("{full} is {real} in the database, not {}", written.value);
            self.problems.push(Problem::at(&written.place, message, format!("as = \"{real}\"")));
            return None;
        }
        Some(written.value)
    }

    fn id(&mut self, full: &str, sealing: &Sealing) -> Option<u32> {
        let own = sealing.same_as.as_ref().map_or(full, |at| at.value.as_str());
        let former = || match &sealing.same_as {
            Some(same) => self.policy.column(&same.value).and_then(|(_, c)| c.sealing.as_ref()?.was.as_ref()),
            None => sealing.was.as_ref(),
        };
        let bound = (self.ids)(own).or_else(|| former().and_then(|was| (self.ids)(&was.value)));
        if bound.is_none() {
            let message = format!("{full} is sealed in the database but the keyring has no id for {own}");
            let hint =
                "use the keyring it was sealed with; after a rename say was = \"schema.table.column\"".to_owned();
            self.problems.push(Problem::at(&sealing.place, message, hint));
        }
        let (id, mode) = bound?;
        if mode != sealing.mode {
            let message = format!("{full} is sealed the other way: its cells are {}", mode_name(mode));
            let hint = "put it back; changing the mode of a sealed column comes in a later version".to_owned();
            self.problems.push(Problem::at(&sealing.place, message, hint));
            return None;
        }
        Some(id)
    }

    /// Partitions and inheritance children follow their parent; a child cannot be protected without it.
    fn relatives(&mut self) {
        for relation in self.schema.relations.values() {
            let Some(parent) = self.tables.get(&relation.oid).cloned() else {
                self.listed_children(relation);
                continue;
            };
            for child in relation.children.iter().filter_map(|oid| self.schema.relation(*oid)) {
                if !self.tables.contains_key(&child.oid) {
                    self.inherit(relation, &parent, child);
                }
            }
        }
    }

    fn listed_children(&mut self, relation: &Relation) {
        let children = relation.children.iter().filter_map(|oid| self.schema.relation(*oid));
        for child in children {
            if let Some(table) = self.policy.table(&child.schema, &child.name) {
                let parent = relation.qualified();
                let message = format!("{} is a partition or child of {parent}, which is not listed", child.qualified());
                self.problems.push(Problem::at(&table.place, message, format!("list {parent} instead")));
            }
        }
    }

    fn inherit(&mut self, relation: &Relation, parent: &ProtectedTable, child: &Relation) {
        let above = |c: &Column| relation.column(&c.name).map(|p| p.attnum);
        let level = |c: &Column| above(c).and_then(|at| parent.levels.get(&at).copied());
        let levels = child.columns.iter().map(|c| (c.attnum, level(c).unwrap_or(self.policy.default_level))).collect();
        for column in &child.columns {
            let sealed = above(column).and_then(|at| self.sealed.get(&(relation.oid, at)).cloned());
            if let Some(sealed) = sealed.filter(|_| column.sealed.is_some()) {
                let own = SealedColumn {
                    relation: child.qualified().into(),
                    relation_oid: child.oid,
                    attnum: column.attnum,
                    ..(*sealed).clone()
                };
                self.sealed.insert((child.oid, column.attnum), Arc::new(own));
            }
        }
        let subject = parent.subject.as_ref().and_then(|subject| {
            let column = child.column(&subject.column)?;
            Some(SubjectKey { attnum: column.attnum, ..subject.clone() })
        });
        let name = child.qualified().into();
        let pending = parent.pending.clone();
        self.tables.insert(child.oid, Arc::new(ProtectedTable { oid: child.oid, name, subject, levels, pending }));
    }

    /// Sealed base columns that no policy mentions stay sealed for everybody.
    fn unlisted_seals(&mut self) {
        for relation in self.schema.relations.values().filter(|r| r.kind != RelKind::View) {
            for column in relation.columns.iter().filter(|c| c.sealed.is_some() && c.source.is_none()) {
                let known = self.sealed.contains_key(&(relation.oid, column.attnum));
                let listed = self.tables.contains_key(&relation.oid);
                if !known && (!listed || self.policy.table(&relation.schema, &relation.name).is_none()) {
                    let name = format!("{}.{}", relation.qualified(), column.name);
                    self.warnings
                        .push(format!("{name} is sealed but not in the policy: it stays sealed for everybody"));
                }
            }
        }
    }
}

/// Names that make a statement worth reading: protected relations, their parents, views over them, and whatever has
/// a sealed column.
fn names(schema: &Schema, tables: &HashMap<u32, Arc<ProtectedTable>>) -> HashSet<String> {
    let sealed = |r: &Relation| r.columns.iter().any(|c| c.sealed.is_some() || c.sealed_array);
    let direct: HashSet<u32> =
        schema.relations.values().filter(|r| tables.contains_key(&r.oid) || sealed(r)).map(|r| r.oid).collect();
    let reaches = |r: &Relation| {
        direct.contains(&r.oid)
            || r.reads.iter().any(|oid| direct.contains(oid))
            || r.children.iter().any(|oid| direct.contains(oid))
    };
    let mut names = HashSet::new();
    for relation in schema.relations.values().filter(|r| reaches(r)) {
        names.insert(relation.name.to_ascii_lowercase());
        names.insert(relation.name.to_lowercase());
    }
    names.extend(schema.sealed_functions.iter().map(|name| name.to_lowercase()));
    names
}
