//! Which columns can be sealed now, and what stands in the way of the others.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::facts::{Facts, ForeignKey, Index, TableFacts};
use crate::policy::Policy;
use crate::policy::checked::{Sealing, Table};
use crate::policy::problem::Problem;
use crate::policy::rules::Mode;
use crate::sql::schema::{Relation, Schema};
use crate::wire::types::SqlType;

/// A column the policy encrypts.
#[derive(Clone, Debug)]
pub(super) struct Wanted<'a> {
    pub(super) relation: &'a Arc<Relation>,
    pub(super) table: &'a Table,
    pub(super) attnum: i16,
    /// Column name.
    pub(super) column: Arc<str>,
    pub(super) sealing: &'a Sealing,
    pub(super) ty: SqlType,
    /// Its type is a sealed domain already.
    pub(super) sealed: bool,
}

impl Wanted<'_> {
    /// `schema.table.column`.
    pub(super) fn full(&self) -> String {
        format!("{}.{}", self.relation.qualified(), self.column)
    }

    /// The name whose column id it has.
    pub(super) fn owner(&self) -> String {
        self.sealing.same_as.as_ref().map_or_else(|| self.full(), |at| at.value.clone())
    }

    fn at(&self) -> (u32, i16) {
        (self.relation.oid, self.attnum)
    }
}

/// Every encrypted column that exists, in the policy's order.
pub(super) fn wanted<'a>(policy: &'a Policy, schema: &'a Schema) -> Vec<Wanted<'a>> {
    let mut all = Vec::new();
    for table in &policy.tables {
        let Some(relation) = schema.named(&table.schema, &table.name) else { continue };
        for listed in &table.columns {
            let (Some(sealing), Some(column)) = (&listed.sealing, relation.column(&listed.name.value)) else {
                continue;
            };
            let recorded = schema.sealed_types.get(&(relation.oid, column.attnum)).copied();
            let written = sealing.ty.as_ref().map(|at| at.value);
            let ty = match column.sealed {
                Some(kind) => written.or(recorded).unwrap_or(SqlType { kind, typmod: -1 }),
                None => match written.map_or_else(|| SqlType::parse(&column.type_name), Ok) {
                    Ok(ty) => ty,
                    Err(_) => continue, // reported by `policy::compile`
                },
            };
            let sealed = column.sealed.is_some();
            let column = column.name.clone();
            let attnum = relation.column(&column).map_or(0, |c| c.attnum);
            all.push(Wanted { relation, table, attnum, column, sealing, ty, sealed });
        }
    }
    all
}

/// What becomes of the columns that are not sealed yet.
#[derive(Debug, Default)]
pub(super) struct Verdict<'a> {
    /// Can be sealed now.
    pub(super) ready: Vec<Wanted<'a>>,
    /// Hold rows: `pgveil seal` moves them.
    pub(super) full: Vec<Wanted<'a>>,
    /// Something stands in the way.
    pub(super) refused: Vec<Problem>,
}

pub(super) fn judge<'a>(wanted: &[Wanted<'a>], schema: &Schema, facts: &Facts) -> Verdict<'a> {
    let mut verdict = Verdict::default();
    for column in wanted.iter().filter(|column| !column.sealed) {
        let obstacles = obstacles(column, schema, facts);
        let rows = facts.tables.get(&column.relation.oid).is_some_and(|table| table.rows);
        if !obstacles.is_empty() {
            verdict.refused.extend(obstacles);
        } else if rows {
            verdict.full.push(column.clone());
        } else {
            verdict.ready.push(column.clone());
        }
    }
    foreign_keys(wanted, facts, &mut verdict);
    verdict
}

fn obstacles(column: &Wanted<'_>, schema: &Schema, facts: &Facts) -> Vec<Problem> {
    let mut found = Vec::new();
    let family = std::iter::once(column.relation.oid).chain(column.relation.children.iter().copied());
    for relation in family.filter_map(|oid| schema.relation(oid)) {
        let (Some(table), Some(live)) = (facts.tables.get(&relation.oid), relation.column(&column.column)) else {
            continue;
        };
        let own = relation.oid == column.relation.oid;
        let mut add = |what: String, hint: &str| {
            let message = if own {
                format!("{} cannot be sealed: {what}", column.full())
            } else {
                format!("{} cannot be sealed: its child {}: {what}", column.full(), relation.qualified())
            };
            found.push(Problem::at(&column.sealing.place, message, hint.to_owned()));
        };
        of_table(column, table, own, &mut add);
        of_column(live.attnum, own, table, &mut add);
        for index in table.indexes.iter().filter(|index| index.columns.contains(&live.attnum)) {
            of_index(column, index, &mut add);
        }
    }
    found
}

fn of_table(column: &Wanted<'_>, table: &TableFacts, own: bool, add: &mut dyn FnMut(String, &str)) {
    if own && !table.ours {
        let hint = "run apply with that role's rights, or make the control role a member of it";
        add(format!("the table belongs to {}", table.owner), hint);
    }
    if table.row_security {
        add("the table has row security".into(), "its policies would compare envelopes; drop them or do not encrypt");
    }
    if !table.triggers.is_empty() && !column.table.triggers_reviewed {
        let hint = "triggers see envelopes: check that they never look at the column, then triggers_reviewed = true";
        add(format!("the table has triggers ({})", table.triggers.join(", ")), hint);
    }
    if !table.rules.is_empty() {
        add(format!("the table has rules ({})", table.rules.join(", ")), "drop them: rules rewrite what pgveil reads");
    }
}

