//! A server that keeps to the protocol: what PostgreSQL answers to what a session forwards, without a database.
//!
//! Results are invented; order, skip to Sync, COPY and transaction status are PostgreSQL's.

use std::collections::{HashMap, VecDeque};
use std::sync::LazyLock;

use bytes::BytesMut;
use pgveil::wire::types::Format;
use pgveil::wire::{encode, frame, message};

/// A person's key, in a column that only pgveil has asked for.
pub const KEY: &str = "sleutel-5c1e";

/// One frame.
pub fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut out = BytesMut::new();
    encode::raw(&mut out, tag, body).expect("bodies of an input are short");
    out.to_vec()
}

/// An error of that SQLSTATE.
fn error(sqlstate: &str, severity: &str) -> Vec<u8> {
    message(b'E', format!("S{severity}\0V{severity}\0C{sqlstate}\0Mno\0\0").as_bytes())
}

/// A row of one text column.
pub fn row(value: &[u8]) -> Vec<u8> {
    message(b'D', &[&[0, 1], &(value.len() as u32).to_be_bytes()[..], value].concat())
}

fn authentication(code: u32, rest: &[u8]) -> Vec<u8> {
    message(b'R', &[&code.to_be_bytes()[..], rest].concat())
}

/// One int4 field of no relation.
const ONE_FIELD: &[u8] = b"\0\x01n\0\0\0\0\0\0\0\0\0\0\x17\0\x04\xff\xff\xff\xff\0\0";

/// What a session sends in the place of a statement that it refuses.
const FAILING: &[u8] = b"select \"refused by pgveil\"";

/// A field of no relation, and the key that pgveil asks for behind it.
static KEYED: LazyLock<Shown> = LazyLock::new(|| {
    let key = b"pgveil_subject\0\0\0\0\x64\0\x01\0\0\0\x19\xff\xff\xff\xff\xff\xff\0\0";
    let fields = [&[0, 2], &ONE_FIELD[2..], key].concat();
    let cells = [&[0, 2, 0, 0, 0, 1, b'7'][..], &(KEY.len() as u32).to_be_bytes(), KEY.as_bytes()].concat();
    (fields, vec![message(b'D', &cells)])
});

/// The statement asks for a key beside.
fn keyed(sql: &str) -> bool {
    sql.contains("as \"pgveil_subject\"")
}

/// A result: the body of its RowDescription, and its rows as messages.
pub type Shown = (Vec<u8>, Vec<Vec<u8>>);

/// See the module.
#[derive(Debug)]
pub struct Server {
    /// What a statement, in lower case, answers; `None`: something invented.
    shows: fn(&str) -> Option<Shown>,
    login: VecDeque<Vec<u8>>,
    frames: VecDeque<Vec<u8>>,
    /// A COPY FROM STDIN runs; `true`: of a simple Query.
    copying: Option<bool>,
    skipping: bool,
    transaction: u8,
    statements: HashMap<Vec<u8>, Vec<u8>>,
    portals: HashMap<Vec<u8>, Vec<u8>>,
    gone: bool,
}

impl Server {
    /// Before a login with SCRAM.
    pub fn new() -> Self {
        Self::showing([0, 0, 0, 5, 1, 2, 3, 4], |_| None)
    }

    /// The same, with that cancel key and those results.
    pub fn showing(key: [u8; 8], shows: fn(&str) -> Option<Shown>) -> Self {
        let login = [
            authentication(10, b"SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0"),
            authentication(11, b"r=x,s=y,i=4096"),
            authentication(12, b"v=z"),
            authentication(0, b""),
            message(b'S', b"client_encoding\0UTF8\0"),
            message(b'K', &key),
            message(b'Z', b"I"),
        ];
        Self {
            shows,
            login: login.into(),
            frames: VecDeque::new(),
            copying: None,
            skipping: false,
            transaction: b'I',
            statements: HashMap::new(),
            portals: HashMap::new(),
            gone: false,
        }
    }

    /// What has been forwarded.
    pub fn takes(&mut self, frame: &[u8]) {
        self.frames.push_back(frame.to_vec());
    }

    /// The login is through.
    pub fn ready(&self) -> bool {
        self.login.is_empty()
    }

    /// It waits for the rows of a COPY.
    pub fn copying(&self) -> bool {
        self.copying.is_some()
    }

    /// It has closed the connection.
    pub fn gone(&self) -> bool {
        self.gone
    }

    /// The next answer; `None` when nothing is owed. The taste decides what cannot be known without a database.
    pub fn answer(&mut self, taste: u8) -> Option<Vec<u8>> {
        if let Some(next) = self.login.pop_front() {
            return Some(next);
        }
        while let Some(next) = self.frames.pop_front().filter(|_| !self.gone) {
            let (tag, body) = (next[0], &next[frame::HEADER..]);
            let out = match self.copying {
                Some(simple) => self.copies(simple, tag),
                None if self.skipping && !matches!(tag, b'S' | b'X') => Vec::new(),
                None => self.does(tag, body, taste),
            };
            if !out.is_empty() {
                return Some(out);
            }
        }
        None
    }

