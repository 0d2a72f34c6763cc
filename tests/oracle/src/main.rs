//! pgveil's reading of SQL against PostgreSQL's own parser (libpg_query), on a corpus and on mutations of it.
//!
//! Usage: `pgveil-oracle FILE|FOLDER…`; environment: SEED, MUTATIONS, CASE (only that mutation, shown), REFUSED (shows the texts
//! of the corpus that pgveil refuses), FREEZE (prints that many mutations with PostgreSQL's tokens and statements, for
//! `tests/vectors/tokens.jsonl`).
//!
//! Every text goes through the same questions; a text that pgveil refuses is counted, never a disagreement. The exit code
//! is 0 only if there was none.

use std::collections::BTreeMap;

mod catalog;
mod corpus;
#[path = "../../support/dice.rs"]
#[allow(dead_code, missing_docs, reason = "a file of the integration tests")]
mod dice;
mod lexing;
mod mutate;
mod names;
mod reading;
mod statements;
mod tree;

use dice::Dice;

/// Disagreements shown of each class.
const SHOWN_MAX: usize = 12;

#[derive(Default)]
struct Tally {
    texts: u64,
    tokens: u64,
    statements: u64,
    accepted: u64,
    /// Texts that PostgreSQL refuses although its scanner does not.
    refused_by_grammar: u64,
    /// Texts that PostgreSQL's scanner refuses, by its message; and how many of them the guard cuts into tokens.
    refused_by_scanner: BTreeMap<String, (u64, u64)>,
    /// Texts that libpg_query's scanner reads otherwise than PostgreSQL's.
    theirs_alone: u64,
    /// Texts that the guard refuses, by its message.
    refused_by_guard: BTreeMap<String, u64>,
    counts: reading::Counts,
    found: BTreeMap<&'static str, u64>,
}

impl Tally {
    fn disagree(&mut self, class: &'static str, what: &str, origin: &str, sql: &str) {
        let seen = self.found.entry(class).or_default();
        *seen += 1;
        if *seen <= SHOWN_MAX as u64 {
            println!("  {class} [{origin}]: {what}\n      {sql:?}");
        }
    }
}

fn main() {
    let number = |name: &str, default: u64| match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")),
        Err(_) => default,
    };
    let (seed, mutations) = (number("SEED", 0), number("MUTATIONS", 1_000_000));
    let paths: Vec<String> = std::env::args().skip(1).collect();
    let corpus = corpus::load(&paths);
    if let Ok(count) = std::env::var("FREEZE") {
        return freeze(&corpus, seed, count.parse().expect("FREEZE is a number"));
    }
    assert!(corpus.len() > 1_000, "{} texts are too few; usage: pgveil-oracle FILE|FOLDER…", corpus.len());
    if let Ok(case) = std::env::var("CASE") {
        let mut dice = mutate::dice(seed, case.parse().unwrap());
        println!("{}", mutate::mutation(&corpus, &mut dice));
        return;
    }
    println!("libpg_query of PostgreSQL {}", version());
    let mut tally = Tally::default();
    tally.counts.show_refused = std::env::var_os("REFUSED").is_some();
    for (index, text) in corpus.iter().enumerate() {
        check(&mut tally, text, &mut mutate::dice(seed, index as u64), &format!("text {index}"));
    }
    report("corpus", &tally);
    let mut wrong = !tally.found.is_empty();
    let mut tally = Tally::default();
    for index in 0..mutations {
        let mut dice = mutate::dice(seed, index);
        let text = mutate::mutation(&corpus, &mut dice);
        check(&mut tally, &text, &mut dice, &format!("CASE={index}"));
    }
    report(&format!("{mutations} mutations, SEED={seed}"), &tally);
    wrong |= !tally.found.is_empty();
    std::process::exit(i32::from(wrong));
}

/// Short mutations that PostgreSQL's scanner cuts, half of which its grammar accepts, one JSON object per line.
fn freeze(corpus: &[String], seed: u64, count: usize) {
    let mut kept = [0, 0];
    for index in 0.. {
        let sql = mutate::mutation(corpus, &mut mutate::dice(seed, index));
        let (own, error) = lexing::ours(&sql);
        let Ok(scanned) = pg_query::scan(&sql) else { continue };
        if sql.len() > 120 || own.len() < 4 || lexing::is_theirs_alone(&sql, &own, error) {
            continue;
        }
        let statements = tree::parse(&sql).ok();
        let half = usize::from(statements.is_some());
        if kept[half] >= count / 2 {
            continue;
        }
        kept[half] += 1;
        let tokens = lexing::theirs(&sql, &scanned);
        let statements = statements.map(|found| statements::ranges(&tokens, &found));
        println!("{}", serde_json::json!({ "sql": sql, "tokens": tokens, "statements": statements }));
        if kept.iter().sum::<usize>() >= count / 2 * 2 {
            return;
        }
    }
}

