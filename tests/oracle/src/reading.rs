//! Decisions: what pgveil says a text touches against what PostgreSQL's tree names, and what it writes in place of
//! constants and parameters against the tree of the written text.

use std::collections::HashSet;
use std::sync::Arc;

use pgveil::plan::{Cache, Decision, Plan, Replacement, Request, StepKind};
use pgveil::policy::rules::{ClassId, Mode, Rules};
use pgveil::sql::{Span, splice};
use pgveil::wire::types::Kind;
use serde_json::Value;

use super::catalog::{self, Seal};
use super::dice::Dice;
use super::mutate;
use super::names::{Names, names};
use super::tree::{self, Fields, Statement, list, number, text};

/// Counts for the report.
#[derive(Debug, Default)]
pub struct Counts {
    /// Texts that name a relation in a query or data change.
    pub naming: u64,
    /// Of those, decided to be forwarded, with one relation protected.
    pub planned: u64,
    /// Of those, with a name that the catalog made for the text does not have.
    pub unknown: u64,
    /// Columns compared.
    pub columns: u64,
    /// Texts that pgveil rewrote, and that were compared.
    pub spliced: u64,
    /// Edits in them.
    pub edits: u64,
    /// Print the refused texts.
    pub show_refused: bool,
    /// Reasons of refusals: those of the first decision.
    pub refused: std::collections::BTreeMap<String, u64>,
}

fn decide(sql: &str, rules: &Rules, extended: bool) -> Decision {
    let (temporary, path) = (HashSet::new(), [Arc::from("public")]);
    Cache::new(0).decide(&Request {
        sql,
        parameter_oids: &[],
        extended,
        class: ClassId(0),
        role: "app",
        keys: 0,
        search_path: &path,
        temporary: &temporary,
        rules,
    })
}

/// Whether the text is refused although nothing in it is protected.
pub fn refused(sql: &str) -> bool {
    matches!(decide(sql, &catalog::rules(&[], |_| false, |_, _| None), true), Decision::Refuse(_))
}

/// What is seen of a text by name: disagreements as (class, what).
pub fn differs(
    sql: &str,
    statements: &[Statement],
    dice: &mut Dice,
    counts: &mut Counts,
) -> Option<(&'static str, String)> {
    let names = names(statements);
    if let Some(found) = settings(sql, statements, &names) {
        return Some(found);
    }
    let required: Vec<usize> = (0..names.relations.len()).filter(|index| names.relations[*index].required).collect();
    if required.is_empty() {
        return None;
    }
    counts.naming += 1;
    let extended = statements.len() == 1;
    let chosen = required[dice.below(required.len())];
    let rules = catalog::rules(&names.relations, |index| index == chosen, |_, _| None);
    let decision = decide(sql, &rules, extended);
    let unknown = matches!(decision, Decision::Unknown(_));
    let found = match decision {
        Decision::Pass(_) => {
            let relation = &names.relations[chosen];
            Some(("relation", format!("{}.{} is not seen", relation.schema, relation.name)))
        }
        Decision::Refuse(refused) => {
            let message = &refused.refusal.message;
            if counts.show_refused {
                println!("  refused: {message}: {sql:?}");
            }
            *counts.refused.entry(format!("{} {message}", refused.refusal.code.as_str())).or_default() += 1;
            None
        }
        Decision::Act(plan) | Decision::Unknown(plan) => {
            counts.planned += 1;
            // Some name is not in the catalog: the text is decided again after it has been read.
            counts.unknown += u64::from(unknown);
            untouched(&plan, &names, chosen, counts)
        }
    };
    found.or_else(|| rewritten(sql, &names, extended, dice, counts))
}

/// A column of the chosen relation that the tree uses and the plan does not.
fn untouched(plan: &Plan, names: &Names, chosen: usize, counts: &mut Counts) -> Option<(&'static str, String)> {
    let touched: HashSet<&str> =
        plan.steps.iter().flat_map(|step| step.touches.iter()).map(|touched| &*touched.column).collect();
    let mut missing = Vec::new();
    for (_, column) in names.certain().filter(|(relation, _)| *relation == chosen) {
        counts.columns += 1;
        if !touched.contains(column.as_str()) {
            missing.push(column.as_str());
        }
    }
    (!missing.is_empty()).then(|| ("column", format!("{missing:?} of {} are not seen", names.relations[chosen].name)))
}

