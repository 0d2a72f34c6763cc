//! The fuzz targets on stable Rust: every committed input, and a bounded number of mutations of them with a fixed seed.
//!
//! `make fuzz` looks for more with libFuzzer; an input it finds goes into tests/fuzz/corpus, and is run here ever after.

#[path = "fuzz/src/lib.rs"]
mod targets;

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};

use crate::support::Dice;
use targets::{TARGETS, Target};

/// Mutated inputs of one target. Each takes from microseconds to a millisecond or two, unoptimised.
const MUTATIONS: usize = 500;
/// Longest mutated input, in bytes.
const LENGTH_MAX: usize = 2_048;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz")
}

/// The committed inputs of a target, always in the same order.
fn corpus(name: &str) -> Vec<Vec<u8>> {
    let folder = folder().join("corpus").join(name);
    let entries = fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.iter().map(|file| fs::read(file).unwrap()).collect()
}

/// One change: a bit, a telling byte, a piece left out, said twice, or taken from another input.
fn mutate(input: &mut Vec<u8>, other: &[u8], random: &mut Dice) {
    let at = random.below(input.len() + 1);
    let end = at + random.below(input.len() - at + 1).min(16);
    match random.below(6) {
        0 if at < input.len() => input[at] ^= 1 << random.below(8),
        1 if at < input.len() => {
            input[at] = [0, 1, 0x7f, 0x80, 0xff, b'\\', b'\'', b'"', b'\n', b'$'][random.below(10)]
        }
        2 => drop(input.drain(at..end)),
        3 => {
            let piece = input[at..end].to_vec();
            input.splice(at..at, piece);
        }
        4 => {
            let from = random.below(other.len() + 1);
            let to = from + random.below(other.len() - from + 1).min(64);
            input.splice(at..end, other[from..to].iter().copied());
        }
        _ => input.insert(at, random.next() as u8),
    }
    input.truncate(LENGTH_MAX);
}

/// Runs one input; where it does not hold, the input is said before the test fails.
fn hold(name: &str, target: Target, input: &[u8]) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| target(input))) {
        println!("fuzz target {name} does not hold for {}", hex::encode(input));
        resume_unwind(panic);
    }
}

#[test]
fn every_target_holds_for_its_corpus_and_what_is_like_it() {
    std::thread::scope(|scope| {
        for (name, target) in TARGETS {
            scope.spawn(move || {
                let corpus = corpus(name);
                assert!(!corpus.is_empty(), "{name} has no corpus");
                corpus.iter().for_each(|input| hold(name, target, input));
                let mut random = Dice(0);
                for _ in 0..MUTATIONS {
                    let mut input = corpus[random.below(corpus.len())].clone();
                    for _ in 0..=random.below(4) {
                        mutate(&mut input, &corpus[random.below(corpus.len())], &mut random);
                    }
                    hold(name, target, &input);
                }
            });
        }
    });
}

#[test]
fn every_target_can_be_fuzzed() {
    let manifest = fs::read_to_string(folder().join("Cargo.toml")).unwrap();
    let bins = manifest.matches("\n[[bin]]\n").count();
    assert_eq!(bins, TARGETS.len(), "[[bin]]s and TARGETS");
    for (name, _) in TARGETS {
        assert!(manifest.contains(&format!("path = \"fuzz_targets/{name}.rs\"")), "{name} is no [[bin]]");
        let body = fs::read_to_string(folder().join(format!("fuzz_targets/{name}.rs"))).unwrap();
        assert!(body.contains(&format!("pgveil_fuzz::{name}::run")), "fuzz_targets/{name}.rs runs something else");
    }
}
