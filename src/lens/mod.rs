//! Policy → DDL: domains, schema pgveil, sealed columns.
