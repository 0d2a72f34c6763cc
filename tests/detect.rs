//! The evaluation of `bench/detect/` in small: the same month gives the same verdict, whatever the seed, and finds what
//! is loud.

#[path = "../bench/detect/mod.rs"]
mod evaluation;

use evaluation::policy::{Limits, unwatched};
use evaluation::table::Table;
use evaluation::{Size, Watched, hospital, quiet, watch};

fn size(seed: u64) -> Size {
    Size { seed, clinicians: 40, days: 4, each: 1 }
}

fn limits() -> Limits {
    let quiet = hospital(Size { days: 3, ..size(1_003) });
    Limits::recommended(quiet::busiest(&quiet, &unwatched())).with_unusual(&quiet)
}

/// Everything that was raised by everybody, and when.
fn verdict(month: &Watched) -> Vec<(&'static str, u64, u64)> {
    month.ledgers.iter().map(|(name, ledger)| (*name, ledger.alerts, ledger.digest)).collect()
}

#[test]
fn the_same_seed_is_the_same_month_and_the_same_verdict() {
    let limits = limits();
    let verdicts: Vec<_> = (1..=2).map(|seed| verdict(&watch(size(seed), &limits))).collect();
    for (seed, before) in (1..).zip(&verdicts) {
        assert_eq!(verdict(&watch(size(seed), &limits)), *before, "seed {seed}");
    }
    assert_ne!(verdicts[0], verdicts[1], "another seed is another month");
}

#[test]
fn the_table_says_what_was_missed() {
    let month = watch(size(3), &limits());
    assert!(month.events > 20_000 && month.actors == 63, "{} events", month.events);
    let months = [month];
    let table = Table::new(&months);
    let text = table.markdown();
    assert!(text.contains("| bulk dump | 1 | 1 | 1.00 |"), "{text}");
    assert!(text.contains("| VIP snoop | 1 | 0 | 0.00 | – | nothing |"), "{text}");
    let bars = table.bars();
    assert!(bars.iter().any(|bar| bar.what.starts_with("bulk dump: recall 1.00, ")));
    assert!(bars.iter().any(|bar| bar.met && bar.what.starts_with("alerts: ")));
    assert!(bars.iter().any(|bar| !bar.met && bar.what.starts_with("VIP snoop: recall 0.00, ")));
}
