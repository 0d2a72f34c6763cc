//! What happened, in words that cannot hold a value: the access log's and the detector's only input.

pub mod alert;
mod person;
mod subject;
mod trace;
mod would;

use std::fmt;
use std::net::IpAddr;
use std::ops::Deref;
use std::sync::{Arc, OnceLock};

use serde::{Deserialize, Serialize};

pub use alert::Alert;
pub use person::{Person, PersonBy};
pub use subject::{Pseudonym, Subject, Subjects};
pub use trace::Trace;
pub use would::{Becomes, Changed, Would};

use crate::error::SqlState;

/// How the actor was established.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ActorAuth {
    /// `trust` in pg_hba, allowed by `[listen] allow_trust`.
    Trust,
    /// A password exchange with the server, relayed in clear inside TLS or on loopback.
    Cleartext,
    /// MD5 challenge.
    Md5,
    /// SCRAM-SHA-256.
    #[serde(rename = "scram-sha-256")]
    ScramSha256,
    /// SCRAM-SHA-256 with pgveil, and with what its proof gave away with the server.
    ScramTerminate,
    /// Not established (failed login).
    None,
}

/// What can be part of many records.
pub trait Told {
    /// How each of them tells it, in JSON.
    fn json(&self) -> Vec<u8>;
}

/// A part of many records: cheap to clone, and rendered when the first of them is written.
#[derive(Clone)]
pub struct Part<T>(Arc<(T, OnceLock<Box<[u8]>>)>);

impl<T: Told> Part<T> {
    fn rendered(&self) -> &[u8] {
        self.0.1.get_or_init(|| self.0.0.json().into_boxed_slice())
    }
}

impl<T> From<T> for Part<T> {
    fn from(told: T) -> Self {
        Self(Arc::new((told, OnceLock::new())))
    }
}

impl<T> Deref for Part<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0.0
    }
}

impl<T: PartialEq> PartialEq for Part<T> {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl<T: Eq> Eq for Part<T> {}

impl<T: fmt::Debug> fmt::Debug for Part<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

/// Who asks: the authenticated login of one connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Actor {
    /// The PostgreSQL login role.
    pub role: String,
    /// The database.
    pub database: String,
    /// How we know.
    pub auth: ActorAuth,
    /// The common name of the client's certificate, of an authority in `[listen] tls client_ca`, if it has shown one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<String>,
    /// `application_name` as the client set it, cut to 64 characters, control characters replaced.
    pub application: String,
    /// The client's address; `None` for a Unix socket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<IpAddr>,
    /// What it acts for, if its role has purposes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub purpose: Option<String>,
    /// What that rests on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub purpose_by: Option<PurposeBy>,
    /// Who is behind the login, if that is known.
    #[serde(flatten)]
    pub person: Option<Person>,
}

/// What a purpose rests on. All but the first are claims, among the purposes that the policy gives the role.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PurposeBy {
    /// The policy: nothing was claimed.
    Role,
    /// The name of the database, `app@analytics`.
    Database,
    /// The setting `pgveil.purpose`.
    Setting,
    /// The client's `application_name`.
    Application,
    /// A tag in the statement's comment.
    Comment,
}

impl Told for Actor {
    fn json(&self) -> Vec<u8> {
        json(self)
    }
}

/// What kind of event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EventKind {
    /// The proxy started.
    Start,
    /// The proxy stopped in order.
    Stop,
    /// A login succeeded.
    Login,
    /// A login failed.
    LoginFailed,
    /// A session ended.
    Logout,
    /// Written before protected bytes are released or a protected write is forwarded.
    Intent,
    /// A statement ended; the outcome.
    Statement,
    /// A statement was refused.
    Refused,
    /// A cell did not open.
    Tamper,
    /// An envelope left as the bytes it is because its field is not known to be sealed.
    Untyped,
    /// A policy was loaded or refused.
    Policy,
    /// Somebody is connected to the database past the proxy.
    Bypass,
    /// Something was done to the access log itself, or befell it; the note says what.
    Log,
    /// The detector raised an alert.
    Alert,
    /// The detector ended a session.
    Killed,
    /// A login is refused from now on.
    Quarantined,
    /// A login is not refused any more.
    Released,
    /// A command was given on the console.
    Console,
}

/// What was done to data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Access {
    /// Rows came back.
    Read,
    /// Rows were inserted or updated.
    Write,
    /// Rows were deleted.
    Delete,
    /// COPY TO, pg_dump.
    Export,
    /// None of these.
    Other,
}

