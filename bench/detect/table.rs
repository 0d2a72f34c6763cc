//! The score of some months as text, and whether the bars are met.
//!
//! In: months that were watched. Out: one table and a list of bars. Never: a scenario left out because it was missed.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::hospital::SECOND;
use super::ledger::Found;
use super::{Scenario, Watched};

/// What the issue asks for.
const SHARE: f64 = 0.9;
const FEWER: f64 = 5.0;

/// One watcher's results on one scenario.
struct Line {
    instances: usize,
    found: Vec<Found>,
    /// Incidents opened by the rules that found it: true, all.
    incidents: (u64, u64),
}

impl Line {
    fn recall(&self) -> f64 {
        share(self.found.len() as u64, self.instances as u64)
    }

    fn precision(&self) -> f64 {
        share(self.incidents.0, self.incidents.1)
    }

    fn rules(&self) -> String {
        let mut rules: Vec<&str> = self.found.iter().map(|found| found.rule.as_str()).collect();
        rules.sort_unstable();
        let mut counted: Vec<(usize, &str)> =
            rules.chunk_by(|a, b| a == b).map(|of_rule| (of_rule.len(), of_rule[0])).collect();
        counted.sort_unstable_by(|a, b| b.cmp(a));
        counted.iter().map(|(count, rule)| format!("{rule} {count}")).collect::<Vec<_>>().join(", ")
    }
}

/// One bar.
pub struct Bar {
    pub what: String,
    pub met: bool,
}

pub struct Table<'w> {
    months: &'w [Watched],
}

impl<'w> Table<'w> {
    pub fn new(months: &'w [Watched]) -> Self {
        Self { months }
    }

