//! TOML → raw → checked → rules; the clearance of an actor for a column.
//!
//! In: policy text and a schema snapshot. Out: an immutable [`rules::Rules`], or every problem at once with file,
//! line and a suggestion. Never: files, sockets, SQL text.

pub mod problem;
pub mod reader;
pub mod rules;
