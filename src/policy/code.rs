//! Users' code that a class which may not see everything must not run, by the names that would make it run.
//!
//! In: the catalog's reach of users' functions, the policy's `[functions] reviewed`, the columns hidden from anybody.
//! Out: names → what runs. Names are bare and in lower case: whichever relation a search path finds is covered.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use super::checked::Policy;
use super::problem::suggest;
use crate::sql::schema::{Rule, Schema, When};

/// What runs, and when.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reached {
    /// `reading public.v`; empty when the code's own name was called.
    pub when: String,
    /// `schema.name` of functions that a policy may call reviewed.
    pub functions: BTreeSet<Arc<str>>,
    /// Relations and functions of the system, rules: what no policy can review.
    pub others: BTreeSet<Arc<str>>,
}

impl Reached {
    fn add(&mut self, when: String, code: &str, reviewable: bool) {
        if self.when.is_empty() {
            self.when = when;
        }
        if reviewable { &mut self.functions } else { &mut self.others }.insert(code.into());
    }
}

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UsersCode {
    /// Functions by their own name.
    pub called: HashMap<String, Reached>,
    /// By a parameter declared to be of that type.
    pub types: HashMap<u32, Reached>,
    /// By an operator's symbol.
    pub operators: HashMap<String, Reached>,
    /// By a relation or type that a statement names.
    pub read: HashMap<String, Reached>,
    /// By a relation that a statement names which writes, or defines.
    pub written: HashMap<String, Reached>,
    /// By every statement.
    pub any: Option<Reached>,
    /// By every definition.
    pub definitions: Option<Reached>,
}

/// Compares the reviewed names with the catalog and files the rest.
pub(super) fn build(
    policy: &Policy,
    schema: &Schema,
    hidden: &HashSet<(u32, i16)>,
    warnings: &mut Vec<String>,
) -> UsersCode {
    let reviewed = reviewed(policy, schema, warnings);
    let mut code = UsersCode::default();
    let mut reviewable = HashSet::new();
    for function in &schema.functions {
        let full: Arc<str> = format!("{}.{}", function.schema, function.name).into();
        reviewable.insert(full.clone());
        if !reviewed.contains(&full) {
            code.called.entry(function.name.to_lowercase()).or_default().functions.insert(full);
        }
    }
    for behind in &schema.behind {
        let known = behind.function && reviewable.contains(&behind.code);
        if known && reviewed.contains(&behind.code) {
            continue;
        }
        let name = behind.name.to_lowercase();
        if behind.when == When::Type {
            let reached = code.types.entry(behind.type_oid).or_default();
            reached.add(format!("using type {}", behind.qualified), &behind.code, known);
        }
        let (reached, when) = match behind.when {
            When::Read => (code.read.entry(name).or_default(), format!("reading {}", behind.qualified)),
            When::Write => (code.written.entry(name).or_default(), format!("writing {}", behind.qualified)),
            When::Type => (code.read.entry(name).or_default(), format!("using type {}", behind.qualified)),
            When::Operator => {
                (code.operators.entry(behind.name.to_string()).or_default(), format!("operator {}", behind.name))
            }
            When::Any => (code.any.get_or_insert_default(), "converting or comparing the system's types".to_owned()),
            When::Definition => (code.definitions.get_or_insert_default(), "any definition".to_owned()),
        };
        reached.add(when, &behind.code, known);
    }
    for rule in schema.rules.iter().filter(|rule| shows(rule, hidden)) {
        let Some(relation) = schema.relation(rule.relation) else { continue };
        let reached = code.written.entry(relation.name.to_lowercase()).or_default();
        reached.add(format!("writing {}", relation.qualified()), &format!("rule {}", rule.name), false);
    }
    code
}

/// Whether a rule reads something hidden.
fn shows(rule: &Rule, hidden: &HashSet<(u32, i16)>) -> bool {
    let named = |column: &(u32, i16)| hidden.contains(column);
    let of_relation = |(oid, _): &(u32, i16)| rule.columns.iter().any(|(named, _)| named == oid);
    rule.columns.iter().any(named) || (rule.whole_row && hidden.iter().any(of_relation))
}

/// The reviewed functions that exist. A name that means nothing yet is said: whoever makes it later is not reviewed.
fn reviewed(policy: &Policy, schema: &Schema, warnings: &mut Vec<String>) -> HashSet<Arc<str>> {
    let mut found = HashSet::new();
    for (named, function) in &policy.reviewed {
        let full = format!("{named}.{function}");
        let same = |f: &&crate::sql::schema::Function| *f.schema == **named && *f.name == **function;
        match schema.functions.iter().find(same) {
            Some(real) => {
                if real.security_definer {
                    warnings.push(format!(
                        "[functions] reviewed: {full} is SECURITY DEFINER: it runs with its owner's rights, for every role"
                    ));
                }
                found.insert(full.into());
            }
            None => {
                let all: Vec<String> = schema.functions.iter().map(|f| format!("{}.{}", f.schema, f.name)).collect();
                let hint = suggest(&full, all.iter().map(String::as_str), "create it, or remove the name");
                let hint = hint.unwrap_or_default();
                warnings
                    .push(format!("[functions] reviewed: there is no function {full} in {} ({hint})", schema.database));
            }
        }
    }
    found
}