    fn copies(&mut self, simple: bool, tag: u8) -> Vec<u8> {
        match tag {
            b'd' | b'S' | b'H' => Vec::new(),
            b'c' => {
                self.copying = None;
                let done = message(b'C', b"COPY 0\0");
                if simple { [done, self.ready_for_query()].concat() } else { done }
            }
            b'f' => {
                self.copying = None;
                if simple { self.fails_simply("57014") } else { self.fails("57014") }
            }
            // Found before the length was read, so that nothing after it makes sense.
            _ => self.dies(),
        }
    }

    fn does(&mut self, tag: u8, body: &[u8], taste: u8) -> Vec<u8> {
        match tag {
            b'Q' => match message::query(body) {
                // It destroys the unnamed statement and portal.
                Ok(_) if self.statements.remove(&b""[..]).is_some() | self.portals.remove(&b""[..]).is_some() => {
                    self.does(tag, body, taste)
                }
                Ok(sql) => self.queries(&sql.to_ascii_lowercase(), taste),
                Err(_) => self.fails_simply("08P01"),
            },
            b'P' => match message::parse(body) {
                Ok(parse) if parse.sql == b"\"" || taste & 0x80 != 0 => self.fails("42601"),
                Ok(parse) if parse.sql == FAILING => {
                    self.fails(if self.transaction == b'E' { "25P02" } else { "42703" })
                }
                Ok(parse) => {
                    self.statements.insert(parse.name.to_vec(), parse.sql.to_ascii_lowercase());
                    message(b'1', b"")
                }
                Err(_) => self.fails("08P01"),
            },
            b'B' => match message::bind(body) {
                Ok(bind) => match self.statements.get(bind.statement).cloned() {
                    // It counts strictly; here only a Bind that cannot be meant.
                    Some(sql) if bind.values == 0 && sql.contains(&b'$') => self.fails("08P01"),
                    Some(_) if !texts_are_utf8(&bind) => self.fails("22021"),
                    Some(sql) if taste & 0x80 == 0 => {
                        self.portals.insert(bind.portal.to_vec(), sql);
                        message(b'2', b"")
                    }
                    _ => self.fails("26000"),
                },
                Err(_) => self.fails("08P01"),
            },
            b'D' => self.describes(body, taste),
            b'E' => match message::execute(body) {
                Ok((name, _)) => match self.portals.get(name).cloned() {
                    Some(sql) => self.executes(&sql, taste),
                    None => self.fails("34000"),
                },
                Err(_) => self.fails("08P01"),
            },
            b'C' => match message::target(body) {
                Ok((b'S', name)) => {
                    self.statements.remove(name);
                    message(b'3', b"")
                }
                Ok((b'P', name)) => {
                    self.portals.remove(name);
                    message(b'3', b"")
                }
                _ => self.fails("08P01"),
            },
            b'S' => {
                self.skipping = false;
                let complaint = if body.is_empty() { Vec::new() } else { error("08P01", "ERROR") };
                [complaint, self.ready_for_query()].concat()
            }
            b'F' => match message::function_call(body) {
                Ok(call) if call.function != 0 => [message(b'V', &[0xff; 4]), self.ready_for_query()].concat(),
                _ => self.fails_simply("42883"),
            },
            b'd' | b'c' | b'f' => Vec::new(),
            b'H' if body.is_empty() => Vec::new(),
            b'H' => self.fails("08P01"),
            _ => self.dies(),
        }
    }

    fn queries(&mut self, sql: &[u8], taste: u8) -> Vec<u8> {
        if sql.starts_with(b"show search_path; ") {
            let answers = [&b"\"$user\", public"[..], b"hex", b"1", b"none"];
            let results =
                answers.map(|value| [message(b'T', ONE_FIELD), row(value), message(b'C', b"SHOW\0")].concat());
            return [results.concat(), self.ready_for_query()].concat();
        }
        if sql.is_empty() {
            return [message(b'I', b""), self.ready_for_query()].concat();
        }
        if taste & 0x80 != 0 {
            return self.fails_simply("42601");
        }
        if self.transaction == b'E' && !ends(sql) {
            return self.fails_simply("25P02");
        }
        if sql == FAILING {
            return self.fails_simply("42703");
        }
        let mut answered = Vec::new();
        for (at, part) in statements(sql).into_iter().enumerate() {
            if at > 0 && taste & 0x40 != 0 {
                return [answered, self.fails_simply("22012")].concat();
            }
            answered.extend(self.runs(part, true, taste));
            if self.copying.is_some() {
                return answered;
            }
        }
        [answered, self.ready_for_query()].concat()
    }

