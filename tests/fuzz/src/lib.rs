//! The bodies of the fuzz targets: one input in, a panic if an invariant does not hold.
//!
//! Run by libFuzzer (`fuzz_targets`, nightly), and by `cargo test` over the committed corpus (`tests/fuzz.rs`, stable).

pub mod array;
pub mod audit_note;
pub mod audit_packed;
pub mod audit_proof;
pub mod audit_reader;
pub mod certificate;
pub mod console_command;
pub mod copy_rows;
pub mod envelope;
pub mod frames;
pub mod guard_lexer;
pub mod keyring;
pub mod plan;
pub mod policy_file;
pub mod quarantine_file;
pub mod rules;
pub mod scram;
pub mod script;
pub mod server;
pub mod session_client;
pub mod session_server;
pub mod stage;
pub mod startup;
pub mod value;
pub mod voucher;

/// One input.
pub type Target = fn(&[u8]);

/// All targets by name.
pub const TARGETS: [(&str, Target); 21] = [
    ("array", array::run),
    ("audit_note", audit_note::run),
    ("audit_packed", audit_packed::run),
    ("audit_proof", audit_proof::run),
    ("audit_reader", audit_reader::run),
    ("certificate", certificate::run),
    ("console_command", console_command::run),
    ("copy_rows", copy_rows::run),
    ("envelope", envelope::run),
    ("frames", frames::run),
    ("guard_lexer", guard_lexer::run),
    ("keyring", keyring::run),
    ("plan", plan::run),
    ("policy_file", policy_file::run),
    ("quarantine_file", quarantine_file::run),
    ("scram", scram::run),
    ("session_client", session_client::run),
    ("session_server", session_server::run),
    ("startup", startup::run),
    ("value", value::run),
    ("voucher", voucher::run),
];

/// The longest beginning of the input that is text.
fn text(data: &[u8]) -> &str {
    match std::str::from_utf8(data) {
        Ok(text) => text,
        Err(error) => std::str::from_utf8(&data[..error.valid_up_to()]).unwrap_or_default(),
    }
}