/// What became of one column.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Shown {
    /// Opened, or plaintext within clearance.
    Clear,
    /// Opened and masked, or NULL in its place.
    Masked,
    /// Left sealed.
    Sealed,
    /// Written by the client.
    Written,
    /// Used to find rows.
    Searched,
    /// The statement was refused because of it.
    Refused,
}

/// One column touched.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Touch {
    /// `schema.table`.
    pub relation: Arc<str>,
    /// Column name.
    pub column: Arc<str>,
    /// What became of it.
    pub shown: Shown,
}

/// What a statement says and touches: the same each time it runs under the same rules, and shared by the events of
/// all these runs. Text comes from the fingerprinter with literals cut out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Action {
    /// Hash of the statement with literals and comments cut out, 16 hex digits.
    pub fingerprint: Option<Arc<str>>,
    /// The statement with literals and comments cut out.
    pub text: Option<Arc<str>>,
    /// What was done.
    pub access: Access,
    /// Columns touched.
    pub touches: Vec<Touch>,
    /// The statement ran code we cannot see into (DO, CALL, unknown functions).
    pub touches_unknown: bool,
    /// It was decided under `mode = "observe"`: what hides plaintext was not done.
    pub observed: bool,
    /// And what would have been done, if anything.
    pub would: Option<Arc<Would>>,
}

/// The action of an event that is of no statement.
static NO_ACTION: Action = Action::none();

impl Action {
    /// Nothing known.
    pub const fn none() -> Self {
        Self {
            fingerprint: None,
            text: None,
            access: Access::Other,
            touches: Vec::new(),
            touches_unknown: false,
            observed: false,
            would: None,
        }
    }
}

impl Told for Action {
    /// As members of the event's object.
    fn json(&self) -> Vec<u8> {
        let mut out = Object(Vec::new());
        out.optional("fingerprint", self.fingerprint.as_ref());
        out.optional("text", self.text.as_ref());
        out.member("access", &self.access);
        if !self.touches.is_empty() {
            out.member("touches", &self.touches);
        }
        if self.touches_unknown {
            out.member("touches_unknown", &true);
        }
        if self.observed {
            out.member("observed", &true);
        }
        out.optional("would", self.would.as_ref());
        out.0
    }
}

/// One event. There is no field that could hold a value.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(from = "Flat")]
pub struct Event {
    /// What kind.
    pub kind: EventKind,
    /// Microseconds since the Unix epoch, UTC.
    pub at_us: i64,
    /// The proxy's connection number; 0 for the proxy itself.
    pub connection: u64,
    /// The statement's number within its connection, pairing an intent with its outcome; 0 if none.
    pub statement: u64,
    /// Who.
    pub actor: Option<Part<Actor>>,
    /// The rules it was decided under.
    pub rules_version: u64,
    /// The statement, if it is about one.
    pub action: Option<Part<Action>>,
    /// Rows released to the client, or rows written.
    pub rows: u64,
    /// Whose.
    pub subjects: Subjects,
    /// Rows of them that are canaries.
    pub canaries: u64,
    /// Statements in a row that each released one row of the table, by subject keys that go on in equal steps, this one
    /// included; 0 below three.
    pub walk: u32,
    /// Of a policy: its digest.
    pub digest: Option<String>,
    /// How it ended; `None` = success.
    pub sqlstate: Option<String>,
    /// The PV code of a refusal.
    pub code: Option<String>,
    /// Wall time from the statement's arrival to its end, microseconds.
    pub duration_us: u64,
    /// The client's trace that the statement's comment names.
    pub trace: Option<Trace>,
    /// The finding, for `Alert`.
    pub alert: Option<Alert>,
    /// What the proxy has to say (policy version, reason): never from client bytes.
    pub note: Option<String>,
}

impl Event {
    /// An event with nothing but its kind and time.
    pub fn new(kind: EventKind, at_us: i64) -> Self {
        Self {
            kind,
            at_us,
            connection: 0,
            statement: 0,
            actor: None,
            rules_version: 0,
            action: None,
            rows: 0,
            subjects: Subjects::default(),
            canaries: 0,
            walk: 0,
            digest: None,
            sqlstate: None,
            code: None,
            duration_us: 0,
            trace: None,
            alert: None,
            note: None,
        }
    }

    /// Sets the SQLSTATE.
    pub fn ended(mut self, sqlstate: SqlState) -> Self {
        self.sqlstate = Some(sqlstate.as_str().to_owned());
        self
    }

    /// The statement; one of which nothing is known if it is about none.
    pub fn action(&self) -> &Action {
        self.action.as_deref().unwrap_or(&NO_ACTION)
    }

