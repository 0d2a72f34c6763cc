//! Bytes ↔ frames, rows, COPY rows, typed values.
//!
//! In: bytes from either peer. Out: borrowed frames and fields, bytes appended to the caller's buffer. Never: I/O,
//! policy, a panic on hostile bytes, a lossy decode.

pub mod array;
pub mod certificate;
pub mod copy;
pub mod encode;
pub mod frame;
pub mod message;
pub mod scram;
pub mod startup;
pub mod types;
pub mod value;