    /// What a statement answers, up to its completion.
    fn runs(&mut self, sql: &[u8], simple: bool, taste: u8) -> Vec<u8> {
        let text = String::from_utf8_lossy(sql);
        let shown = (self.shows)(&text);
        let first: String = text.trim_start().chars().take_while(char::is_ascii_alphabetic).collect();
        match first.as_str() {
            "begin" => self.transaction = if self.transaction == b'E' { b'E' } else { b'T' },
            "commit" | "rollback" | "abort" => self.transaction = b'I',
            "copy" => {
                let columns = text.split(['(', ')']).nth(1).map_or(4, |list| list.split(',').count()).min(100) as u8;
                let shape = [&[0, 0, columns][..], &vec![0; 2 * usize::from(columns)]].concat();
                if text.contains("stdin") {
                    self.copying = Some(simple);
                    return message(b'G', &shape);
                }
                let rows = message(b'd', b"1\t\\N\n");
                return [message(b'H', &shape), rows, message(b'c', b""), message(b'C', b"COPY 1\0")].concat();
            }
            "select" | "show" | "fetch" | "table" | "values" | "with" | "execute" | "insert" | "update"
                if shown.is_some() || !matches!(first.as_str(), "insert" | "update") =>
            {
                let invented = || if keyed(&text) { KEYED.clone() } else { (ONE_FIELD.to_vec(), vec![row(b"7")]) };
                let (fields, rows) = shown.unwrap_or_else(invented);
                let described = if simple { message(b'T', &fields) } else { Vec::new() };
                let end = if !simple && taste & 1 != 0 { message(b's', b"") } else { message(b'C', b"SELECT 1\0") };
                return [described, rows.concat(), end].concat();
            }
            _ => {}
        }
        message(b'C', b"INSERT 0 1\0")
    }

    fn executes(&mut self, sql: &[u8], taste: u8) -> Vec<u8> {
        if taste & 0x80 != 0 || (self.transaction == b'E' && !ends(sql)) {
            return self.fails("25P02");
        }
        if sql.is_empty() { message(b'I', b"") } else { self.runs(sql, false, taste) }
    }

    fn describes(&mut self, body: &[u8], taste: u8) -> Vec<u8> {
        let known = match message::target(body) {
            Ok((b'S', name)) => self.statements.get(name),
            Ok((b'P', name)) => self.portals.get(name),
            _ => None,
        };
        let Some(sql) = known.filter(|_| taste & 0x80 == 0) else { return self.fails("26000") };
        let text = String::from_utf8_lossy(sql);
        let shown = (self.shows)(&text).or_else(|| keyed(&text).then(|| KEYED.clone()));
        let parameters = [0, 2, 0, 0, 0, 17, 0, 0, 0, 23];
        let parameters = if body[0] == b'S' { message(b't', &parameters) } else { Vec::new() };
        let fields = match shown {
            Some((fields, _)) => message(b'T', &fields),
            None if taste & 1 != 0 => message(b'T', ONE_FIELD),
            None => message(b'n', b""),
        };
        [parameters, fields].concat()
    }

    fn ready_for_query(&mut self) -> Vec<u8> {
        if self.transaction == b'I' {
            self.portals.clear();
        }
        message(b'Z', &[self.transaction])
    }

    fn fails(&mut self, sqlstate: &str) -> Vec<u8> {
        self.skipping = true;
        self.aborts();
        error(sqlstate, "ERROR")
    }

    fn fails_simply(&mut self, sqlstate: &str) -> Vec<u8> {
        self.aborts();
        [error(sqlstate, "ERROR"), self.ready_for_query()].concat()
    }

    fn aborts(&mut self) {
        if self.transaction == b'T' {
            self.transaction = b'E';
        }
    }

    fn dies(&mut self) -> Vec<u8> {
        self.gone = true;
        error("08P01", "FATAL")
    }
}

fn texts_are_utf8(bind: &message::Bind<'_>) -> bool {
    let mut values = message::Reader::new(bind.value_bytes);
    (0..bind.values).all(|at| {
        let text = message::format_at(bind.formats, at) == Some(Format::Text);
        values.value().is_ok_and(|value| !text || std::str::from_utf8(value.unwrap_or_default()).is_ok())
    })
}

/// The statements of a text, as far as semicolons tell. One that may wait for the client is taken as a whole.
fn statements(sql: &[u8]) -> Vec<&[u8]> {
    let whole = |sql: &[u8]| sql.windows(5).any(|word| word == b"stdin") || sql.iter().any(|b| b"'$\"".contains(b));
    if whole(sql) {
        return vec![sql];
    }
    let parts: Vec<&[u8]> = sql.split(|b| *b == b';').map(<[u8]>::trim_ascii).filter(|part| !part.is_empty()).collect();
    if parts.is_empty() { vec![sql] } else { parts }
}

/// The statement ends a transaction.
fn ends(sql: &[u8]) -> bool {
    [&b"rollback"[..], b"commit", b"abort"].iter().any(|word| sql.starts_with(word))
}
