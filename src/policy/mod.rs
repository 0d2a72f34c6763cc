//! TOML → raw → checked → rules; the clearance of an actor for a column.
//!
//! In: policy text and a schema snapshot. Out: an immutable [`rules::Rules`], or every problem at once with file,
//! line and a suggestion. Never: files, sockets, SQL text.

pub mod canary;
mod check;
pub mod checked;
mod classes;
pub mod code;
mod compile;
mod detect;
pub mod functions;
pub mod grounds;
pub mod lens;
pub mod observe;
pub mod path;
pub mod problem;
pub mod purpose;
mod read;
pub mod reader;
pub mod readers;
pub mod reveal;
mod rule;
pub mod rules;
mod types;
pub mod voucher;
mod words;

pub use checked::Policy;
pub use compile::{Ids, compile};
pub use problem::Problem;
pub use words::{above_name, level_name, mask_name, mode_name};

use problem::Place;
use reader::Document;
use sha2::{Digest, Sha256};

/// Reads and checks the files of one policy: (path as the user named it, text) each.
///
/// # Errors
/// Every problem of every file.
pub fn parse(files: &[(String, String)]) -> Result<Policy, Vec<Problem>> {
    let mut problems = Vec::new();
    let mut read = Vec::new();
    for (name, text) in files {
        let document = Document::new(name, text);
        read.push(document.read(read::file));
        problems.extend(document.problems());
    }
    let name = files.first().map_or("policy", |(name, _)| name.as_str());
    if files.is_empty() {
        problems.push(Problem::whole(name, "there is no policy file", "put a .toml file into the folder".to_owned()));
    }
    let whole = Place { file: name.into(), line: 0 };
    let mut policy = check::join(read, &whole, &mut problems);
    let mut digest = Sha256::new();
    for (_, text) in files {
        digest.update((text.len() as u64).to_be_bytes());
        digest.update(text);
    }
    policy.digest = hex::encode(&digest.finalize()[..8]);
    if problems.is_empty() { Ok(policy) } else { Err(problems) }
}

#[cfg(test)]
mod tests;