/// What later statements depend on: settings, COPY from the client.
fn settings(sql: &str, statements: &[Statement], names: &Names) -> Option<(&'static str, String)> {
    const PATH: &[&str] = &["search_path", "role", "session_authorization"];
    const STYLE: &[&str] = &["datestyle", "timezone", "intervalstyle", "bytea_output", "extra_float_digits"];
    let rules = catalog::rules(&names.relations, |_| false, |_, _| None);
    let (Decision::Pass(plan) | Decision::Unknown(plan) | Decision::Act(plan)) = decide(sql, &rules, false) else {
        return None;
    };
    if statements.is_empty() {
        let empty = plan.steps.iter().all(|step| step.kind == StepKind::Empty);
        return (!empty).then(|| ("steps", "an empty text is not seen as one".to_owned()));
    }
    if plan.steps.len() != statements.len() {
        return Some(("steps", format!("{} steps, {} statements", plan.steps.len(), statements.len())));
    }
    for (step, statement) in plan.steps.iter().zip(statements) {
        let name = text(&statement.fields, "name").to_ascii_lowercase();
        match statement.node.as_str() {
            "VariableSetStmt" => {
                let all = number(&statement.fields, "kind") == 6;
                let quiet = (!step.moves.names && (all || PATH.contains(&name.as_str())))
                    || (!step.moves.style && (all || STYLE.contains(&name.as_str())));
                let transaction = number(&statement.fields, "kind") == 4;
                if quiet || !(step.moves.settings || transaction) {
                    return Some(("moves", format!("{name} moves unseen")));
                }
            }
            "CopyStmt" => {
                let from_client =
                    tree::flag(&statement.fields, "is_from") && text(&statement.fields, "filename").is_empty();
                if from_client != matches!(step.kind, StepKind::CopyIn(_)) && !sql.contains("''") {
                    return Some(("copy in", format!("{:?}", step.kind)));
                }
            }
            _ => {}
        }
    }
    None
}

const KINDS: [Kind; 6] = [Kind::Text, Kind::Varchar, Kind::Text, Kind::Int4, Kind::Date, Kind::Bool];

/// Everything protected, some columns sealed: the written text's tree differs in constants and parameters only.
fn rewritten(
    sql: &str,
    names: &Names,
    extended: bool,
    dice: &mut Dice,
    counts: &mut Counts,
) -> Option<(&'static str, String)> {
    let salt = dice.below(1 << 16);
    let seal = |relation: usize, column: usize| -> Seal {
        let mut dice = mutate::dice(salt as u64, (relation * 1000 + column) as u64);
        let mode = if dice.below(4) == 0 { Mode::Randomized } else { Mode::Deterministic };
        (dice.below(2) == 0).then(|| (KINDS[dice.below(KINDS.len())], mode))
    };
    let rules = catalog::rules(&names.relations, |index| names.relations[index].required, seal);
    let (Decision::Act(plan) | Decision::Unknown(plan)) = decide(sql, &rules, extended) else { return None };
    if plan.edits.is_empty() {
        return None;
    }
    let written = match written(sql, &plan) {
        Some(written) => written,
        None => return Some(("splice", "the edits do not fit the text".to_owned())),
    };
    counts.spliced += 1;
    counts.edits += plan.edits.len() as u64;
    let (before, after) = (trees(sql)?, trees(&written));
    let Some(after) = after else {
        return Some(("splice", format!("PostgreSQL refuses what is written: {written}")));
    };
    let mut walk = Compared { edits: plan.edits.iter().map(|edit| edit.span).collect(), wrong: None };
    walk.values(&before, &after);
    walk.wrong.map(|what| ("splice", format!("{what}\n      written: {written}")))
}

