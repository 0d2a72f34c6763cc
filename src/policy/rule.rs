//! `[detect.rules.…]`: what one rule of the detector looks for, and what follows.
//!
//! In: the sections as written. Out: settings laid over those of `[detect]`. Never: a key that the rule has no use for.

use super::detect::{FLAT, count, window};
use super::problem::{At, suggest};
use super::reader::Section;
use crate::detect::{Action, Rule, Severity, Thresholds};

/// `[detect.rules]`
pub(super) fn rules(detect: &mut Section<'_>, thresholds: &mut Thresholds) {
    let flat: Vec<&str> =
        FLAT.iter().flat_map(|(_, records, length)| [*records, *length]).filter(|key| detect.has(key)).collect();
    for (name, section) in detect.sections("rules") {
        match Rule::named(&name.value) {
            Some(rule) => setting(rule, section, &flat, thresholds),
            None => unknown(&name, &section),
        }
    }
}

fn unknown(name: &At<String>, s: &Section<'_>) {
    let names = || Rule::ALL.iter().map(|rule| rule.as_str());
    let hint = suggest(&name.value, names(), &format!("one of: {}", names().collect::<Vec<_>>().join(", ")));
    s.problem(&name.place, format!("the detector has no rule \"{}\"", name.value), hint);
}

fn setting(rule: Rule, mut s: Section<'_>, flat: &[&str], thresholds: &mut Thresholds) {
    useless(rule, &mut s);
    twice(rule, &s, flat);
    let action = action(rule, &mut s);
    let severities = Severity::ALL.map(|severity| (severity.as_str(), severity));
    let setting = thresholds.of_mut(rule);
    setting.enabled = s.flag("enabled").map_or(setting.enabled, |at| at.value);
    if rule.counts() {
        setting.threshold = count(&mut s, "threshold", setting.threshold);
    }
    if rule.has_window() {
        setting.window_s = window(&mut s, "window", setting.window_s);
    }
    setting.severity = s.choice("severity", &severities).map_or(setting.severity, |at| at.value);
    setting.exempt = s.texts("exempt").unwrap_or_default().into_iter().map(|at| at.value).collect();
    setting.action = action.unwrap_or(setting.action);
    s.close();
}

/// Keys that other rules have.
fn useless(rule: Rule, s: &mut Section<'_>) {
    for (key, used, why) in [
        ("threshold", rule.counts(), "it speaks at the first time; remove it"),
        ("window", rule.has_window(), "it does not count over time; remove it"),
        ("exempt", rule.has_roles(), "it is about no role; remove it"),
    ] {
        if s.has(key) && !used {
            s.problem(&s.place_of(key), format!("rule {} has no `{key}`", rule.as_str()), why.to_owned());
            s.skip(key);
        }
    }
}

/// What `[detect]` itself says already.
fn twice(rule: Rule, s: &Section<'_>, flat: &[&str]) {
    let Some((_, records, length)) = FLAT.iter().find(|(of, ..)| *of == rule) else { return };
    for (key, known) in [("threshold", records), ("window", length)] {
        if s.has(key) && flat.contains(known) {
            let message = format!("`{key}` in [{}] and `{known}` in [detect] say the same", s.path());
            s.problem(&s.place_of(key), message, "remove one of them".to_owned());
        }
    }
}

fn action(rule: Rule, s: &mut Section<'_>) -> Option<Action> {
    let rate = s.number("rows_per_second", 1..=1_000_000_000);
    let word = s.text("action");
    let known = rule.actions();
    let throttles = word.as_ref().is_some_and(|word| word.value == "throttle");
    if s.has("rows_per_second") && !throttles {
        let hint = match known.contains(&"throttle") {
            true => "add action = \"throttle\", or remove it",
            false => "remove it",
        };
        let message = format!("`rows_per_second` in [{}] is of no use", s.path());
        s.problem(&s.place_of("rows_per_second"), message, hint.to_owned());
    }
    let word = word?;
    if !known.contains(&word.value.as_str()) {
        let otherwise = format!("one of: {}", known.join(", "));
        let hint = suggest(&word.value, known.iter().copied(), &otherwise);
        s.problem(&word.place, format!("rule {} has no action \"{}\"", rule.as_str(), word.value), hint);
        return None;
    }
    match word.value.as_str() {
        "throttle" => {
            if rate.is_none() && !s.has("rows_per_second") {
                let message = format!("[{}] throttles to no rate", s.path());
                s.problem(&word.place, message, "add rows_per_second = 100".to_owned());
            }
            rate.map(|at| Action::Throttle { rows_per_s: at.value })
        }
        "stop" => Some(Action::Stop),
        "kill" => Some(Action::Kill),
        "quarantine" => Some(Action::Quarantine),
        _ => Some(Action::Alert),
    }
}

