//! How well the detector detects: `make detect`, or `cargo bench --bench detect -- [--seeds N] [--clinicians N]
//! [--days N] [--each N] [--check]`.
//!
//! Prints the policy the months are watched under, one table, and the bars; with `--check` a missed bar is exit code 1.
#![allow(unreachable_pub, reason = "a bench exports nothing")]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a bench prints")]

mod cost;
#[path = "mod.rs"]
mod evaluation;

use std::process::ExitCode;

use evaluation::hospital::Hospital;
use evaluation::policy::{self, Limits};
use evaluation::table::{Bar, Table};
use evaluation::{Size, hospital, quiet, watch};
use peak_alloc::PeakAlloc;
use pgveil::detect::Thresholds;

#[global_allocator]
static ALLOC: PeakAlloc = PeakAlloc;

/// What was asked for.
struct Asked {
    seeds: u64,
    clinicians: Option<usize>,
    days: i64,
    each: usize,
    check: bool,
}

/// Between the issue's 200 and 2,000, in steps of the same factor.
const CLINICIANS: [usize; 5] = [600, 200, 2_000, 350, 1_100];

/// The month that thresholds are set by; none that is scored.
const QUIET: u64 = 1_003;

fn asked() -> Result<Asked, String> {
    let mut asked = Asked { seeds: 3, clinicians: None, days: 30, each: 10, check: false };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut number = || {
            let value = words.next().and_then(|value| value.parse::<u32>().ok()).filter(|value| *value > 0);
            value.ok_or(format!("{word} needs a number above 0"))
        };
        match word.as_str() {
            "--seeds" => asked.seeds = number()?.into(),
            "--clinicians" => asked.clinicians = Some(number()? as usize),
            "--days" => asked.days = number()?.into(),
            "--each" => asked.each = number()? as usize,
            "--check" => asked.check = true,
            // Cargo's own.
            "--bench" => {}
            _ => return Err(format!("what is {word}? --seeds N, --clinicians N, --days N, --each N, --check")),
        }
    }
    if asked.days < 25 {
        return Err("--days: at least 25, one scenario takes 20".to_owned());
    }
    if asked.clinicians.is_some_and(|clinicians| clinicians < 20 * asked.each) {
        return Err("--clinicians: at least 20 for each of --each, every attack has its own actor".to_owned());
    }
    Ok(asked)
}

fn main() -> ExitCode {
    let asked = match asked() {
        Ok(asked) => asked,
        Err(message) => {
            eprintln!("{message}");
            return ExitCode::from(2);
        }
    };
    if cfg!(debug_assertions) {
        println!("built without optimisation: nanoseconds mean nothing\n");
    }
    let size = |seed: u64| Size {
        seed,
        clinicians: asked.clinicians.unwrap_or(CLINICIANS[(seed as usize - 1) % CLINICIANS.len()]),
        days: asked.days,
        each: asked.each,
    };
    let first = hospital(size(1));
    let quiet = hospital(Size { clinicians: asked.clinicians.unwrap_or(CLINICIANS[0]), ..size(QUIET) });
    let busiest = quiet::busiest(&quiet, &policy::unwatched());
    let recommended = Limits::recommended(busiest).with_unusual(&quiet);
    println!("A quiet month (seed {QUIET}): {busiest:?}\n\n```toml\n{}```\n", recommended.toml(&first, true));
    let mut months = Vec::new();
    for seed in 1..=asked.seeds {
        eprintln!("seed {seed} of {}", asked.seeds);
        months.push(watch(size(seed), &recommended));
    }
    let table = Table::new(&months);
    println!("{}", table.markdown());
    let mut bars = table.bars();
    bars.extend(costs(&first, &recommended.thresholds(&first)));
    for bar in &bars {
        println!("{} {}", if bar.met { "PASS" } else { "MISS" }, bar.what);
    }
    ExitCode::from(u8::from(asked.check && bars.iter().any(|bar| !bar.met)))
}

fn costs(hospital: &Hospital, thresholds: &Thresholds) -> Vec<Bar> {
    let nanoseconds = cost::nanoseconds(hospital, thresholds);
    let speed = Bar { what: format!("{nanoseconds:.0} ns an event, at most 1000"), met: nanoseconds <= 1_000.0 };
    let memory = cost::memory(hospital, thresholds, cost::ACTORS, &ALLOC);
    let what = format!(
        "{:.0} MB for {} actors of whom {} are active ({} evicted; {:.0} bytes each, {:.0} MB at most), at most 100",
        memory.bytes as f64 / 1e6,
        cost::ACTORS,
        memory.held,
        memory.evicted,
        memory.bytes as f64 / memory.held.max(1) as f64,
        memory.peak as f64 / 1e6,
    );
    vec![speed, Bar { what, met: memory.bytes <= 100_000_000 && memory.held >= cost::ACTORS / 5 }]
}
