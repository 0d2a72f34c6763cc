//! The binary: parse the command line, run the command, say how it ended.

use std::process::ExitCode;

fn main() -> ExitCode {
    pgveil::cli::main()
}
