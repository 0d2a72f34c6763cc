//! A private PostgreSQL, 5,000 invented people, the proxy in front, and a tour that checks every claim it makes.
//!
//! In: the installed PostgreSQL binaries. Out: text for a terminal, and a cluster that is gone afterwards. Never: a
//! step that only prints what it wishes were true; anything outside temporary folders.
#![allow(clippy::print_stdout, reason = "the tour is told on a terminal")]

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::Duration;

use crate::error::{Error, Result};
use stage::{Stage, Way};

pub mod cluster;
pub mod leash;
mod lists;
pub mod people;
mod stage;
mod table;
mod tour;

/// How many people the clinic has.
pub const PEOPLE: u64 = 5_000;

/// How a demo ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The tour was walked and every claim held; with `once` false, Ctrl-C came afterwards.
    Whole,
    /// Ctrl-C came during the tour.
    Interrupted,
}

/// Builds everything, walks the tour, and keeps it all running until Ctrl-C unless `once`. `program` is the pgveil
/// binary whose commands are used. Whatever was made is gone when this returns.
///
/// # Errors
/// The first claim that does not hold, or what kept it from being checked.
pub fn run(program: PathBuf, once: bool) -> Result<Ended> {
    let interrupted = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&interrupted);
    ctrlc::set_handler(move || flag.store(true, Ordering::Relaxed))
        .map_err(|error| Error::Config(format!("Ctrl-C cannot be caught: {error}")))?;
    println!("● Setting up");
    let staged = Stage::build(program, &mut |what| println!("  ✓ {what}"));
    let walked = staged.and_then(|stage| tour::walk(&stage, &people::people(PEOPLE)).map(|()| stage));
    let stage = match walked {
        Ok(stage) => stage,
        Err(_) if interrupted.load(Ordering::Relaxed) => return Ok(Ended::Interrupted),
        Err(error) => return Err(error),
    };
    println!("\n● Every claim held.");
    if once {
        return Ok(Ended::Whole);
    }
    invite(&stage);
    while !interrupted.load(Ordering::Relaxed) {
        sleep(Duration::from_millis(50));
    }
    println!("\nStopping, and removing everything.");
    Ok(Ended::Whole)
}

fn invite(stage: &Stage) {
    println!("\n  Look around; all of it goes when you press Ctrl-C.");
    for role in ["app", "analyst", "support"] {
        println!("    psql '{}'", stage.url(role, Way::Proxy));
    }
    println!("    psql '{}'    (past the proxy)", stage.url("app", Way::Direct));
    println!("    curl http://127.0.0.1:{}/metrics", stage.admin());
    println!("    {}", stage.folder().display());
}
