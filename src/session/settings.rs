//! The session settings that decisions depend on: reported ones as they come, the others by asking.
//!
//! In: ParameterStatus, and the answers to a SHOW of ours. Out: [`crate::wire::types::Style`] and the search path.
//! Never: a transaction snapshot taken (SHOW takes none), a question in the middle of a client's pipeline.

use std::sync::Arc;

use crate::error::{Code, Refusal};
use crate::event::Actor;
use crate::policy::rules::Rules;
use crate::sql;
use crate::sql::setting::{self, Change, Value};
use crate::wire::types::{DateForm, DateOrder, IntervalForm};
use crate::wire::{encode, frame, message};

use super::pending::{Own, Pending};
use super::person;
use super::purpose::SETTING;
use super::{Close, Context, Phase, Session};

/// What is followed, in the order of the answers; the last two only where they matter. SHOW takes no snapshot.
const PROBE: [&str; 6] = ["search_path", "bytea_output", "extra_float_digits", "role", SETTING, person::SETTING];

/// Asks for a setting of ours the first time, outside any transaction: from here on SHOW knows it, and its default stays the
/// role's or database's.
fn define(setting: &str) -> String {
    format!(
        "select pg_catalog.set_config('{setting}', coalesce(pg_catalog.current_setting('{setting}', true), ''), false)"
    )
}

/// What a SET or set_config of that text may not do.
pub(super) fn pinned(sql: &str) -> Option<Refusal> {
    let tokens = sql::lex(sql, usize::MAX).ok()?;
    let sets = sql::statements(&tokens, sql).into_iter().filter_map(|range| setting::change(sql, &tokens, range));
    for change in sets {
        let Change::Set { name, value: Value::List(items), .. } = change else { continue };
        let [item] = items.as_slice() else { continue };
        let item = item.trim().to_ascii_lowercase();
        let refused = match name.as_str() {
            "client_encoding" => !matches!(item.as_str(), "utf8" | "utf-8" | "unicode"),
            "standard_conforming_strings" => !matches!(item.as_str(), "on" | "true" | "yes" | "1"),
            _ => false,
        };
        if refused {
            return Some(pin(&name));
        }
    }
    let called = setting::set_config(sql, &tokens).into_iter().flatten();
    let pins = ["client_encoding", "standard_conforming_strings"];
    called.into_iter().find(|name| pins.contains(&name.as_str())).map(|name| pin(&name))
}

fn pin(name: &str) -> Refusal {
    Refusal::new(
        Code::Pinned,
        format!("pgveil pins {name}"),
        "keep client_encoding = UTF8 and standard_conforming_strings = on",
    )
}

impl Session {
    /// Asks for the settings; client input waits for the answer.
    pub(super) fn probe(&mut self, cx: &mut Context<'_>) {
        self.unsettled = false;
        self.probing = true;
        self.path_before.clone_from(&self.search_path);
        self.pending.push_back(Pending::Own(Own::Probe { row: 0 }));
        // Under a name of ours: a simple Query would drop the client's unnamed statement.
        let followed: Vec<&str> = self.followed().collect();
        for setting in followed {
            // Shorter than any limit.
            let _ = encode::raw(cx.to_server, b'C', b"Spgveil_\0");
            let defined = match setting {
                SETTING => std::mem::replace(&mut self.purpose.defined, true),
                person::SETTING => std::mem::replace(&mut self.persons.defined, true),
                _ => true,
            };
            let text = if defined { format!("show {setting}") } else { define(setting) };
            let _ = encode::raw(cx.to_server, b'P', format!("pgveil_\0{text}\0\0\0").as_bytes());
            let _ = encode::raw(cx.to_server, b'B', b"pgveil_\0pgveil_\0\0\0\0\0\0\0");
            let _ = encode::raw(cx.to_server, b'E', b"pgveil_\0\0\0\0\0");
            let _ = encode::raw(cx.to_server, b'C', b"Ppgveil_\0");
        }
        let _ = encode::raw(cx.to_server, b'C', b"Spgveil_\0");
        encode::sync(cx.to_server);
    }

    /// One DataRow of the probe.
    pub(super) fn probed(&mut self, row: u8, body: &[u8]) {
        let mut r = message::Reader::new(body);
        let Some(value) = r.count().ok().and_then(|_| r.value().ok()).flatten() else { return };
        let Ok(value) = std::str::from_utf8(value) else { return };
        match self.followed().nth(usize::from(row)) {
            Some("search_path") => self.path_shown(value),
            Some("bytea_output") => self.style.bytea_hex = value == "hex",
            Some("extra_float_digits") => self.style.extra_float_digits = value.parse().unwrap_or(1),
            Some("role") => value.clone_into(&mut self.role),
            Some(SETTING) => self.purpose_shown(value),
            Some(_) => self.person_shown(value),
            None => {}
        }
    }

