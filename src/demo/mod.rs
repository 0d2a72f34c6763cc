//! A private PostgreSQL, 5,000 invented people, the proxy in front, and a tour that checks every claim it makes.
//!
//! In: the installed PostgreSQL binaries. Out: text for a terminal, and a cluster that is gone afterwards. Never: a
//! step that only prints what it wishes were true; anything outside one temporary folder.

pub mod cluster;