#[cfg(test)]
mod tests {
    use super::super::parse;
    use super::super::problem::render;
    use super::*;

    fn read(text: &str) -> Result<Thresholds, String> {
        let text = format!("version = 1\n[detect]\n{text}");
        let policy = parse(&[("p.toml".to_owned(), text)]);
        policy.map(|policy| policy.detect).map_err(|problems| render(&problems))
    }

    #[test]
    fn a_rule_is_what_detect_says_with_its_own_section_over_it() {
        let text = "bulk_records = 7\nexempt = [\"etl\"]\n[detect.rules.bulk]\nwindow = \"1h\"\nseverity = \"high\"\n\
                    exempt = [\"batch\"]\naction = \"throttle\"\nrows_per_second = 50\n[detect.rules.failures]\n\
                    enabled = false\n[detect.rules.tamper]\naction = \"quarantine\"\n";
        let t = read(text).unwrap();
        let bulk = t.of(Rule::Bulk);
        assert_eq!((bulk.threshold, bulk.window_s, bulk.severity), (7, 3_600, Severity::High));
        assert_eq!(bulk.action, Action::Throttle { rows_per_s: 50 });
        for (rule, role, watched) in [
            (Rule::Bulk, "app", true),
            (Rule::Bulk, "batch", false),
            (Rule::Bulk, "etl", false),
            (Rule::Subjects, "batch", true),
            (Rule::Subjects, "etl", false),
            (Rule::Failures, "app", false),
        ] {
            assert_eq!(t.watching(rule, role).is_some(), watched, "{rule:?} {role}");
        }
        assert_eq!(t.of(Rule::Tamper).action, Action::Quarantine);
        assert_eq!(read("").unwrap(), Thresholds::default());
    }

    #[test]
    fn what_makes_no_sense_for_a_rule_is_a_problem_with_a_way_out() {
        for (text, said) in [
            ("[detect.rules.bluk]", "p.toml:3: the detector has no rule \"bluk\"\n  help: did you mean `bulk`?"),
            (
                "[detect.rules.after_hours]\nwindow = \"1h\"",
                "p.toml:4: rule after_hours has no `window`\n  help: it does",
            ),
            ("[detect.rules.tamper]\nthreshold = 3", "p.toml:4: rule tamper has no `threshold`\n  help: it speaks"),
            (
                "[detect.rules.failures]\naction = \"stop\"",
                "p.toml:4: rule failures has no action \"stop\"\n  help: one of: alert, kill, quarantine",
            ),
            ("[detect.rules.bulk]\naction = \"stpo\"", "help: did you mean `stop`?"),
            ("[detect.rules.bulk]\naction = \"throttle\"", "p.toml:4: [detect.rules.bulk] throttles to no rate"),
            (
                "[detect.rules.bulk]\nrows_per_second = 5",
                "p.toml:4: `rows_per_second` in [detect.rules.bulk] is of no use",
            ),
            ("[detect.rules.bulk]\nseverity = \"hihg\"", "help: did you mean `high`?"),
            ("[detect.rules.bulk]\nthreshold = 0", "`threshold` in [detect.rules.bulk] is out of range"),
            ("[detect.rules.bulk]\nwindow = \"1 h\"", "`window` in [detect.rules.bulk] is not a length of time"),
            ("[detect.rules.bulk]\ntreshold = 1", "help: did you mean `threshold`?"),
            (
                "bulk_records = 5\n[detect.rules.bulk]\nthreshold = 6",
                "p.toml:5: `threshold` in [detect.rules.bulk] and `bulk_records` in [detect] say the same",
            ),
        ] {
            let all = read(text).unwrap_err();
            assert!(all.contains(said), "{text}\n{all}");
        }
    }
}
