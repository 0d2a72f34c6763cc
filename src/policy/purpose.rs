//! Purposes: what somebody may do with data depends on what it is for (GDPR Art. 5(1)(b)).
//!
//! In: `[purposes]` as checked, a role, what a session says of itself. Out: the role as narrowed by the purpose it acts
//! for, and which purpose is claimed. Never: a right that the role does not have without the purpose.

use std::sync::Arc;

use super::checked::{Policy, Purpose, Role, RowFilter};
use super::problem::{Problem, suggest};

/// A text in which `*` stands for any characters, also none. Case counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(Box<str>);

impl Pattern {
    /// As written.
    pub fn new(text: &str) -> Self {
        Self(text.into())
    }

    /// Whether all of `text` fits. Takes time proportional to the product of both lengths at most.
    pub fn matches(&self, text: &str) -> bool {
        let (pattern, text) = (self.0.as_bytes(), text.as_bytes());
        let (mut p, mut t) = (0, 0);
        // Where the last star stood, and how much of the text it has taken.
        let mut star: Option<(usize, usize)> = None;
        while t < text.len() {
            if pattern.get(p) == Some(&b'*') {
                star = Some((p, t));
                p += 1;
            } else if pattern.get(p) == Some(&text[t]) {
                (p, t) = (p + 1, t + 1);
            } else if let Some((at, taken)) = star {
                star = Some((at, taken + 1));
                (p, t) = (at + 1, taken + 1);
            } else {
                return false;
            }
        }
        pattern[p..].iter().all(|b| *b == b'*')
    }
}

impl Role {
    /// The role while it acts for that purpose: the lower clearance, and only rows that both let it reach.
    pub fn acting_for(&self, purpose: &Purpose) -> Role {
        let mut role = self.clone();
        role.clearance = purpose.clearance.map_or(self.clearance, |clearance| clearance.min(self.clearance));
        for filter in &purpose.rows {
            match role.rows.iter_mut().find(|own| own.table.value == filter.table.value) {
                Some(own) => own.condition = Arc::from(format!("({}) and ({})", own.condition, filter.condition)),
                None => role.rows.push(RowFilter::clone(filter)),
            }
        }
        role
    }

    /// The purposes it may act for; the first is the one it has when nothing is claimed.
    pub fn purposes<'p>(&self, known: &'p [Purpose]) -> Vec<&'p Purpose> {
        let first = self.purpose.iter().chain(&self.purposes);
        let mut found: Vec<&Purpose> = Vec::new();
        for name in first {
            let purpose = known.iter().find(|purpose| purpose.name.value == name.value);
            found.extend(purpose.filter(|purpose| found.iter().all(|other| other.name.value != purpose.name.value)));
        }
        found
    }
}

/// What roles say of their purposes.
pub(super) fn check(policy: &Policy, problems: &mut Vec<Problem>) {
    for role in policy.roles.iter().chain([&policy.default_role]) {
        for at in role.purpose.iter().chain(&role.purposes) {
            let known = || policy.purposes.iter().map(|purpose| purpose.name.value.as_str());
            if known().all(|name| name != at.value) {
                let otherwise = format!("declare it: [purposes.{}] with its basis", at.value);
                let hint = suggest(&at.value, known(), &otherwise);
                problems.push(Problem::at(&at.place, format!("there is no purpose \"{}\"", at.value), hint));
            } else if role.name.value.is_empty() {
                let hint = "give the login an entry of its own: [roles.NAME]".to_owned();
                problems.push(Problem::at(&at.place, "default_role acts for no purpose", hint));
            }
        }
        if let (None, [_, second, ..]) = (&role.purpose, &role.purposes[..]) {
            let message = format!("[roles.{}] has several purposes and none when nothing is claimed", role.name.value);
            let hint = format!("add purpose = \"{}\", or another of them", role.purposes[0].value);
            problems.push(Problem::at(&second.place, message, hint));
        }
    }
}

/// What an `application_name` claims: the first of `acts` whose purpose has a pattern that fits.
pub fn by_application<'a>(known: &[Purpose], acts: &'a [Act], application: &str) -> Option<&'a Act> {
    acts.iter().find(|act| {
        let purpose = known.iter().find(|purpose| *purpose.name.value == *act.purpose);
        purpose.is_some_and(|purpose| purpose.applications.iter().any(|pattern| pattern.matches(application)))
    })
}

/// What the tags of a comment claim: the first of `acts` of whose purpose some tag fits.
pub fn by_tags<'a>(known: &[Purpose], acts: &'a [Act], tags: &[(String, String)]) -> Option<&'a Act> {
    acts.iter().find(|act| {
        let purpose = known.iter().find(|purpose| *purpose.name.value == *act.purpose);
        let fits = |(key, pattern): &(String, Pattern)| tags.iter().any(|(k, v)| k == key && pattern.matches(v));
        purpose.is_some_and(|purpose| purpose.tags.iter().any(fits))
    })
}

/// One purpose of a role, and the class it is in while it acts for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Act {
    /// Its name.
    pub purpose: Arc<str>,
    /// What may be done.
    pub class: super::rules::ClassId,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_fit_whole_texts() {
        for (pattern, text, fits) in [
            ("metabase*", "metabase 0.48", true),
            ("metabase*", "my metabase", false),
            ("*report*", "monthly report 3", true),
            ("a*b*c", "aXbYbZc", true),
            ("a*b*c", "aXbYbZ", false),
            ("", "", true),
            ("", "x", false),
            ("*", "", true),
            ("**", "x", true),
            ("ü*", "übung", true),
            ("a", "A", false),
        ] {
            assert_eq!(Pattern::new(pattern).matches(text), fits, "{pattern} {text}");
        }
    }

    #[test]
    fn a_long_text_does_not_take_long() {
        let pattern = Pattern::new(&format!("{}b", "a*".repeat(200)));
        assert!(!pattern.matches(&"a".repeat(10_000)));
    }
}