    /// Appends the event as one JSON object. Members that say nothing are left out.
    pub fn write_json(&self, out: &mut Vec<u8>) {
        let mut object = Object(std::mem::take(out));
        object.0.push(b'{');
        object.member("kind", &self.kind);
        object.member("at_us", &self.at_us);
        object.count("connection", self.connection);
        object.count("statement", self.statement);
        if let Some(actor) = &self.actor {
            object.raw("actor", actor.rendered());
        }
        object.member("rules_version", &self.rules_version);
        match &self.action {
            Some(action) => {
                object.0.push(b',');
                object.0.extend_from_slice(action.rendered());
            }
            None => object.member("access", &NO_ACTION.access),
        }
        object.count("rows", self.rows);
        if !self.subjects.is_empty() {
            object.member("subjects", &self.subjects);
        }
        object.count("canaries", self.canaries);
        object.count("walk", self.walk.into());
        object.optional("digest", self.digest.as_ref());
        object.optional("sqlstate", self.sqlstate.as_ref());
        object.optional("code", self.code.as_ref());
        object.count("duration_us", self.duration_us);
        object.optional("trace", self.trace.as_ref());
        object.optional("alert", self.alert.as_ref());
        object.optional("note", self.note.as_ref());
        object.0.push(b'}');
        *out = object.0;
    }
}

/// Writing into memory cannot fail, and these types have no map with keys that are not strings.
fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).unwrap_or_else(|_| b"null".to_vec())
}

/// Members of a JSON object, each after a comma unless it is the first.
struct Object(Vec<u8>);

impl Object {
    fn name(&mut self, name: &str) {
        if !matches!(self.0.last(), None | Some(b'{')) {
            self.0.push(b',');
        }
        self.0.push(b'"');
        self.0.extend_from_slice(name.as_bytes());
        self.0.extend_from_slice(b"\":");
    }

    fn raw(&mut self, name: &str, json: &[u8]) {
        self.name(name);
        self.0.extend_from_slice(json);
    }

    fn member(&mut self, name: &str, value: &impl Serialize) {
        self.name(name);
        let before = self.0.len();
        if serde_json::to_writer(&mut self.0, value).is_err() {
            self.0.truncate(before);
            self.0.extend_from_slice(b"null");
        }
    }

    fn optional(&mut self, name: &str, value: Option<&impl Serialize>) {
        if let Some(value) = value {
            self.member(name, value);
        }
    }

    fn count(&mut self, name: &str, count: u64) {
        if count > 0 {
            self.member(name, &count);
        }
    }
}

/// An event as its JSON object is read.
#[derive(Deserialize)]
struct Flat {
    kind: EventKind,
    at_us: i64,
    #[serde(default)]
    connection: u64,
    #[serde(default)]
    statement: u64,
    #[serde(default)]
    actor: Option<Actor>,
    rules_version: u64,
    #[serde(default)]
    fingerprint: Option<Arc<str>>,
    #[serde(default)]
    text: Option<Arc<str>>,
    access: Access,
    #[serde(default)]
    touches: Vec<Touch>,
    #[serde(default)]
    touches_unknown: bool,
    #[serde(default)]
    observed: bool,
    #[serde(default)]
    would: Option<Arc<Would>>,
    #[serde(default)]
    rows: u64,
    #[serde(default)]
    subjects: Subjects,
    #[serde(default)]
    canaries: u64,
    #[serde(default)]
    walk: u32,
    #[serde(default)]
    digest: Option<String>,
    #[serde(default)]
    sqlstate: Option<String>,
    #[serde(default)]
    code: Option<String>,
    #[serde(default)]
    duration_us: u64,
    #[serde(default)]
    trace: Option<Trace>,
    #[serde(default)]
    alert: Option<Alert>,
    #[serde(default)]
    note: Option<String>,
}

