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

/// `mode = "…"`: whether it observes.
pub(super) const CONDUCTS: &[(&str, bool)] = &[("enforce", false), ("observe", true)];

/// Lawful bases of a purpose (GDPR Art. 6(1) and 9(2)(a)), and whether they demand consent.
pub(super) const BASES: &[(&str, bool)] = &[
    ("consent", true),
    ("explicit_consent", true),
    ("contract", false),
    ("legal_obligation", false),
    ("vital", false),
    ("public_task", false),
    ("legitimate_interest", false),
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

/// The word of what is done above a clearance.
pub fn above_name(above: Above) -> &'static str {
    ABOVE[above as usize].0
}

/// The word of a mask, with its numbers and without its text.
pub fn mask_name(mask: &Mask) -> String {
    match mask {
        Mask::Email => "email".into(),
        Mask::Phone => "phone".into(),
        Mask::Name => "name".into(),
        Mask::Date | Mask::DateHidden => "date".into(),
        Mask::Id => "pseudonym".into(),
        Mask::Remove => "remove".into(),
        Mask::Null => "null".into(),
        Mask::Fixed(_) => "fixed".into(),
        Mask::Partial { keep_start, keep_end } => format!("partial:{keep_start}:{keep_end}"),
        Mask::Last4 => "last4".into(),
        Mask::Year => "year".into(),
        Mask::Month => "month".into(),
        Mask::Decade => "decade".into(),
        Mask::Bucket(size) => format!("bucket:{size}"),
        Mask::Noise(size) => format!("noise:{size}"),
    }
}

/// Masks that need no argument.
pub(super) const MASK_NAMES: &[&str] = &[
    "email",
    "phone",
    "name",
    "date",
    "id",
    "pseudonym",
    "remove",
    "null",
    "last4",
    "fixed",
    "partial",
    "year",
    "month",
    "decade",
];

/// Masks with one.
pub(super) const MASK_ARGUMENTS: &str = "\"fixed:TEXT\", \"partial:START:END\", \"bucket:N\", \"noise:N\"";

/// `email`, …, `fixed:TEXT`, `partial:START:END` (characters kept at either end), `bucket:N` and `noise:N` (whole numbers
/// from 1).
pub(super) fn mask(word: &str) -> Option<Mask> {
    let (name, argument) = word.split_once(':').map_or((word, None), |(name, rest)| (name, Some(rest)));
    match (name, argument) {
        ("email", None) => Some(Mask::Email),
        ("phone", None) => Some(Mask::Phone),
        ("name", None) => Some(Mask::Name),
        ("date", None) => Some(Mask::Date),
        ("id" | "pseudonym", None) => Some(Mask::Id),
        ("remove", None) => Some(Mask::Remove),
        ("null", None) => Some(Mask::Null),
        ("last4", None) => Some(Mask::Last4),
        ("fixed", text) => Some(Mask::Fixed(text.unwrap_or("***").into())),
        ("partial", None) => Some(Mask::Partial { keep_start: 1, keep_end: 1 }),
        ("partial", Some(ends)) => {
            let (start, end) = ends.split_once(':')?;
            Some(Mask::Partial { keep_start: start.parse().ok()?, keep_end: end.parse().ok()? })
        }
        ("year", None) => Some(Mask::Year),
        ("month", None) => Some(Mask::Month),
        ("decade", None) => Some(Mask::Decade),
        ("bucket", Some(size)) => Some(Mask::Bucket(size.parse().ok()?)),
        ("noise", Some(size)) => Some(Mask::Noise(size.parse().ok()?)),
        _ => None,
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
        assert_eq!(mask("fixed:[hidden]"), Some(Mask::Fixed("[hidden]".into())));
        assert_eq!(mask("partial:2:3"), Some(Mask::Partial { keep_start: 2, keep_end: 3 }));
        assert_eq!(mask("bucket:10"), Some(Mask::Bucket(10.try_into().unwrap())));
        assert_eq!(mask("noise:30"), Some(Mask::Noise(30.try_into().unwrap())));
        assert_eq!(mask("pseudonym"), Some(Mask::Id));
        for bad in
            ["partial:2", "email:x", "bucket", "bucket:0", "bucket:-1", "bucket:1.5", "noise", "noise:0", "year:1"]
        {
            assert_eq!(mask(bad), None, "{bad}");
        }
        for name in MASK_NAMES {
            let mask = mask(name).unwrap();
            let said = mask_name(&mask);
            assert!(said.starts_with(name) || mask == Mask::Id, "{name}: {said}");
        }
        for (word, above) in ABOVE {
            assert_eq!(above_name(*above), *word);
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
