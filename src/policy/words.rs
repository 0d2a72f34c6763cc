//! The policy's vocabulary: which word means which value.

use super::checked::{Above, AuditFrequency, DataTag};
use super::rules::{Level, Mode, OnFailure};
use crate::mask::Mask;

pub(super) const LEVELS: &[(&str, Level)] = &[
    ("public", Level::Public),
    ("internal", Level::Internal),
    ("confidential", Level::Confidential),
    ("restricted", Level::Restricted),
];

pub(super) const DATA: &[(&str, DataTag)] = &[
    ("phi", DataTag::Phi),
    ("pii", DataTag::Pii),
    ("financial", DataTag::Financial),
    ("biometric", DataTag::Biometric),
    ("behavioral", DataTag::Behavioral),
];

pub(super) const ON_FAILURE: &[(&str, OnFailure)] =
    &[("error", OnFailure::Error), ("null", OnFailure::Null), ("mask", OnFailure::Mask)];

pub(super) const ABOVE: &[(&str, Above)] = &[("mask", Above::Mask), ("null", Above::Null), ("deny", Above::Deny)];

pub(super) const FREQUENCIES: &[(&str, AuditFrequency)] = &[
    ("monthly", AuditFrequency::Monthly),
    ("quarterly", AuditFrequency::Quarterly),
    ("annually", AuditFrequency::Annually),
];

/// Lawful bases of a purpose (GDPR Art. 6(1) and 9(2)(a)).
pub(super) const BASES: &[(&str, ())] = &[
    ("consent", ()),
    ("explicit_consent", ()),
    ("contract", ()),
    ("legal_obligation", ()),
    ("vital", ()),
    ("public_task", ()),
    ("legitimate_interest", ()),
];

/// The word of a level.
pub fn level_name(level: Level) -> &'static str {
    LEVELS[level as usize].0
}

/// The word of a mode.
pub fn mode_name(mode: Mode) -> &'static str {
    match mode {
        Mode::Randomized => "randomized",
        Mode::Deterministic => "deterministic",
    }
}

/// Masks that need no argument.
pub(super) const MASK_NAMES: &[&str] =
    &["email", "phone", "name", "date", "id", "remove", "null", "last4", "fixed", "partial"];

/// Masks of DESIGN §6 that this version does not have.
const LATER_MASKS: &[&str] = &["year", "month", "decade", "bucket", "noise", "pseudonym"];

/// Why a mask's word was not understood.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum BadMask {
    Later,
    Unknown,
}

/// `email`, …, `fixed:TEXT`, `partial:START:END` (characters kept at either end).
pub(super) fn mask(word: &str) -> Result<Mask, BadMask> {
    let (name, argument) = word.split_once(':').map_or((word, None), |(name, rest)| (name, Some(rest)));
    match (name, argument) {
        ("email", None) => Ok(Mask::Email),
        ("phone", None) => Ok(Mask::Phone),
        ("name", None) => Ok(Mask::Name),
        ("date", None) => Ok(Mask::Date),
        ("id", None) => Ok(Mask::Id),
        ("remove", None) => Ok(Mask::Remove),
        ("null", None) => Ok(Mask::Null),
        ("last4", None) => Ok(Mask::Last4),
        ("fixed", text) => Ok(Mask::Fixed(text.unwrap_or("***").into())),
        ("partial", None) => Ok(Mask::Partial { keep_start: 1, keep_end: 1 }),
        ("partial", Some(ends)) => {
            let (start, end) = ends.split_once(':').ok_or(BadMask::Unknown)?;
            let number = |text: &str| text.parse::<u16>().map_err(|_| BadMask::Unknown);
            Ok(Mask::Partial { keep_start: number(start)?, keep_end: number(end)? })
        }
        _ if LATER_MASKS.contains(&name) => Err(BadMask::Later),
        _ => Err(BadMask::Unknown),
    }
}

/// `schema.name`, either part in double quotes when it contains a dot.
pub(super) fn qualified(text: &str) -> Option<(String, String)> {
    let mut parts = vec![String::new()];
    let mut quoted = false;
    for c in text.chars() {
        match c {
            '"' => quoted = !quoted,
            '.' if !quoted => parts.push(String::new()),
            c => parts.last_mut()?.push(c),
        }
    }
    match <[String; 2]>::try_from(parts) {
        Ok([schema, name]) if !quoted && !schema.is_empty() && !name.is_empty() => Some((schema, name)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_with_and_without_arguments() {
        assert_eq!(mask("fixed:[hidden]"), Ok(Mask::Fixed("[hidden]".into())));
        assert_eq!(mask("partial:2:3"), Ok(Mask::Partial { keep_start: 2, keep_end: 3 }));
        assert_eq!(mask("partial:2"), Err(BadMask::Unknown));
        assert_eq!(mask("pseudonym"), Err(BadMask::Later));
        assert_eq!(mask("email:x"), Err(BadMask::Unknown));
        for name in MASK_NAMES {
            assert!(mask(name).is_ok(), "{name}");
        }
    }

    #[test]
    fn names_are_split_at_the_dot_outside_quotes() {
        assert_eq!(qualified("public.users"), Some(("public".into(), "users".into())));
        assert_eq!(qualified("public.\"my.table\""), Some(("public".into(), "my.table".into())));
        assert_eq!(qualified("users"), None);
        assert_eq!(qualified("a.b.c"), None);
        assert_eq!(qualified("public.\"x"), None);
    }
}
