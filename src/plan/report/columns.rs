//! One use of a protected column: what the role gets of it, and why.
//!
//! In: a touch, the rules and their grounds. Out: a [`Column`]. Never: a decision; this says what others have decided.

use std::sync::Arc;

use super::super::{How, Touched};
use super::{About, Column};
use crate::mask::Mask;
use crate::policy::checked::Above;
use crate::policy::rules::{Level, Rules, SealedColumn, Treatment};
use crate::policy::{level_name, mask_name, mode_name};
use crate::sql::schema::Relation;

/// What the policy says of a column.
struct Says<'a> {
    level: Option<Level>,
    mask: &'a Mask,
    /// Level, and where that is written.
    level_at: String,
}

/// The relation of that `schema.table`.
pub(in crate::plan) fn relation_named<'r>(rules: &'r Rules, qualified: &str) -> Option<&'r Arc<Relation>> {
    let table = rules.tables.values().find(|table| *table.name == *qualified);
    match table {
        Some(table) => rules.schema.relation(table.oid),
        None => rules.schema.relations.values().find(|relation| relation.qualified() == qualified),
    }
}

impl About<'_> {
    pub(super) fn column(&self, touched: &Touched) -> Column {
        let rules = self.request.rules;
        let class = rules.class(self.request.class);
        let relation = self.relation(&touched.relation);
        let place = relation.and_then(|r| r.column(&touched.column).map(|c| c.source.unwrap_or((r.oid, c.attnum))));
        let sealed = place.and_then(|place| rules.sealed_at(place.0, place.1));
        let says = self.says(place, sealed);
        let view = relation.and_then(|r| rules.schema.relation(*class.lens.as_deref()?.views.get(&r.oid)?));
        let (treatment, mask) = self.treatment(touched, sealed, &says, view.is_some());
        Column {
            relation: touched.relation.clone(),
            column: touched.column.clone(),
            used: match touched.how {
                How::Read | How::Masked => "read",
                How::Refused => "named",
                How::Searched => "searched",
                How::Written => "written",
            },
            treatment,
            mask,
            encrypt: sealed.map(|column| mode_name(column.mode)),
            through: view.map(|view| view.qualified()),
            why: self.why(&says),
        }
    }

    /// The columns that a refusal's message names, each as `schema.table.column`.
    pub(super) fn named_in(&self, message: &str) -> Vec<Touched> {
        let rules = self.request.rules;
        let hidden = rules.class(self.request.class).hidden.iter().copied();
        let levels = rules.tables.values().flat_map(|table| table.levels.keys().map(|attnum| (table.oid, *attnum)));
        let mut named: Vec<Touched> = Vec::new();
        for (oid, attnum) in hidden.chain(levels) {
            let Some(relation) = rules.schema.relation(oid) else { continue };
            let Some(column) = relation.column_at(attnum) else { continue };
            let full = format!("{}.{}", relation.qualified(), column.name);
            let word = |c: char| c.is_alphanumeric() || matches!(c, '_' | '.' | '$');
            let alone = |(at, _): (usize, &str)| {
                !message[..at].ends_with(word) && !message[at + full.len()..].starts_with(word)
            };
            if message.match_indices(&full).any(alone) {
                let (relation, column) = (relation.qualified().into(), column.name.clone());
                let touched = Touched { relation, column, id: 0, how: How::Refused };
                if !named.contains(&touched) {
                    named.push(touched);
                }
            }
        }
        named.sort_by(|a, b| (&a.relation, &a.column).cmp(&(&b.relation, &b.column)));
        named
    }

    fn relation(&self, qualified: &str) -> Option<&Arc<Relation>> {
        relation_named(self.request.rules, qualified)
    }

    fn says(&self, place: Option<(u32, i16)>, sealed: Option<&Arc<SealedColumn>>) -> Says<'_> {
        let rules = self.request.rules;
        if let Some(ground) = place.and_then(|(relation, attnum)| rules.grounds.column(relation, attnum)) {
            let level_at = format!("level {} ({})", level_name(ground.level), ground.place);
            return Says { level: Some(ground.level), mask: &ground.mask, level_at };
        }
        let table = place.and_then(|(relation, attnum)| rules.tables.get(&relation)?.levels.get(&attnum));
        let level = table.copied().or_else(|| sealed.map(|column| column.level));
        let at = rules.grounds.default_level().map_or_else(|| "not written".to_owned(), ToString::to_string);
        let level_at = level.map_or_else(
            || "no level of its own: computed from protected tables".to_owned(),
            |level| format!("default_level {} ({at})", level_name(level)),
        );
        Says { level, mask: &Mask::Null, level_at }
    }

    fn why(&self, says: &Says<'_>) -> String {
        let ground = self.request.rules.grounds.class(self.request.class);
        let (Some(ground), Some(level)) = (ground, says.level) else { return says.level_at.clone() };
        let compared = if level > ground.clearance { "above" } else { "within" };
        let clearance = level_name(ground.clearance);
        format!("{}, {compared} clearance {clearance} of {} ({})", says.level_at, ground.entry, ground.place)
    }

    /// What the role gets, or what happens to what it gives; and with which mask.
    fn treatment(
        &self,
        touched: &Touched,
        sealed: Option<&Arc<SealedColumn>>,
        says: &Says<'_>,
        lens: bool,
    ) -> (&'static str, Option<String>) {
        let rules = self.request.rules;
        let masked = |mask: &Mask| match mask {
            Mask::Null | Mask::Remove => ("null", None),
            mask => ("masked", Some(mask_name(mask))),
        };
        match (touched.how, sealed) {
            (How::Refused, _) => ("refused", None),
            (How::Searched | How::Written, Some(_)) => ("sealed", None),
            (_, Some(column)) => match rules.class(self.request.class).treatment(column.id) {
                Treatment::Clear => ("clear", None),
                Treatment::Mask => masked(&column.mask),
                Treatment::Null => ("null", None),
                Treatment::Deny => ("refused", None),
                Treatment::Sealed => ("sealed", None),
            },
            (_, None) => {
                let ground = rules.grounds.class(self.request.class);
                let above = ground.filter(|ground| lens && says.level.is_some_and(|level| level > ground.clearance));
                match above.map(|ground| ground.above) {
                    None => ("clear", None),
                    Some(Above::Mask) => masked(says.mask),
                    Some(Above::Null | Above::Deny) => ("null", None),
                }
            }
        }
    }
}
