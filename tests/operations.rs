//! What operators are given: alert rules that are tested one by one, a runbook with a section for each.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use crate::support::{repository, skip};

const TESTS: [&str; 2] = ["alerts_test.yml", "alerts_days_test.yml"];

/// For whoever adds an alert.
const NEEDS: &str = "An alert needs four things: its rule in docker/alerts.yml; there an annotation \
    `runbook: \"RUNBOOK.md#<its name in lower case>\"`; a section `## <its name>` in docker/RUNBOOK.md with the paragraphs \
    **Means.** **Look at.** **Do.** **Over when.**; and in docker/alerts_test.yml a case that fires and a case with \
    `exp_alerts: []`.";

fn docker(name: &str) -> String {
    fs::read_to_string(repository().join("docker").join(name)).unwrap()
}

/// The rules of alerts.yml: name, and everything up to the next one.
fn alerts() -> Vec<(String, String)> {
    let text = docker("alerts.yml");
    let rules = text.split("- alert: ").skip(1);
    rules.map(|rule| (rule.lines().next().unwrap().trim().to_owned(), rule.to_owned())).collect()
}

/// The sections of RUNBOOK.md: heading and text.
fn sections() -> Vec<(String, String)> {
    let text = docker("RUNBOOK.md");
    let sections = text.split("\n## ").skip(1).map(|section| section.split_once('\n').unwrap());
    sections.map(|(heading, text)| (heading.trim().to_owned(), text.to_owned())).collect()
}

#[test]
fn every_alert_has_its_section_in_the_runbook_and_every_section_its_alert() {
    let (alerts, sections) = (alerts(), sections());
    assert!(alerts.len() >= 16);
    let names = |of: &[(String, String)]| of.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&alerts), names(&sections), "alerts.yml and RUNBOOK.md, in the same order. {NEEDS}");
    for (name, rule) in alerts {
        let link = format!("runbook: \"RUNBOOK.md#{}\"", name.to_lowercase());
        assert!(rule.contains(&link), "{name} has no {link}. {NEEDS}");
        assert!(rule.contains("summary: ") && rule.contains("severity: "), "{name} has no summary or no severity");
    }
    for (name, text) in &sections {
        let at: Vec<_> = ["**Means.**", "**Look at.**", "**Do.**", "**Over when.**"].map(|part| text.find(part)).into();
        assert!(at.iter().all(Option::is_some) && at.is_sorted(), "{name}: {at:?}. {NEEDS}");
    }
}

/// What the runbook refers to inside itself is there.
#[test]
fn the_runbook_leads_somewhere() {
    let headings: Vec<_> = sections().iter().map(|(name, _)| name.to_lowercase()).collect();
    let text = docker("RUNBOOK.md");
    for target in text.split("](#").skip(1).map(|rest| rest.split(')').next().unwrap()) {
        assert!(headings.iter().any(|heading| heading == target), "RUNBOOK.md leads to #{target}, which is not there");
    }
}

#[test]
fn every_alert_is_tested_to_fire_and_not_to_fire() {
    let mut cases: BTreeMap<String, [usize; 2]> = BTreeMap::new();
    for file in TESTS {
        for case in docker(file).split("alertname: ").skip(1) {
            let name = case.lines().next().unwrap().trim().to_owned();
            let quiet = usize::from(case.contains("exp_alerts: []"));
            cases.entry(name).or_default()[quiet] += 1;
        }
    }
    let mut missing: Vec<_> = alerts().into_iter().map(|(name, _)| name).collect();
    missing.retain(|name| cases.remove(name).is_none_or(|[fires, quiet]| fires == 0 || quiet == 0));
    assert!(missing.is_empty(), "{missing:?} have no case that fires, or none that does not. {NEEDS}");
    assert!(cases.is_empty(), "cases of alerts that are not there: {cases:?}");
}

#[test]
fn the_alert_rules_do_what_their_tests_say() {
    let mut promtool = Command::new("promtool");
    promtool.current_dir(repository().join("docker")).args(["test", "rules"]).args(TESTS);
    let Ok(output) = promtool.output() else {
        let test = "operations::the_alert_rules_do_what_their_tests_say";
        return skip(test, "promtool is not installed (apt-get install prometheus)");
    };
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{}\n{NEEDS}", String::from_utf8_lossy(&said));
}
