//! `mode = "observe"`, as far as a session decides itself: what it would have refused or redacted.
//!
//! In: the rules, a plan, what the server says. Out: whether that would have been, for the event. Never: anything done to
//! what goes on.

use std::sync::Arc;

use crate::error::{Code, Refusal};
use crate::event::{Action, EventKind, Would};
use crate::plan::Plan;
use crate::policy::rules::{ClassId, Rules, StatementClass};

use super::{Context, Effect, Session, redact};

impl Session {
    /// The class that the policy gives the actor, if that is only observed.
    pub(super) fn observed(&self, rules: &Rules) -> Option<ClassId> {
        rules.observed(self.class)
    }

    /// Enforcing would have taken something out of that error or notice, and nothing is.
    pub(super) fn would_redact(&self, body: &[u8], cx: &Context<'_>) -> bool {
        let own = self.observed(cx.rules).map(|own| cx.rules.class(own));
        own.is_some_and(|own| own.partial()) && !self.class(cx.rules).partial() && redact::changes(body)
    }

    /// The plan, in which stands what the session has against it where nothing sealed is concerned.
    pub(super) fn noted(
        &self,
        sql: &str,
        plan: Arc<Plan>,
        (extended, protected): (bool, bool),
        cx: &Context<'_>,
    ) -> Arc<Plan> {
        if self.observed(cx.rules).is_none() {
            return plan;
        }
        // A prepared statement is kept, and what is uncertain now will not be when it runs.
        let lasting = |refusal: &Refusal| !extended || refusal.code == Code::ReservedName;
        match self.names_objection(sql, &plan, protected, cx.rules).filter(lasting) {
            Some(refusal) => crate::plan::observed(&plan, &refusal),
            None => plan,
        }
    }

    /// A function call that goes on, and would not have.
    pub(super) fn note_call(&self, refusal: &Refusal, cx: &mut Context<'_>) {
        let Some(own) = self.observed(cx.rules).map(|own| cx.rules.class(own)) else { return };
        if !own.partial() && !own.refuses.contains(&StatementClass::FastPath) {
            return;
        }
        let mut event = self.event(EventKind::Statement, cx);
        let would = Would::refused(refusal.code.as_str(), &refusal.hint);
        let text = Some("(function-call message)".into());
        let action = Action { text, observed: true, would: Some(Arc::new(would)), ..Action::none() };
        event.action = Some(action.into());
        cx.effects.push(Effect::Event(Box::new(event)));
    }
}
