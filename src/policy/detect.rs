//! `[detect]`, `[detect.hours]` and `[detect.calendars.…]`: the detector's thresholds.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use jiff::civil::Date;

use super::problem::At;
use super::reader::Section;
use super::rule;
use crate::detect::{Hours, Rule, Thresholds};

pub(super) fn thresholds(mut s: Section<'_>) -> (Thresholds, Calendars) {
    let mut thresholds = Thresholds::default();
    for (rule, records, length) in FLAT {
        let setting = thresholds.of_mut(*rule);
        setting.threshold = count(&mut s, records, setting.threshold);
        setting.window_s = window(&mut s, length, setting.window_s);
    }
    thresholds.exempt = s.texts("exempt").unwrap_or_default().into_iter().map(|at| at.value).collect();
    let actors = s.number("actors_max", 1_000..=10_000_000);
    thresholds.actors_max = actors.map(|at| usize::try_from(at.value).unwrap_or(usize::MAX));
    thresholds.cooldown_s = window(&mut s, "cooldown", thresholds.cooldown_s);
    thresholds.hours = s.section("hours").and_then(hours).map(Arc::new);
    thresholds.bypass_addresses = addresses(&mut s);
    rule::rules(&mut s, &mut thresholds);
    let calendars = s.sections("calendars").into_iter();
    let calendars = calendars.filter_map(|(name, section)| Some((name.value, Arc::new(hours(section)?)))).collect();
    s.close();
    (thresholds, calendars)
}

/// `[detect.calendars.…]` by name.
pub(super) type Calendars = HashMap<String, Arc<Hours>>;

fn addresses(s: &mut Section<'_>) -> Vec<IpAddr> {
    let mut found = Vec::new();
    for text in s.texts("bypass_addresses").unwrap_or_default() {
        match text.value.parse() {
            Ok(address) => found.push(address),
            Err(_) => s.problem(&text.place, "this is not an address", "like \"10.0.0.5\" or \"fd00::5\"".to_owned()),
        }
    }
    found
}

/// Keys of `[detect]` itself that are a rule's `threshold` and `window`.
pub(super) const FLAT: &[(Rule, &str, &str)] = &[
    (Rule::Bulk, "bulk_records", "bulk_window"),
    (Rule::Subjects, "subjects", "subjects_window"),
    (Rule::Failures, "failures", "failures_window"),
    (Rule::Export, "export_records", "export_window"),
];

/// A bound on exact windows: each actor's window holds one entry per counted thing.
const COUNT_MAX: u64 = 100_000;

pub(super) fn count(s: &mut Section<'_>, key: &'static str, default: u64) -> u64 {
    s.number(key, 1..=COUNT_MAX).map_or(default, |at| at.value)
}

pub(super) fn window(s: &mut Section<'_>, key: &'static str, default: u64) -> u64 {
    let Some(text) = s.text(key) else { return default };
    match seconds(&text.value) {
        Some(seconds @ 1..=2_678_400) => seconds,
        _ => {
            let message = format!("`{key}` in [{}] is not a length of time", s.path());
            s.problem(&text.place, message, "like \"30s\", \"15m\", \"1h\" or \"7d\", at most 31d".to_owned());
            default
        }
    }
}

fn seconds(text: &str) -> Option<u64> {
    let unit = match text.chars().last()? {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        _ => return None,
    };
    text[..text.len() - 1].parse::<u64>().ok()?.checked_mul(unit)
}

const DAYS: [&str; 7] = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"];

fn hours(mut s: Section<'_>) -> Option<Hours> {
    let time_zone = time_zone(&mut s);
    let mut week = [None; 7];
    for (day, name) in week.iter_mut().zip(DAYS) {
        *day = s.text(name).and_then(|text| open(&s, &text));
    }
    if DAYS.iter().all(|day| !s.has(day)) {
        let hint = "monday = \"08:00-18:00\" and so on; a day that is not named is closed".to_owned();
        s.problem(s.place(), format!("[{}] names no day", s.path()), hint);
    }
    let mut holidays = Vec::new();
    for text in s.texts("holidays").unwrap_or_default() {
        match text.value.parse::<Date>() {
            Ok(date) => holidays.push(date),
            Err(_) => s.problem(&text.place, "a holiday is not a date", "like \"2026-12-25\"".to_owned()),
        }
    }
    let mut exceptions = Vec::new();
    for (day, text) in s.named_texts("exceptions") {
        match day.value.parse::<Date>() {
            Ok(date) => exceptions.push((date, open(&s, &text))),
            Err(_) => {
                s.problem(&day.place, "an exception is not of a date", "like \"2026-12-24\" = \"closed\"".to_owned())
            }
        }
    }
    s.close();
    Some(Hours { time_zone: time_zone?, week, holidays, exceptions })
}

fn time_zone(s: &mut Section<'_>) -> Option<String> {
    let Some(text) = s.text("time_zone") else {
        if !s.has("time_zone") {
            let hint = "time_zone = \"Europe/Berlin\"".to_owned();
            s.problem(s.place(), format!("`time_zone` in [{}] is missing", s.path()), hint);
        }
        return None;
    };
    if jiff::tz::TimeZoneDatabase::bundled().get(&text.value).is_err() {
        let hint = "an IANA name such as \"Europe/Berlin\" or \"UTC\"".to_owned();
        s.problem(&text.place, format!("there is no time zone \"{}\"", text.value), hint);
        return None;
    }
    Some(text.value)
}

/// `HH:MM-HH:MM`, or `closed`. The end may be 24:00; an end before the start is on the next day.
fn open(s: &Section<'_>, text: &At<String>) -> Option<(u16, u16)> {
    if text.value == "closed" {
        return None;
    }
    let span = text.value.split_once('-').and_then(|(start, end)| Some((minutes(start)?, minutes(end)?)));
    match span {
        Some((start, end)) if start != end && start < 1_440 => Some((start, end)),
        _ => {
            s.problem(&text.place, "these are not opening hours", "like \"08:00-18:00\", or \"closed\"".to_owned());
            None
        }
    }
}

fn minutes(text: &str) -> Option<u16> {
    let (hours, minutes) = text.trim().split_once(':')?;
    let (hours, minutes): (u16, u16) = (hours.parse().ok()?, minutes.parse().ok()?);
    (minutes < 60 && hours <= 24 && hours * 60 + minutes <= 1_440).then(|| hours * 60 + minutes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_time_and_hours() {
        assert_eq!(seconds("15m"), Some(900));
        assert_eq!(seconds("m"), None);
        assert_eq!(seconds("15"), None);
        assert_eq!(minutes("24:00"), Some(1_440));
        assert_eq!(minutes("65535:00"), None);
    }
}
