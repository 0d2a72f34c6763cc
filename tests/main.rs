//! The one integration binary: pgveil as a process, in front of a real PostgreSQL, spoken to by real drivers.

#![allow(unreachable_pub, reason = "a test binary exports nothing")]
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr, reason = "tests may")]

mod absent;
mod alerts;
mod apply;
mod auth;
mod bytes;
mod catalog;
mod clearance;
mod copy_formats;
mod copy_rows;
mod crash;
mod definitions;
mod docker;
mod doctor;
mod drift;
mod envelopes;
mod explain;
mod faults;
mod frames;
mod functions;
mod fuzz;
mod gigabyte;
mod harness;
mod hostile;
mod leak;
mod leaks;
mod lenses;
mod limits;
mod masks;
mod metrics;
mod names;
mod network;
mod observe;
mod passthrough;
mod properties;
mod protocol_scripts;
mod purposes;
mod readme;
mod scenario;
mod shapes;
mod shipping;
mod sizes;
mod sql_agreement;
mod sql_prepare;
mod startup;
mod statements;
mod support;
mod tls;
mod tokio_client;
mod tour;
mod typing;
mod users_code;
mod values;
mod ways;