fn version() -> i32 {
    pg_query::scan("").map_or(0, |scanned| scanned.version)
}

fn check(tally: &mut Tally, sql: &str, dice: &mut Dice, origin: &str) {
    if sql.contains('\0') {
        return;
    }
    tally.texts += 1;
    let scanned = pg_query::scan(sql).map_err(|error| error.to_string());
    let (tokens, error) = lexing::ours(sql);
    tally.tokens += tokens.len() as u64;
    if (sql.contains("--") || error.is_some()) && lexing::is_theirs_alone(sql, &tokens, error) {
        tally.theirs_alone += 1;
        return;
    }
    if let Some(what) = lexing::differs(sql, &tokens, error, scanned.as_ref().map_err(String::as_str)) {
        return tally.disagree("token", &what, origin, sql);
    }
    if let Err(message) = scanned {
        let message = message.split(" at or near").next().unwrap_or("").to_owned();
        let seen = tally.refused_by_scanner.entry(message).or_default();
        seen.0 += 1;
        seen.1 += u64::from(error.is_none());
        return;
    }
    if let Some(error) = error {
        *tally.refused_by_guard.entry(error.to_string()).or_default() += 1;
        // Such a text may be forwarded as it is only if the server refuses it too.
        if tree::accepted(sql) && !reading::refused(sql) {
            tally.disagree("guard", &format!("{error}, but PostgreSQL accepts the text"), origin, sql);
        }
        return;
    }
    let Ok(theirs) = tree::parse(sql) else {
        tally.refused_by_grammar += 1;
        return;
    };
    tally.accepted += 1;
    tally.statements += theirs.len() as u64;
    let ranges = match statements::split(sql, &tokens, &theirs) {
        Ok(ranges) => ranges,
        Err(what) => return tally.disagree("statement", &what, origin, sql),
    };
    let mut agreed = true;
    for (range, statement) in ranges.iter().zip(&theirs) {
        if let Some((class, what)) = statements::differs(sql, &tokens, range, statement) {
            tally.disagree(class, &what, origin, sql);
            agreed = false;
        }
    }
    if agreed && let Some((class, what)) = reading::differs(sql, &theirs, dice, &mut tally.counts) {
        tally.disagree(class, &what, origin, sql);
    }
}

fn report(name: &str, tally: &Tally) {
    println!("{name}: {} texts, {} tokens", tally.texts, tally.tokens);
    println!("  accepted by PostgreSQL  {:>9} texts, {} statements", tally.accepted, tally.statements);
    println!("  refused by its grammar  {:>9} texts, tokens equal", tally.refused_by_grammar);
    for (message, (count, cut)) in &tally.refused_by_scanner {
        println!("  refused by its scanner  {count:>9} texts ({cut} of them cut here): {message}");
    }
    for (message, count) in &tally.refused_by_guard {
        println!("  refused by the guard    {count:>9} texts, and by PostgreSQL or by the decision: {message}");
    }
    println!(
        "  left out                {:>9} texts: `$1a` and comments inside constants, which libpg_query reads in its own way",
        tally.theirs_alone
    );
    let counts = &tally.counts;
    println!(
        "  relations: {} texts name one; {} planned ({} of them with a name that is in no catalog), {} columns compared",
        counts.naming, counts.planned, counts.unknown, counts.columns
    );
    let mut refused: Vec<_> = counts.refused.iter().collect();
    refused.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    for (message, count) in refused.iter().take(25) {
        println!("    refused {count:>9}: {message}");
    }
    println!("  rewritten: {} texts, {} edits", counts.spliced, counts.edits);
    let found: Vec<String> = tally.found.iter().map(|(class, count)| format!("{class} {count}")).collect();
    println!("  disagreements: {}", if found.is_empty() { "none".to_owned() } else { found.join(", ") });
}