    fn watchers(&self) -> Vec<&'static str> {
        self.months.first().map(|month| month.ledgers.iter().map(|(name, _)| *name).collect()).unwrap_or_default()
    }

    fn line(&self, watcher: usize, scenario: Scenario) -> Line {
        let mut line = Line { instances: 0, found: Vec::new(), incidents: (0, 0) };
        for month in self.months {
            let ledger = &month.ledgers[watcher].1;
            for (number, instance) in month.truth.instances.iter().enumerate() {
                if instance.scenario == scenario && instance.first.is_some() {
                    line.instances += 1;
                    line.found.extend(ledger.found.get(&number).cloned());
                }
            }
        }
        let rules: BTreeSet<&str> = line.found.iter().map(|found| found.rule.as_str()).collect();
        for month in self.months {
            for (rule, (good, bad)) in &month.ledgers[watcher].1.incidents {
                if rules.contains(rule.as_str()) {
                    line.incidents = (line.incidents.0 + good, line.incidents.1 + good + bad);
                }
            }
        }
        line
    }

    /// Alerts, alerts by 100 actors and day, incidents: true, all.
    fn totals(&self, watcher: usize) -> (u64, f64, (u64, u64)) {
        let (mut alerts, mut incidents, mut days) = (0, (0, 0), 0.0);
        for month in self.months {
            let ledger = &month.ledgers[watcher].1;
            alerts += ledger.alerts;
            days += month.actors as f64 * month.size.days as f64;
            for (good, bad) in ledger.incidents.values() {
                incidents = (incidents.0 + good, incidents.1 + good + bad);
            }
        }
        (alerts, alerts as f64 * 100.0 / days, incidents)
    }

    /// The bars of detection, met or missed.
    pub fn bars(&self) -> Vec<Bar> {
        let mut bars = Vec::new();
        for scenario in Scenario::ALL.into_iter().filter(|scenario| scenario.barred()) {
            let line = self.line(0, scenario);
            let what = format!("{}: recall {:.2}, precision {:.2}", scenario.name(), line.recall(), line.precision());
            bars.push(Bar { what, met: line.recall() >= SHARE && line.precision() >= SHARE });
        }
        let (own, seeds) = (self.totals(0).0, self.totals(self.watchers().len() - 1).0);
        let fewer = seeds as f64 / own.max(1) as f64;
        let what = format!("alerts: {own}, the founding documents' {seeds}, {fewer:.0} times as many");
        bars.push(Bar { what, met: fewer >= FEWER });
        bars
    }

    /// Everything, as GitHub's Markdown.
    pub fn markdown(&self) -> String {
        let mut out = String::new();
        for month in self.months {
            let size = month.size;
            let _ = writeln!(
                out,
                "- seed {}: {} clinicians, {} actors, {} days, {} events, {} attacks",
                size.seed,
                size.clinicians,
                month.actors,
                size.days,
                month.events,
                month.truth.instances.len()
            );
        }
        self.own(&mut out);
        self.compared(&mut out);
        self.overall(&mut out);
        out
    }

    fn own(&self, out: &mut String) {
        let head = "scenario | instances | found | recall | precision | first alert by | rows before the alert, \
                    median / most | … if it stops the statement | time to detect, median / longest |";
        let _ = writeln!(out, "\n| {head}\n|---|---|---|---|---|---|---|---|---|");
        for scenario in Scenario::ALL {
            let line = self.line(0, scenario);
            let of = |value: fn(&Found) -> i64| {
                let mut all: Vec<i64> = line.found.iter().map(value).collect();
                all.sort_unstable();
                all
            };
            let rows = of(|found| found.rows as i64);
            let stopped = of(|found| found.rows_stopped as i64);
            let times = of(|found| found.after_us / SECOND);
            let _ = writeln!(
                out,
                "| {} | {} | {} | {:.2} | {} | {} | {} | {} | {} |",
                scenario.name(),
                line.instances,
                line.found.len(),
                line.recall(),
                if line.found.is_empty() { "–".to_owned() } else { format!("{:.2}", line.precision()) },
                if line.found.is_empty() { "nothing".to_owned() } else { line.rules() },
                both(&rows, |rows| rows.to_string()),
                both(&stopped, |rows| rows.to_string()),
                both(&times, span),
            );
        }
    }

    fn compared(&self, out: &mut String) {
        let watchers = self.watchers();
        let _ = writeln!(out, "\n| recall / precision | {} |", watchers.join(" | "));
        let _ = writeln!(out, "|---{}|", "|---".repeat(watchers.len()));
        for scenario in Scenario::ALL {
            let _ = write!(out, "| {} |", scenario.name());
            for watcher in 0..watchers.len() {
                let line = self.line(watcher, scenario);
                let precision = if line.found.is_empty() { "–".into() } else { format!("{:.2}", line.precision()) };
                let _ = write!(out, " {:.2} / {precision} |", line.recall());
            }
            let _ = writeln!(out);
        }
    }

    fn overall(&self, out: &mut String) {
        let head = "watcher | alerts | by 100 actors and day | incidents | of them true | precision | alerts by rule |";
        let _ = writeln!(out, "\n| {head}\n|---|---|---|---|---|---|---|");
        for (watcher, name) in self.watchers().into_iter().enumerate() {
            let (alerts, daily, (good, all)) = self.totals(watcher);
            let mut rules = std::collections::BTreeMap::<&str, u64>::new();
            for month in self.months {
                for (rule, count) in &month.ledgers[watcher].1.by_rule {
                    *rules.entry(rule).or_default() += count;
                }
            }
            let rules: Vec<_> = rules.iter().map(|(rule, count)| format!("{rule} {count}")).collect();
            let rules = rules.join(", ");
            let precision = share(good, all);
            let _ = writeln!(out, "| {name} | {alerts} | {daily:.2} | {all} | {good} | {precision:.2} | {rules} |");
        }
    }
}

fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

/// The middle one and the last of a sorted list.
fn both(sorted: &[i64], tell: impl Fn(i64) -> String) -> String {
    match sorted.last() {
        Some(last) => format!("{} / {}", tell(sorted[sorted.len() / 2]), tell(*last)),
        None => "–".to_owned(),
    }
}

fn span(seconds: i64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}
