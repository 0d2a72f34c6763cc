//! What is typed on the console is one of few commands or none; a command reads back from how it is shown, and what is
//! shown of a text that is none holds nothing of it.

use pgveil::console::{Command, parse};

/// One input: what was typed.
pub fn run(data: &[u8]) {
    let text = super::text(data);
    match parse(text) {
        Ok(command) => {
            assert_eq!(parse(&command.to_string()), Ok(command.clone()));
            assert_eq!(command.reads_only(), matches!(command, Command::Show(_)));
            assert!(text.to_ascii_uppercase().contains(command.tag()));
        }
        Err(why) => assert!(!why.to_string().is_empty()),
    }
}