fn written(sql: &str, plan: &Plan) -> Option<String> {
    let edits: Vec<(Span, String)> = plan
        .edits
        .iter()
        .map(|edit| {
            let with = match &edit.with {
                Replacement::Text(text) => text.to_string(),
                Replacement::Cell { target, .. } if target.array => r#"'{"\\x00"}'::pg_catalog.bytea[]"#.to_owned(),
                Replacement::Cell { .. } => r"'\x00'::pg_catalog.bytea".to_owned(),
            };
            (edit.span, with)
        })
        .collect();
    let mut out = Vec::new();
    splice(sql, &edits, &mut out).ok()?;
    String::from_utf8(out).ok()
}

fn trees(sql: &str) -> Option<Value> {
    let parsed = pg_query::parse(sql).ok()?;
    serde_json::to_value(&parsed.protobuf.stmts).ok()
}

/// Two trees side by side.
struct Compared {
    edits: Vec<Span>,
    wrong: Option<String>,
}

impl Compared {
    fn values(&mut self, before: &Value, after: &Value) {
        if self.wrong.is_some() {
            return;
        }
        if let (Some((kind, old)), Some((other, new))) = (tree::node(before), tree::node(after)) {
            if is_constant(kind, old) && is_constant(other, new) && !same(before, after) {
                if !self.edited(old) {
                    self.wrong = Some(format!("{kind} outside every edit is changed"));
                }
                return;
            }
            if kind == "TypeCast" && other == kind && self.recast(old, new) {
                return self.values(old.get("arg").unwrap_or(&Value::Null), new.get("arg").unwrap_or(&Value::Null));
            }
            if kind != other {
                self.wrong = Some(format!("{kind} became {other}"));
                return;
            }
            return self.fields(old, new);
        }
        match (before, after) {
            (Value::Array(old), Value::Array(new)) if old.len() == new.len() => {
                old.iter().zip(new).for_each(|(old, new)| self.values(old, new));
            }
            (Value::Object(old), Value::Object(new)) => self.fields(old, new),
            _ if before == after => {}
            _ => self.wrong = Some(format!("{before} became {after}")),
        }
    }

    fn fields(&mut self, old: &Fields, new: &Fields) {
        for (name, old) in old.iter().filter(|(name, _)| !tree::is_place(name)) {
            self.values(old, new.get(name).unwrap_or(&Value::Null));
        }
    }

    /// What feeds a sealed column is bytea on its way there: the cast's type is edited.
    fn recast(&self, old: &Fields, new: &Fields) -> bool {
        let names = |cast: &Fields| cast.get("type_name").and_then(Value::as_object).cloned().unwrap_or_default();
        let bytea = list(&names(new), "names").last().and_then(tree::string) == Some("bytea");
        bytea && self.edited(&names(old))
    }

    /// Whether something of the node stands inside an edit.
    fn edited(&self, fields: &Fields) -> bool {
        let mut found = false;
        let mut look = |_: &str, fields: &Fields| {
            let at = u32::try_from(number(fields, "location")).unwrap_or(u32::MAX);
            found |= fields.contains_key("location") && self.edits.iter().any(|edit| edit.start <= at && at < edit.end);
        };
        look("", fields);
        tree::walk(&Value::Object(fields.clone()), &mut look);
        found
    }
}

fn same(before: &Value, after: &Value) -> bool {
    let (mut before, mut after) = (before.clone(), after.clone());
    tree::without_places(&mut before);
    tree::without_places(&mut after);
    before == after
}

/// A constant or parameter, also signed or cast.
fn is_constant(kind: &str, fields: &Fields) -> bool {
    let inner =
        |name: &str| fields.get(name).and_then(tree::node).is_some_and(|(kind, fields)| is_constant(kind, fields));
    match kind {
        "AConst" | "ParamRef" => true,
        "TypeCast" => inner("arg"),
        "AExpr" => fields.get("lexpr").is_none_or(Value::is_null) && inner("rexpr"),
        _ => false,
    }
}
