//! pgveil.toml.