fn of_column(attnum: i16, own: bool, table: &TableFacts, add: &mut dyn FnMut(String, &str)) {
    if table.partition_key.contains(&attnum) {
        add("it is part of the partition key".into(), "partition by another column");
    }
    if table.nondeterministic.contains(&attnum) {
        add(
            "its collation is nondeterministic".into(),
            "envelopes compare byte by byte; use a deterministic collation",
        );
    }
    if own && table.inherited.contains(&attnum) {
        add("it is inherited".into(), "list the parent table instead");
    }
    for (_, what) in table.dependents.iter().filter(|(at, _)| *at == attnum) {
        let what = what.strip_prefix("rule _RETURN on ").unwrap_or(what); // a view, to everybody but PostgreSQL
        add(format!("{what} depends on it"), "drop that first; it would work on envelopes");
    }
}

fn of_index(column: &Wanted<'_>, index: &Index, add: &mut dyn FnMut(String, &str)) {
    let name = &index.name;
    if index.exclusion {
        add(format!("the EXCLUDE constraint {name} uses it"), "drop the constraint");
    } else if index.computed {
        add(format!("the index {name} has an expression or a WHERE clause on it"), "drop the index");
    } else if column.sealing.mode == Mode::Randomized && index.unique {
        add(
            format!("the unique index {name} uses it, and equal values have different envelopes"),
            "encrypt = \"deterministic\", or drop the index",
        );
    } else if column.sealing.mode == Mode::Randomized {
        let hint = "encrypt = \"deterministic\" to search it, or drop the index: nothing could use it";
        add(format!("the index {name} uses it"), hint);
    } else if index.method != "btree" && index.method != "hash" {
        add(format!("the {} index {name} uses it", index.method), "envelopes have btree and hash indexes only");
    } else if !index.default_classes {
        let hint = "make the index without an operator class";
        add(format!("the index {name} names an operator class that envelopes do not have"), hint);
    }
}

/// Both ends of a foreign key are sealed together, deterministically, under one id; else neither. Repeats until
/// nothing changes, because refusing one end refuses the other.
fn foreign_keys<'a>(wanted: &[Wanted<'a>], facts: &Facts, verdict: &mut Verdict<'a>) {
    let by_place: HashMap<(u32, i16), &Wanted<'a>> = wanted.iter().map(|w| (w.at(), w)).collect();
    let mut refused: HashSet<(u32, i16)> = HashSet::new();
    loop {
        let ready: HashSet<(u32, i16)> = verdict.ready.iter().map(Wanted::at).collect();
        let full: HashSet<(u32, i16)> = verdict.full.iter().map(Wanted::at).collect();
        let mut out = None;
        for (key, from, to) in facts.foreign_keys.iter().flat_map(pairs) {
            let held = |place: &(u32, i16)| full.contains(place) || refused.contains(place);
            let standing = |place: &(u32, i16)| by_place.get(place).is_some_and(|w| w.sealed) || ready.contains(place);
            let both = |place: &(u32, i16), other: &(u32, i16)| standing(place) && (held(other) || !standing(other));
            let reason = match (by_place.get(&from), by_place.get(&to)) {
                (None, None) => None,
                (Some(a), Some(b)) if a.owner() != b.owner() || a.sealing.mode != b.sealing.mode => {
                    Some(format!("the foreign key {} compares it with a column that has another id", key.name))
                }
                (Some(a), Some(_)) if a.sealing.mode == Mode::Randomized => {
                    Some(format!("the foreign key {} needs both ends deterministic", key.name))
                }
                (Some(_), Some(_)) if both(&from, &to) || both(&to, &from) => {
                    Some(format!("the other end of the foreign key {} cannot be sealed now", key.name))
                }
                (Some(_), Some(_)) => None,
                _ => Some(format!("the other end of the foreign key {} is not encrypted", key.name)),
            };
            let place = [from, to].into_iter().find(|place| ready.contains(place));
            if let (Some(reason), Some(place)) = (reason, place) {
                out = Some((place, reason));
                break;
            }
        }
        let Some((place, reason)) = out else { return };
        refused.insert(place);
        if let Some(at) = verdict.ready.iter().position(|w| w.at() == place) {
            let column = verdict.ready.remove(at);
            let hint = "encrypt both ends as \"deterministic\", one with same_as = the other".to_owned();
            let message = format!("{} cannot be sealed: {reason}", column.full());
            verdict.refused.push(Problem::at(&column.sealing.place, message, hint));
        }
    }
}

/// (relation oid, attnum)
type Place = (u32, i16);

/// The pairs of columns a foreign key compares.
fn pairs(key: &ForeignKey) -> Vec<(&ForeignKey, Place, Place)> {
    let columns = key.from.1.iter().zip(&key.to.1);
    columns.map(|(from, to)| (key, (key.from.0, *from), (key.to.0, *to))).collect()
}

/// Foreign keys that compare columns which are sealed in this run: dropped before, added again after.
pub(super) fn foreign_keys_to_remake<'f>(ready: &[Wanted<'_>], facts: &'f Facts) -> Vec<&'f ForeignKey> {
    let places: HashSet<(u32, i16)> = ready.iter().map(Wanted::at).collect();
    let touched =
        |key: &&ForeignKey| pairs(key).iter().any(|(_, from, to)| places.contains(from) || places.contains(to));
    facts.foreign_keys.iter().filter(touched).collect()
}