impl From<Flat> for Event {
    fn from(flat: Flat) -> Self {
        let Flat { fingerprint, text, access, touches, touches_unknown, observed, would, .. } = flat;
        let action = Action { fingerprint, text, access, touches, touches_unknown, observed, would };
        Self {
            kind: flat.kind,
            at_us: flat.at_us,
            connection: flat.connection,
            statement: flat.statement,
            actor: flat.actor.map(Part::from),
            rules_version: flat.rules_version,
            action: (action != NO_ACTION).then(|| action.into()),
            rows: flat.rows,
            subjects: flat.subjects,
            canaries: flat.canaries,
            walk: flat.walk,
            digest: flat.digest,
            sqlstate: flat.sqlstate,
            code: flat.code,
            duration_us: flat.duration_us,
            trace: flat.trace,
            alert: flat.alert,
            note: flat.note,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn would() -> Would {
        let changed = |becomes| Changed { relation: "public.users".into(), column: "é\"mail".into(), becomes };
        Would {
            refused: Some("PV013".into()),
            hint: Some("say \"please\"".into()),
            until_lens: true,
            columns: Becomes::WORDS.iter().map(|(becomes, _)| changed(*becomes)).collect(),
            filtered: vec!["public.users".into()],
            redacted: true,
        }
    }

    fn full() -> Event {
        let touch = Touch { relation: "public.users".into(), column: "é\"mail".into(), shown: Shown::Clear };
        let subject = Subject { kind: "user".into(), pseudonym: Pseudonym(0x0123_4567_89ab_cdef) };
        let actor = Actor {
            role: "o'\"app".to_owned(),
            database: "medico".to_owned(),
            auth: ActorAuth::ScramSha256,
            certificate: Some("cn".to_owned()),
            application: "\\ \u{1} ü".to_owned(),
            client: Some([127, 0, 0, 1].into()),
            purpose: Some("care".to_owned()),
            purpose_by: Some(PurposeBy::Database),
            person: Some(Person { person: "ann".to_owned(), person_by: PersonBy::Vouched }),
        };
        let action = Action {
            fingerprint: Some("00ff".into()),
            text: Some("select \"é\"\n from \\ users".into()),
            access: Access::Read,
            touches: vec![touch.clone(), touch],
            touches_unknown: true,
            observed: true,
            would: Some(Arc::new(would())),
        };
        let alert = Alert {
            rule: "bulk".to_owned(),
            severity: "high".to_owned(),
            observed: 2,
            threshold: 1,
            window_s: 60,
            address: None,
            action: alert::Action::Alert,
            message: "much".to_owned(),
        };
        Event {
            connection: 7,
            statement: u64::MAX,
            actor: Some(actor.into()),
            rules_version: 3,
            action: Some(action.into()),
            rows: 12,
            subjects: Subjects { known: vec![subject], unknown_rows: 1, more: 2 },
            canaries: 3,
            walk: 4,
            digest: Some("0f".to_owned()),
            sqlstate: Some("42501".to_owned()),
            code: Some("PV001".to_owned()),
            duration_us: 9,
            trace: Trace::of_traceparent("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
            alert: Some(alert),
            note: Some("a \"note\"".to_owned()),
            ..Event::new(EventKind::Statement, -5)
        }
    }

    fn line(event: &Event) -> String {
        let mut out = b"before".to_vec();
        event.write_json(&mut out);
        String::from_utf8(out).unwrap().strip_prefix("before").unwrap().to_owned()
    }

    #[test]
    fn an_event_reads_back_whatever_it_leaves_out() {
        let full = full();
        let leave_out: [fn(&mut Event); 17] = [
            |_| (),
            |e| e.connection = 0,
            |e| e.statement = 0,
            |e| e.actor = None,
            |e| e.action = None,
            |e| e.rows = 0,
            |e| e.subjects = Subjects::default(),
            |e| e.canaries = 0,
            |e| e.walk = 0,
            |e| e.digest = None,
            |e| (e.sqlstate, e.code) = (None, None),
            |e| e.duration_us = 0,
            |e| e.trace = None,
            |e| e.alert = None,
            |e| e.note = None,
            |e| e.action = Some(Action { access: Access::Export, ..Action::none() }.into()),
            |e| e.action = Some(Action { would: None, ..self::full().action().clone() }.into()),
        ];
        for first in leave_out {
            for second in leave_out {
                let mut event = full.clone();
                first(&mut event);
                second(&mut event);
                let line = line(&event);
                assert_eq!(serde_json::from_str::<Event>(&line).unwrap(), event, "{line}");
            }
        }
    }

    #[test]
    fn an_event_of_nothing_is_short_and_one_of_everything_is_in_order() {
        let none = line(&Event::new(EventKind::Start, 7));
        assert_eq!(none, r#"{"kind":"start","at_us":7,"rules_version":0,"access":"other"}"#);
        let full = line(&full());
        let names =
            ["kind", "at_us", "connection", "statement", "actor", "rules_version", "fingerprint", "text", "access"];
        let more = [
            "touches",
            "touches_unknown",
            "observed",
            "would",
            "rows",
            "subjects",
            "sqlstate",
            "code",
            "duration_us",
            "trace",
            "alert",
            "note",
        ];
        let places: Vec<_> =
            names.iter().chain(&more).map(|name| full.find(&format!("\"{name}\":")).unwrap()).collect();
        assert!(places.is_sorted(), "{places:?} in {full}");
    }
}
