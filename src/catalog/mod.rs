//! Reads pg_catalog on the control connection.
