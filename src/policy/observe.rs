//! `mode = "observe"`: what hides plaintext is decided and logged, and not done. What is sealed stays as it is.
//!
//! In: the classes as the policy has them. Out: for each of them the rights that its sessions really have, and those it
//! would have behind its lens. Never: anything about a sealed column; all three have the same.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use super::checked::Policy;
use super::lens::View;
use super::problem::Place;
use super::rules::{ActorClass, ClassId, Lens, Rules};

/// What the rules know of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observe {
    /// Where `mode = "observe"` stands.
    pub place: Place,
    /// [`Rules::names`] as they would be if the policy listed no table: whatever shows or takes a sealed column.
    pub sealed_names: HashSet<String>,
}

/// The classes stand in [`Rules::classes`] this many times: the policy's, the acting ones, those behind their lens.
const TIMES: usize = 3;

/// A relation that there is not: a class with it has a row filter.
const NO_RELATION: u32 = 0;

/// How many classes a policy can have.
pub(super) fn classes_max(policy: &Policy) -> usize {
    let all = usize::from(u16::MAX) + 1;
    if policy.observe.is_some() { all / TIMES } else { all }
}

/// Said by `check`, and by the log whenever a policy is loaded.
pub(super) fn warning(place: &Place) -> String {
    format!(
        "OBSERVING, NOT ENFORCING: mode = \"observe\" ({place}): plaintext columns and rows are shown to everybody as \
         PostgreSQL has them; only sealed columns are protected. `pgveil report observe` lists what would change"
    )
}

/// Of a role whose lens is in the database.
pub(super) fn held(role: &str) -> String {
    format!(
        "[roles.{role}]: its lens is in the database, so PostgreSQL holds it to that although the policy only observes: \
         observing is for before `pgveil apply --lenses`; `pgveil apply --remove` gives the tables back"
    )
}

/// For [`Rules::classes`]: the policy's, then those of what really happens, then those behind their lens.
pub fn classes(own: Vec<ActorClass>, views: &[View]) -> Vec<ActorClass> {
    let acting: Vec<ActorClass> = own.iter().map(acting).collect();
    let behind: Vec<ActorClass> = own.iter().map(|class| behind_lens(class, views)).collect();
    own.into_iter().chain(acting).chain(behind).collect()
}

/// Nothing of plaintext is kept from it. Where PostgreSQL has taken the tables away already, its lens stays whole: with
/// half of it errors would show what the views hide.
fn acting(class: &ActorClass) -> ActorClass {
    let mut acting = ActorClass { refuses: Vec::new(), ..class.clone() };
    if class.lens.is_none() {
        (acting.hidden, acting.filtered) = (HashSet::new(), HashSet::new());
    }
    acting
}

/// What pgveil itself keeps from it once PostgreSQL shows it views in place of tables. The views need not be there.
fn behind_lens(class: &ActorClass, views: &[View]) -> ActorClass {
    let bases: HashSet<u32> = views.iter().filter(|view| is_of(view, class)).map(|view| view.base).collect();
    let mut behind = class.clone();
    behind.hidden.retain(|(relation, _)| !bases.contains(relation));
    behind.filtered = class.filtered.iter().map(|oid| if bases.contains(oid) { NO_RELATION } else { *oid }).collect();
    behind.lens.get_or_insert_with(|| Arc::new(Lens::default()));
    behind
}

/// The view is of the class's lens; a role has one for each of several purposes.
fn is_of(view: &View, class: &ActorClass) -> bool {
    *view.role == *class.role && (view.purpose.is_none() || view.purpose == class.purpose)
}

impl Rules {
    /// What hides plaintext is decided and logged, and not done.
    pub fn observing(&self) -> bool {
        self.observe.is_some()
    }

    /// What must be said whenever such a policy is loaded: that it observes, and whom PostgreSQL holds all the same.
    pub fn observed_warnings(&self) -> Vec<String> {
        let Some(observe) = &self.observe else { return Vec::new() };
        let acting = self.classes.iter().skip(self.classes_written()).take(self.classes_written());
        let lensed: BTreeSet<&str> = acting.filter(|c| c.lens.is_some()).map(|c| c.role.as_str()).collect();
        std::iter::once(warning(&observe.place)).chain(lensed.into_iter().map(held)).collect()
    }

    /// How many classes the policy has: the first ones.
    pub fn classes_written(&self) -> usize {
        if self.observing() { self.classes.len() / TIMES } else { self.classes.len() }
    }

    /// The class whose rights sessions of that class really have.
    pub fn acting(&self, class: ClassId) -> ClassId {
        self.further(class, 1)
    }

    /// Of an acting class, the policy's, if that is only observed.
    pub fn observed(&self, acting: ClassId) -> Option<ClassId> {
        let own = usize::from(acting.0).checked_sub(self.classes_written())?;
        u16::try_from(own).ok().map(ClassId).filter(|_| self.observing() && own < self.classes_written())
    }

    /// Of a class of the policy that needs a lens, and can have one, the rights that it will have behind it.
    pub fn behind_lens(&self, class: ClassId) -> Option<ClassId> {
        let own = self.class(class);
        let can = own.restricted() && self.views.iter().any(|view| is_of(view, own));
        Some(self.further(class, 2)).filter(|_| can && self.observing())
    }

    fn further(&self, class: ClassId, times: usize) -> ClassId {
        let further = if self.observing() { times * self.classes_written() } else { 0 };
        // `classes_max` keeps the sum below the bound.
        u16::try_from(usize::from(class.0) + further).map_or(class, ClassId)
    }

    /// Names that make a statement one to be refused rather than forwarded unread.
    pub fn guarded_names(&self) -> &HashSet<String> {
        self.observe.as_ref().map_or(&self.names, |observe| &observe.sealed_names)
    }
}
