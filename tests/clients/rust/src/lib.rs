//! What a Rust client of the matrix is made of: steps, each of which prints what it got (see `../matrix.sh`).

use std::error::Error;
use std::fmt::Debug;

use bigdecimal::BigDecimal;
use chrono::{DateTime, NaiveDate, NaiveDateTime, Utc};
use uuid::Uuid;

pub const ADA: &str = "ada.kanarie@example.org";
pub const BOB: &str = "bob.kanarie@example.org";
pub const ZOE: &str = "zoë.kanarie@example.org";
pub const NEW: &str = "new.kanarie@example.org";
pub const TX: &str = "tx.kanarie@example.org";
pub const BIG: i64 = 9_007_199_254_740_993;
pub const BLOB: &[u8] = &[0, 255, 16, 254, 209];
pub const BOBS_NAME: &str = "Bob\n\"kanarie\" \\ $1";

pub type Outcome = Result<(), Box<dyn Error + Send + Sync>>;

/// One step of a client.
#[macro_export]
macro_rules! steps {
    ($($name:literal => $run:expr),* $(,)?) => { $( println!("## {}", $name); $crate::ended($run); )* };
}

/// A step that fails says how, and the next one starts.
pub fn ended(outcome: Outcome) {
    if let Err(error) = outcome {
        let text = format!("{error}: {error:?}");
        println!("failed: {}", text.split_whitespace().collect::<Vec<_>>().join(" "));
    }
}

/// The version of a dependency.
pub fn version(name: &str) -> &'static str {
    let after = include_str!("../Cargo.lock").split(&format!("name = \"{name}\"\nversion = \"")).nth(1);
    after.and_then(|rest| rest.split('"').next()).unwrap_or("?")
}

pub fn show(what: impl Debug) {
    println!("   {what:?}");
}

pub fn same<T: PartialEq + Debug>(what: &str, got: T, expected: T) -> Outcome {
    if got != expected {
        return Err(format!("{what}: {got:?} is not {expected:?}").into());
    }
    println!("   {what} {got:?}");
    Ok(())
}

pub fn token() -> Uuid {
    "6ba7b810-9dad-11d1-80b4-00c04fd430c8".parse().expect("a UUID")
}

pub fn date(text: &str) -> NaiveDate {
    text.parse().expect("a date")
}

pub fn seen() -> DateTime<Utc> {
    "2026-03-01T10:30:00.25Z".parse().expect("an instant")
}

pub fn woke() -> NaiveDateTime {
    "2026-03-01T06:15:00".parse().expect("a time")
}

pub fn number(text: &str) -> BigDecimal {
    text.parse().expect("a number")
}

pub fn bulk(first: i32, count: i32) -> (Vec<i32>, Vec<String>, Vec<String>) {
    let ids: Vec<i32> = (first..first + count).collect();
    let emails = ids.iter().map(|id| format!("bulk{id}.kanarie@example.org")).collect();
    let names = ids.iter().map(|id| format!("kanarie {id}")).collect();
    (ids, emails, names)
}
