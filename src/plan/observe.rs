//! `mode = "observe"`: what is done with a text, and what enforcing the policy would have done.
//!
//! In: a question for an acting class. Out: its decision, in whose steps stands what would have been otherwise. Never: a
//! text that may show or take a sealed column forwarded unread; a second decision where the policy is enforced.

use std::sync::Arc;

use super::decide::{self, STRINGS_IN_STRINGS_MAX, TOKENS_MAX, named_in_strings, unprotected, unreadable};
use super::report::{Asker, Report, relation_named};
use super::{Decision, How, Limits, Plan, Request, Step, StepKind, Touched, privacy, refuse};
use crate::error::{Code, Refusal};
use crate::event::{Access, Becomes, Changed, Would};
use crate::mask::Mask;
use crate::policy::checked::Above;
use crate::policy::rules::ClassId;
use crate::sql::lexer::LexError;
use crate::sql::{lex, mentions};

/// What to do with the text.
pub(super) fn decide(request: &Request<'_>, limits: Limits) -> Decision {
    let Some(own) = request.rules.observed(request.class) else { return decide::decide(request, limits) };
    let mut decision = unguarded(request, decide::decide(request, limits));
    let would = match &decision {
        Decision::Refuse(_) => return decision,
        Decision::Pass(plan) | Decision::Act(plan) | Decision::Unknown(plan) => {
            let Some(first) = refusal(request, own, limits) else { return decision };
            would(request, own, first, limits, &decision, plan)
        }
    };
    if let Decision::Pass(plan) | Decision::Act(plan) | Decision::Unknown(plan) = &mut decision {
        let steps = &mut Arc::make_mut(plan).steps;
        steps.iter_mut().zip(would).for_each(|(step, would)| step.would = Some(Arc::new(would)));
    }
    decision
}

/// The same plan, of which enforcing would have refused every step, for that if for nothing else.
pub fn observed(plan: &Arc<Plan>, refusal: &Refusal) -> Arc<Plan> {
    let mut plan = Plan::clone(plan);
    for step in plan.steps.iter_mut().filter(|step| step.would.is_none()) {
        step.would = Some(Arc::new(refused(refusal)));
        // What its events shared did not say that.
        step.action.take();
    }
    Arc::new(plan)
}

/// A refusal that protects nothing sealed does not take effect: the text goes as it is.
fn unguarded(request: &Request<'_>, decision: Decision) -> Decision {
    // A lens that is in force is not observed: PostgreSQL holds its role to it.
    if !matches!(decision, Decision::Refuse(_)) || request.rules.class(request.class).lens.is_some() {
        return decision;
    }
    let sql = request.sql;
    let names = request.rules.guarded_names();
    match lex(sql, TOKENS_MAX) {
        Ok(tokens) => {
            let block = tokens.iter().any(|token| token.is_word(sql, "do"));
            let guarded = mentions(sql, &tokens, names)
                || (block && named_in_strings(sql, &tokens, names, STRINGS_IN_STRINGS_MAX))
                || privacy::asks(sql, &tokens);
            if guarded { decision } else { unprotected(request, &tokens) }
        }
        Err(LexError::TooLong | LexError::TooManyTokens | LexError::ParameterNumber) => decision,
        Err(_) => {
            let lower = sql.to_lowercase();
            let guarded = names.iter().any(|name| lower.contains(name.as_str()));
            if guarded { decision } else { Decision::Pass(Arc::new(unreadable())) }
        }
    }
}

/// Why a session of that class would not have been served.
fn refusal(request: &Request<'_>, class: ClassId, limits: Limits) -> Option<Refusal> {
    let asked = Request { class, ..*request };
    match decide::decide(&asked, limits) {
        Decision::Refuse(refused) => Some(refused.refusal),
        Decision::Unknown(_) if request.rules.class(class).restricted() => Some(refuse::unknown_relation()),
        Decision::Pass(_) | Decision::Act(_) | Decision::Unknown(_) => None,
    }
}

fn refused(refusal: &Refusal) -> Would {
    Would::refused(refusal.code.as_str(), &refusal.hint)
}

/// For each step what would have been, of a text that the policy's class is refused now.
fn would(
    request: &Request<'_>,
    own: ClassId,
    now: Refusal,
    limits: Limits,
    decision: &Decision,
    plan: &Plan,
) -> Vec<Would> {
    let all = |refusal: &Refusal| vec![refused(refusal); plan.steps.len()];
    let Some(behind) = request.rules.behind_lens(own) else { return all(&now) };
    if let Some(later) = refusal(request, behind, limits) {
        return all(&later);
    }
    let about = Request { class: own, ..*request };
    let report = Report::new(&about, decision, Asker::Client);
    let rows = report.statements.iter().map(|statement| statement.rows.as_slice());
    let of_step = |(at, step): (usize, &Step)| {
        let mut columns: Vec<Changed> = Vec::new();
        for changed in step.touches.iter().filter_map(|touched| changed(&about, step, touched)) {
            if !columns.contains(&changed) {
                columns.push(changed);
            }
        }
        // As `COPY` of a view is told.
        if matches!(step.kind, StepKind::CopyIn(_)) && step.touches.iter().any(|touched| has_view(&about, touched)) {
            return Would::refused(Code::AboveClearance.as_str(), super::lens::COPY_HINT);
        }
        let rows = rows.clone().nth(at).unwrap_or_default();
        Would {
            until_lens: true,
            columns,
            filtered: rows.iter().map(|rows| rows.relation.as_str().into()).collect(),
            ..refused(&now)
        }
    };
    plan.steps.iter().enumerate().map(of_step).collect()
}

/// The touched relation is one that a view of the class's lens stands for.
fn has_view(request: &Request<'_>, touched: &Touched) -> bool {
    let role = &request.rules.class(request.class).role;
    let relation = relation_named(request.rules, &touched.relation);
    relation.is_some_and(|r| request.rules.views.iter().any(|view| *view.role == **role && view.base == r.oid))
}

/// What a use of a column would have met in the lens.
fn changed(request: &Request<'_>, step: &Step, touched: &Touched) -> Option<Changed> {
    let rules = request.rules;
    let relation = relation_named(rules, &touched.relation)?;
    let place = (relation.oid, relation.column(&touched.column)?.attnum);
    if !rules.class(request.class).hidden.contains(&place) {
        return None;
    }
    let mask = rules.grounds.column(place.0, place.1).map_or(&Mask::Null, |ground| &ground.mask);
    let above = rules.grounds.class(request.class).map_or(Above::Mask, |ground| ground.above);
    let becomes = match (touched.how, above, mask) {
        (How::Written, ..) if step.access == Access::Delete => return None,
        (_, Above::Deny, _) | (_, Above::Mask, Mask::Remove) => Becomes::Gone,
        (How::Written, ..) => Becomes::Unwritable,
        (_, Above::Null, _) | (_, _, Mask::Null) => Becomes::Null,
        _ => Becomes::Masked,
    };
    Some(Changed { relation: touched.relation.clone(), column: touched.column.clone(), becomes })
}
