//! The README says what is: its tables are the code's.

use std::fs;

use pgveil::console::{ACTIONS, Show};
use pgveil::error::Code;
use pgveil::metrics::CATALOGUE;

use crate::support::repository;

fn readme() -> String {
    fs::read_to_string(repository().join("README.md")).unwrap()
}

/// The rows of the table whose header line is `header`.
fn table(header: &str) -> Vec<String> {
    let text = readme();
    let rest = text.split_once(header).unwrap_or_else(|| panic!("no table {header}")).1;
    rest.lines().skip(2).take_while(|line| line.starts_with('|')).map(str::to_owned).collect()
}

#[test]
fn the_error_codes_are_all_there() {
    let expected: Vec<String> = Code::ALL
        .iter()
        .map(|code| format!("| `{}` | `{}` | {} |", code.as_str(), code.sqlstate().as_str(), code.meaning()))
        .collect();
    assert_eq!(table("| code | SQLSTATE | meaning |"), expected);
}

#[test]
fn the_metrics_are_all_there() {
    let expected: Vec<String> = CATALOGUE
        .iter()
        .map(|metric| {
            format!("| `{}` | {} | {} |", metric.name, format!("{:?}", metric.kind).to_lowercase(), metric.help)
        })
        .collect();
    assert_eq!(table("| metric | type | what |"), expected);
}

#[test]
fn the_commands_of_the_console_are_all_there() {
    let shows = Show::ALL.iter().map(|(_, word, what)| format!("| `SHOW {word}` | {what} |"));
    let actions = ACTIONS.iter().map(|(name, what)| format!("| `{name}` | {what} |"));
    assert_eq!(table("| command | what it shows or does |"), shows.chain(actions).collect::<Vec<_>>());
}

#[test]
fn its_commands_are_what_ci_runs() {
    let (text, ci) = (readme(), fs::read_to_string(repository().join(".ci/run")).unwrap());
    for command in ["make demo", "make test"] {
        assert!(text.contains(command));
    }
    assert!(ci.lines().any(|line| line == "make test") && ci.lines().any(|line| line == "make lint"));
}

#[test]
fn its_policy_and_configuration_load() {
    let text = readme();
    let blocks: Vec<String> = text
        .split("```toml\n")
        .skip(1)
        .filter_map(|rest| rest.split("```").next())
        .map(|block| block.lines().map(|line| line.strip_prefix("   ").unwrap_or(line)).collect::<Vec<_>>().join("\n"))
        .collect();
    let config = blocks.iter().find(|block| block.contains("[listen]")).expect("an example of pgveil.toml");
    let parsed = pgveil::config::parse(std::path::Path::new("pgveil.toml"), config);
    assert!(parsed.is_ok(), "{parsed:?}");
    let policy = blocks.iter().find(|block| block.contains("version = 1")).expect("an example of a policy");
    let parsed = pgveil::policy::parse(&[("policy.toml".to_owned(), policy.clone())]);
    assert!(parsed.is_ok(), "{:?}", parsed.err());
}
