//! pgveil: a transparent privacy proxy for PostgreSQL.
//!
//! # The map
//!
//! Bytes come in at `relay`, are cut into frames by `wire`, judged by `session` with the help of `plan` and
//! `policy`, and leave again. Everything below floor 5 is pure: no socket, file, environment, clock or randomness
//! that is not an argument. Imports point down only; `tests/tidy.rs` holds the table.
//!
//! | floor | rooms | what they are |
//! |---|---|---|
//! | 0 nouns | [`error`] [`event`] [`secret`] [`clock`] [`metrics`] | the words everything else is said in |
//! | 1 tools | [`wire`] [`sql`] [`crypto`] [`mask`] | frames, values, SQL text, seals, masks |
//! | 2 judgement | [`policy`] [`detect`] | what is allowed; what is alarming |
//! | 3 work | [`plan`] | statement + rules → what to do with each parameter, literal, field, COPY column |
//! | 4 mind | [`session`] | one connection's protocol mind, sans-I/O |
//! | 5 world | [`relay`] [`auth`] [`keys`] [`audit`] [`catalog`] [`lens`] [`store`] [`desk`] | sockets, files, PostgreSQL |
//! | 6 verbs | [`doctor`] [`console`] [`notify`] [`report`] | off the hot path: proves that nothing has a hole; answers operators; tells people of alerts; drafts for authorities |
//! | 7 door | [`admin`] [`cli`] [`config`] [`demo`] | ports, commands, configuration |
//!
//! # What never happens
//!
//! - A value is opened only in a field whose *type* says it is sealed, and only by the caller's policy for the
//!   column id inside the envelope. The reading of SQL makes pgveil useful, never safe.
//! - SQL is spliced, never re-printed. What needs no work leaves byte-identical.
//! - No value, key or parameter reaches a log, metric, error or event: the types have no field for one.
//! - Nothing is dropped silently, nothing is unbounded, nothing falls back to plaintext.

// The simulations use the fuzz targets' scripted server and rules as they are.
#[cfg(test)]
extern crate self as pgveil;

pub mod clock;
pub mod error;
pub mod event;
pub mod metrics;
pub mod secret;

pub mod crypto;
pub mod mask;
pub mod sql;
pub mod wire;

pub mod detect;
pub mod policy;

pub mod plan;

pub mod session;

pub mod audit;
pub mod auth;
pub mod catalog;
pub mod desk;
pub mod keys;
pub mod lens;
pub mod relay;
pub mod store;

pub mod console;
pub mod doctor;
pub mod notify;
pub mod report;

pub mod admin;
pub mod cli;
pub mod config;
pub mod demo;
