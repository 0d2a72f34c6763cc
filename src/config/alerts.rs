//! `[alerts]`: who is told of alerts.

use std::path::{Path, PathBuf};
use std::time::Duration;

use lettre::message::Mailbox;

use super::read::{is_loopback, missing, path};
use crate::detect::Severity;
use crate::notify::{Encryption, Kind, SINKS_MAX, Settings, SmtpSettings, Target};
use crate::policy::problem::At;
use crate::policy::reader::Section;

/// Longest time for one delivery.
const TIMEOUT_S_MAX: u64 = 30;
const SEVERITIES: &[(&str, Severity)] =
    &[("low", Severity::Low), ("medium", Severity::Medium), ("high", Severity::High), ("critical", Severity::Critical)];
const ENCRYPTIONS: &[(&str, Encryption)] =
    &[("starttls", Encryption::StartTls), ("tls", Encryption::Tls), ("none", Encryption::None)];

#[derive(Clone, Copy)]
enum Word {
    Webhook,
    Alertmanager,
    Smtp,
    Log,
}

const KINDS: &[(&str, Word)] =
    &[("webhook", Word::Webhook), ("smtp", Word::Smtp), ("alertmanager", Word::Alertmanager), ("log", Word::Log)];

/// `[[alerts.sinks]]`. One with a problem is left out; the problem is reported.
pub(super) fn read(mut alerts: Section<'_>, folder: &Path) -> Vec<Settings> {
    let mut sinks: Vec<Settings> = Vec::new();
    for section in alerts.list("sinks") {
        let place = section.place().clone();
        let Some(sink) = sink(section, folder) else { continue };
        if sinks.iter().any(|other| other.name == sink.name) {
            let hint =
                format!("give each a `name`; without one a sink is called after its kind, here \"{}\"", sink.name);
            alerts.problem(&place, "two sinks have the same name", hint);
        }
        if sinks.len() == SINKS_MAX {
            alerts.problem(&place, format!("more than {SINKS_MAX} sinks"), None);
            break;
        }
        sinks.push(sink);
    }
    alerts.close();
    sinks
}

fn sink(mut s: Section<'_>, folder: &Path) -> Option<Settings> {
    if !s.has("kind") {
        missing(&s, "kind", "one of: webhook, smtp, alertmanager, log");
    }
    let word = s.choice("kind", KINDS);
    let name = s.text("name");
    let min_severity = s.choice("min_severity", SEVERITIES).map_or(Severity::Low, |at| at.value);
    let timeout = s.number("timeout_s", 1..=TIMEOUT_S_MAX).map_or(TIMEOUT_S_MAX, |at| at.value);
    if let Some(at) = name.as_ref().filter(|at| !is_name(&at.value)) {
        let hint = "at most 40 of: a-z A-Z 0-9 _ -".to_owned();
        s.problem(&at.place, "`name` of a sink has other characters or too many", hint);
        return None;
    }
    // Which keys there are depends on it.
    let kind = match word?.value {
        Word::Webhook => webhook(&mut s, folder),
        Word::Alertmanager => alertmanager(&mut s, folder),
        Word::Smtp => smtp(&mut s, folder).map(Kind::Smtp),
        Word::Log => file(&mut s, folder),
    };
    s.close();
    let kind = kind?;
    let name = name.map_or_else(|| kind.as_str().to_owned(), |at| at.value);
    Some(Settings { name, min_severity, timeout: Duration::from_secs(timeout), kind })
}

/// It becomes a label and a file's name.
fn is_name(name: &str) -> bool {
    let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    plain && !name.is_empty() && name.len() <= 40
}

fn target(s: &mut Section<'_>, folder: &Path, example: &str) -> Option<Target> {
    if !s.has("url") {
        missing(s, "url", example);
    }
    let ca = path(s, "ca", folder);
    let url = s.text("url")?;
    match Target::parse(&url.value, ca) {
        Ok(target) => Some(target),
        Err(reason) => {
            s.problem(&url.place, format!("`url` in [{}] {reason}", s.path()), format!("like {example}"));
            None
        }
    }
}

fn webhook(s: &mut Section<'_>, folder: &Path) -> Option<Kind> {
    if !s.has("secret_file") {
        missing(s, "secret_file", "a file, mode 0600, whose first line signs what is sent: `openssl rand -hex 32`");
    }
    let target = target(s, folder, "url = \"https://hooks.example.com/pgveil\"");
    let secret_file = path(s, "secret_file", folder);
    Some(Kind::Webhook { target: target?, secret_file: secret_file? })
}

fn alertmanager(s: &mut Section<'_>, folder: &Path) -> Option<Kind> {
    let target = target(s, folder, "url = \"http://127.0.0.1:9093\"");
    let token_file = path(s, "token_file", folder);
    Some(Kind::Alertmanager { target: target?, token_file })
}

fn file(s: &mut Section<'_>, folder: &Path) -> Option<Kind> {
    if !s.has("path") {
        missing(s, "path", "path = \"alerts.jsonl\"; pgveil's own log has a line for each alert without any sink");
    }
    path(s, "path", folder).map(Kind::File)
}

fn smtp(s: &mut Section<'_>, folder: &Path) -> Option<SmtpSettings> {
    for (key, example) in [
        ("host", "host = \"mail.example.com\""),
        ("from", "from = \"pgveil@example.com\""),
        ("to", "to = [\"security@example.com\"]"),
    ] {
        if !s.has(key) {
            missing(s, key, example);
        }
    }
    let host = s.text("host");
    let tls = s.choice("tls", ENCRYPTIONS);
    let encryption = tls.as_ref().map_or(Encryption::StartTls, |at| at.value);
    if let (Some(at), Some(host)) = (tls.filter(|at| at.value == Encryption::None), &host)
        && !is_loopback(&host.value)
    {
        let hint = "tls = \"starttls\" or \"tls\"; \"none\" is for a mail server on this machine".to_owned();
        s.problem(&at.place, "mail would cross the network in clear", hint);
    }
    let usual = match encryption {
        Encryption::StartTls => 587,
        Encryption::Tls => 465,
        Encryption::None => 25,
    };
    let port = s.number("port", 1..=65_535).and_then(|at| u16::try_from(at.value).ok()).unwrap_or(usual);
    let (ca, login) = (path(s, "ca", folder), login(s, folder));
    let from = s.text("from").and_then(|at| mailbox(s, &at));
    let to = s.text_or_texts("to").unwrap_or_default();
    if s.has("to") && to.is_empty() {
        s.problem(&s.place_of("to"), "`to` names nobody", None);
    }
    let to: Vec<Mailbox> = to.iter().filter_map(|at| mailbox(s, at)).collect();
    let host = host?.value;
    (!to.is_empty()).then_some(SmtpSettings { host, port, encryption, ca, login, from: from?, to })
}

fn login(s: &mut Section<'_>, folder: &Path) -> Option<(String, PathBuf)> {
    let user = s.text("user");
    let file = path(s, "password_file", folder);
    if user.is_some() != file.is_some() {
        s.problem(s.place(), "`user` and `password_file` of a sink come together or not at all", None);
    }
    user.map(|at| at.value).zip(file)
}

fn mailbox(s: &Section<'_>, text: &At<String>) -> Option<Mailbox> {
    let read = text.value.parse().ok();
    if read.is_none() {
        s.problem(&text.place, "not a mail address", "like \"Security <security@example.com>\"".to_owned());
    }
    read
}
