//! Logins to the console: the database `pgveil`, which PostgreSQL does not have.
//!
//! In: a startup packet, what the login has proven. Out: the packet for the server, which judges the login in the policy's
//! database as it judges every other; who may go on. Never: a login that nobody has proven, a word to a stranger about
//! which roles the console knows.

use std::net::IpAddr;

use super::login::{Checked, printable};
use super::purpose::Purpose;
use super::{Close, Context, Session, Settings};
use crate::error::{Code, Refusal};
use crate::event::{Actor, ActorAuth};
use crate::policy::rules::Rules;
use crate::wire::startup::Startup;

/// The console's name where clients name a database.
pub const DATABASE: &str = "pgveil";

/// The client wants the console, and there is one.
pub(super) fn asked(settings: &Settings, startup: &Startup) -> bool {
    !settings.console.is_empty() && startup.database() == Some(DATABASE.as_bytes())
}

/// The server hears of the login and of nothing that could change how it goes.
pub(super) fn check(mut startup: Startup, role: String, client: Option<IpAddr>, rules: &Rules) -> Checked {
    let application = startup.parameter("application_name").map(printable).unwrap_or_default();
    // The options of the protocol stay: the server says which of them it does not know.
    startup.parameters.retain(|(name, _)| {
        [&b"user"[..], b"application_name"].contains(&name.as_slice()) || name.starts_with(b"_pq_.")
    });
    startup.set("database", rules.schema.database.as_bytes());
    startup.set("client_encoding", b"UTF8");
    let actor = Actor {
        role,
        database: DATABASE.to_owned(),
        auth: ActorAuth::None,
        certificate: None,
        application,
        client,
        purpose: None,
        purpose_by: None,
        person: None,
    };
    Checked { startup, actor, transparent: false, console: true, purpose: Purpose::default() }
}

impl Session {
    /// The client wants the console.
    pub fn console_login(&self) -> bool {
        self.console_login
    }

    /// A console that is through its login.
    pub fn console(&self) -> bool {
        self.phase == super::Phase::Console
    }

    /// The login is proven; whether it may use the console is said only now.
    pub(super) fn admit_to_console(&mut self, auth: ActorAuth, cx: &mut Context<'_>) -> Result<(), Close> {
        if !self.console_login {
            return Ok(());
        }
        if auth == ActorAuth::Trust {
            return Err(self.untrusted(cx));
        }
        if self.settings.console.contains(&self.actor.role) {
            return Ok(());
        }
        let refusal = Refusal::new(
            Code::ConsoleDenied,
            format!("role \"{}\" may not use the console", self.actor.role),
            "Name the role in [console] roles or read_only_roles.",
        );
        Err(self.deny(&refusal, "the role may not use the console", cx))
    }
}
