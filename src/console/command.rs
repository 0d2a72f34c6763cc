//! The console's commands, as they are typed.
//!
//! In: one text. Out: a [`Command`], or why it is none. Never: SQL; two commands at once; a word of the text in an error or
//! in the access log that was not understood.

use std::fmt;

/// Longest text that can be a command, in bytes.
const LENGTH_MAX: usize = 1_024;

/// One command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// `SHOW …`
    Show(Show),
    /// Read keyring, policy and certificates anew.
    Reload,
    /// Let nothing new begin.
    Pause,
    /// Go on.
    Resume,
}

macro_rules! shows {
    ($($name:ident $word:literal $what:literal;)*) => {
        /// What can be shown.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Show { $(#[doc = $what] $name,)* }

        impl Show {
            /// All of them, in the order of `SHOW HELP`, with what they show.
            pub const ALL: &'static [(Show, &'static str, &'static str)] = &[$((Show::$name, $word, $what),)*];
        }
    };
}

shows! {
    Help "HELP" "These commands.";
    Stats "STATS" "Every metric of /metrics without its buckets.";
    Sessions "SESSIONS" "Who is logged in, from where, since when, and what the session is at.";
    Rules "RULES" "The columns that the rules in force protect, and how.";
    Policy "POLICY" "The policy in force: its version, whether it is enforced, how many tables, columns and roles.";
    Keys "KEYS" "The keys of columns: ids, how many versions, ages. No key material.";
    Audit "AUDIT" "Whether the access log can be written, where it is, and how far behind.";
    Config "CONFIG" "The settings in force, without secrets.";
    Version "VERSION" "The version of pgveil.";
}

/// Commands that change something, with what they do.
pub const ACTIONS: &[(&str, &str)] = &[
    ("RELOAD", "Read keyring, policy and TLS certificates anew, as SIGHUP does."),
    ("PAUSE", "Let statements and transactions finish, hold new ones; answers when everything rests."),
    ("RESUME", "End a pause."),
];

impl Command {
    /// It changes nothing.
    pub fn reads_only(&self) -> bool {
        matches!(self, Command::Show(_))
    }

    /// What the client gets as the command's name.
    pub fn tag(&self) -> &'static str {
        match self {
            Command::Show(_) => "SHOW",
            Command::Reload => "RELOAD",
            Command::Pause => "PAUSE",
            Command::Resume => "RESUME",
        }
    }
}

/// As it would be typed.
impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Command::Show(what) => {
                let word = Show::ALL.iter().find(|(show, ..)| show == what).map_or("", |(_, word, _)| word);
                write!(f, "SHOW {word}")
            }
            other => f.write_str(other.tag()),
        }
    }
}

/// Why a text is no command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoCommand {
    /// It begins with no command's name.
    #[error("this is no command of the console, which knows no SQL")]
    Unknown,
    /// `SHOW` of something that is not there.
    #[error("SHOW does not know this")]
    NotShown,
    /// There is more after the command.
    #[error("something follows the command")]
    Trailing,
    /// It is longer than any command.
    #[error("this is too long for a command")]
    TooLong,
}

/// Reads one command; case does not matter, a `;` may end it.
///
/// # Errors
/// Why it is none.
pub fn parse(text: &str) -> Result<Command, NoCommand> {
    if text.len() > LENGTH_MAX {
        return Err(NoCommand::TooLong);
    }
    let text = text.trim();
    let mut words = text.strip_suffix(';').unwrap_or(text).split_whitespace();
    let mut word = || words.next().map(str::to_ascii_uppercase);
    let command = match word().as_deref() {
        Some("SHOW") => {
            let what = word().unwrap_or_default();
            let known = Show::ALL.iter().find(|(_, name, _)| *name == what);
            Command::Show(known.ok_or(NoCommand::NotShown)?.0)
        }
        Some("RELOAD") => Command::Reload,
        Some("PAUSE") => Command::Pause,
        Some("RESUME") => Command::Resume,
        _ => return Err(NoCommand::Unknown),
    };
    match word() {
        None => Ok(command),
        Some(_) => Err(NoCommand::Trailing),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_reads_back_as_it_is_shown() {
        let shows = Show::ALL.iter().map(|(show, ..)| Command::Show(*show));
        for command in shows.chain([Command::Reload, Command::Pause, Command::Resume]) {
            let text = command.to_string();
            for typed in [text.clone(), text.to_lowercase(), format!("\n {text} ;"), format!("{text};")] {
                assert_eq!(parse(&typed), Ok(command.clone()), "{typed}");
            }
            assert_eq!(command.reads_only(), text.starts_with("SHOW "));
            assert!(text.starts_with(command.tag()));
        }
        for (name, _) in ACTIONS {
            assert!(parse(name).is_ok_and(|command| !command.reads_only()), "{name}");
        }
    }

    #[test]
    fn what_is_no_command_says_why() {
        for (text, expected) in [
            ("", NoCommand::Unknown),
            (";", NoCommand::Unknown),
            ("select 1", NoCommand::Unknown),
            ("show", NoCommand::NotShown),
            ("show tables", NoCommand::NotShown),
            ("show stats extra", NoCommand::Trailing),
            ("reload; pause", NoCommand::Unknown),
            ("reload ; pause", NoCommand::Trailing),
            ("RELOAD;;", NoCommand::Unknown),
        ] {
            assert_eq!(parse(text), Err(expected), "{text}");
        }
        assert_eq!(parse(&"show ".repeat(1_000)), Err(NoCommand::TooLong));
    }
}
