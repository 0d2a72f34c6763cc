//! The access log: chain, segments, verify.