    /// What is asked for, in order.
    fn followed(&self) -> impl Iterator<Item = &'static str> + use<> {
        let (purpose, person) = (self.purpose.followed, self.persons.followed);
        PROBE.into_iter().filter(move |setting| match *setting {
            SETTING => purpose,
            person::SETTING => person,
            _ => true,
        })
    }

    /// Whose `$user` is in the path.
    fn current_role(&self) -> &str {
        if self.role == "none" { &self.actor.role } else { &self.role }
    }

    /// What [`crate::policy::readers`] says of the current role.
    pub(super) fn readable_keys(&self, rules: &Rules) -> u16 {
        rules.readers.of(self.current_role())
    }

    /// See [`Session::set_path`].
    pub(super) fn put_path(&mut self, cx: &mut Context<'_>) -> bool {
        let role = self.current_role().to_owned();
        self.set_path(&role, cx)
    }

    /// The settings are known: the path is put right, or the client's turn has come.
    pub(super) fn probe_answered(&mut self, cx: &mut Context<'_>) {
        self.act(cx);
        self.know_person(cx);
        self.put_path(cx);
        let role = self.current_role().to_owned();
        for schema in &mut self.search_path {
            if **schema == *"$user" {
                *schema = Arc::from(role.as_str());
            }
        }
        let keys = self.readable_keys(cx.rules);
        let rights = std::mem::replace(&mut self.keys_before, keys) != keys;
        self.names += u64::from(rights || self.search_path != self.path_before);
    }

    pub(super) fn parameter_status(&mut self, frame: &[u8], cx: &mut Context<'_>) -> Result<(), Close> {
        let Ok((name, value)) = message::parameter_status(&frame[frame::HEADER..]) else {
            return Err(self.unexpected_reply(cx));
        };
        let value = std::str::from_utf8(value).unwrap_or_default();
        let pinned = match name {
            b"client_encoding" => value == "UTF8",
            b"standard_conforming_strings" => value == "on",
            _ => true,
        };
        if !pinned && !self.transparent {
            let refusal = Refusal::new(
                Code::Pinned,
                "client_encoding must stay UTF8 and standard_conforming_strings must stay on",
                "remove the setting from the session, role or database",
            );
            return Err(self.fatal(&refusal, "a pinned setting was changed", cx));
        }
        match name {
            b"DateStyle" => (self.style.date_form, self.style.date_order) = date_style(value),
            b"IntervalStyle" => self.style.interval = interval_style(value),
            b"TimeZone" => self.style.time_zone = Arc::from(value),
            b"application_name" => {
                let application = super::login::printable(value.as_bytes());
                self.actor = Actor { application, ..Actor::clone(&self.actor) }.into();
                // It may claim a purpose.
                self.unsettled |= self.purpose.followed && self.phase == Phase::Ready;
            }
            _ => {}
        }
        if name == b"search_path" && self.class(cx.rules).lens.is_some() {
            let Some(told) = self.report_path(value) else { return Ok(()) };
            let body = [b"search_path\0", told.as_bytes(), b"\0"].concat();
            return encode::raw(cx.to_client, b'S', &body).map_err(|_| self.unexpected_reply(cx));
        }
        cx.to_client.extend_from_slice(frame);
        Ok(())
    }
}

fn date_style(value: &str) -> (DateForm, DateOrder) {
    let mut form = DateForm::Iso;
    let mut order = DateOrder::Mdy;
    for word in value.split(',').map(str::trim) {
        match word {
            "ISO" => form = DateForm::Iso,
            "SQL" => form = DateForm::Sql,
            "Postgres" => form = DateForm::Postgres,
            "German" => form = DateForm::German,
            "DMY" => order = DateOrder::Dmy,
            "YMD" => order = DateOrder::Ymd,
            _ => order = DateOrder::Mdy,
        }
    }
    (form, order)
}

fn interval_style(value: &str) -> IntervalForm {
    match value {
        "postgres_verbose" => IntervalForm::PostgresVerbose,
        "sql_standard" => IntervalForm::SqlStandard,
        "iso_8601" => IntervalForm::Iso8601,
        _ => IntervalForm::Postgres,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pins_hold_in_every_spelling() {
        for sql in [
            "SET client_encoding = 'LATIN1'",
            "set names 'sjis'",
            "select 1; SET LOCAL \"client_encoding\" TO sjis",
            "set standard_conforming_strings to off",
            "select set_config('client_encoding', 'x', false)",
        ] {
            assert_eq!(pinned(sql).map(|r| r.code), Some(Code::Pinned), "{sql}");
        }
        for sql in
            ["set client_encoding to 'UTF8'", "set names 'utf-8'", "set search_path = x", "set extra_float_digits = 0"]
        {
            assert_eq!(pinned(sql), None, "{sql}");
        }
    }

    #[test]
    fn date_styles_are_read_as_reported() {
        assert_eq!(date_style("ISO, DMY"), (DateForm::Iso, DateOrder::Dmy));
        assert_eq!(date_style("Postgres, MDY"), (DateForm::Postgres, DateOrder::Mdy));
        assert_eq!(date_style("German, YMD"), (DateForm::German, DateOrder::Ymd));
    }
}
