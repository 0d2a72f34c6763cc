//! Whatever is written in a policy or in `pgveil.toml` is read to its end: problems, never a panic, each with a line
//! that the file has.

use std::path::Path;

/// One input.
pub fn run(data: &[u8]) {
    let text = super::text(data);
    let lines = text.matches('\n').count() + 1;
    if let Err(problems) = pgveil::policy::parse(&[("p.toml".to_owned(), text.to_owned())]) {
        assert!(!problems.is_empty() && problems.iter().all(|p| p.line as usize <= lines));
    }
    if let Err(problems) = pgveil::config::parse(Path::new("pgveil.toml"), text) {
        assert!(!problems.is_empty() && problems.iter().all(|p| p.line as usize <= lines));
    }
}
