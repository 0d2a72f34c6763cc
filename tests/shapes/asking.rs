//! One shape, asked in each of the ways in which a client can ask it, and every byte that comes back.

use pgveil::wire::message;

use crate::shapes::stage::filled;
use crate::support::{CANARY, Frame, Site, Wire, cluster, frame, parse, query, sync};

/// A line of `vectors/leak_shapes.sql`.
#[derive(Clone, Debug)]
pub struct Shape {
    /// The comment above it.
    pub group: &'static str,
    /// As it stands in the file.
    pub line: &'static str,
    /// In a transaction that is rolled back.
    wrapped: bool,
    /// The answer is not the same twice.
    pub restless: bool,
    /// It tells of hidden rows or values by what the README does not promise to hide.
    pub known: bool,
    /// The tables' own code says it, so that only the proxy can redact it.
    pub said_by_tables: bool,
    /// Statements before the last.
    before: Vec<String>,
    /// The last.
    pub last: String,
    values: Vec<String>,
}

const TEXT: &str = include_str!("../vectors/leak_shapes.sql");

/// All of them, in the file's order.
pub fn shapes() -> Vec<Shape> {
    let (mut shapes, mut group) = (Vec::new(), "");
    for line in TEXT.lines().filter(|line| !line.is_empty()) {
        match line.strip_prefix("-- ") {
            Some(comment) => group = comment,
            None => shapes.push(shape(group, line)),
        }
    }
    shapes
}

fn shape(group: &'static str, line: &'static str) -> Shape {
    let (mut rest, mut wrapped, mut restless, mut known, mut said_by_tables) = (line, true, false, false, false);
    loop {
        if let Some(after) = rest.strip_prefix("! ") {
            (rest, wrapped) = (after, false);
        } else if let Some(after) = rest.strip_prefix("~ ") {
            (rest, restless) = (after, true);
        } else if let Some(after) = rest.strip_prefix("? ") {
            (rest, known) = (after, true);
        } else if let Some(after) = rest.strip_prefix("^ ") {
            (rest, said_by_tables) = (after, true);
        } else {
            break;
        }
    }
    let text = filled(rest);
    let (text, values) = match text.rsplit_once(" <- ") {
        Some((text, values)) => (text.to_owned(), values.split(" | ").map(str::to_owned).collect()),
        None => (text, Vec::new()),
    };
    let mut before: Vec<String> = text.split(" ;; ").map(str::to_owned).collect();
    let last = before.pop().unwrap();
    Shape { group, line, wrapped, restless, known, said_by_tables, before, last, values }
}

/// How the last statement is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Simple,
    Unnamed,
    PreparedText,
    PreparedBinary,
    Cursor,
    Copy,
}

pub const WAYS: [Way; 6] = [Way::Simple, Way::Unnamed, Way::PreparedText, Way::PreparedBinary, Way::Cursor, Way::Copy];

/// The tables, and the words that stand in front of their names.
const TABLES: [&str; 7] = ["people", "patients", "visits", "parts", "beings", "guarded", "wide"];
const BEFORE: [&str; 9] = ["from", "join", "update", "into", "table", "copy", "using", "only", "lock"];

impl Shape {
    /// The same of relations of that schema.
    fn aimed(&self, schema: &str) -> Shape {
        let aim = |sql: &String| {
            let mut sql = sql.clone();
            for table in TABLES {
                sql = sql.replace(&format!("public.{table}"), &format!("{schema}.{table}"));
                for word in BEFORE {
                    sql = sql.replace(&format!("{word} {table}"), &format!("{word} {schema}.{table}"));
                }
            }
            sql
        };
        Shape { before: self.before.iter().map(aim).collect(), last: aim(&self.last), ..self.clone() }
    }

    fn is_query(&self) -> bool {
        let first = self.last.split([' ', '/', '(']).next().unwrap().to_ascii_lowercase();
        matches!(first.as_str(), "select" | "with" | "table" | "values")
    }

    /// Whether the last statement can be asked so.
    pub fn has(&self, way: Way) -> bool {
        match way {
            Way::Simple => true,
            Way::Cursor | Way::Copy => self.is_query(),
            _ => !self.last.starts_with("@call"),
        }
    }

    /// Everything of it that an error, a plan or a notice may repeat.
    pub fn text(&self) -> String {
        format!("{} {} {}", self.before.join(" "), self.last, self.values.join(" "))
    }

    /// The last statement with values in the places of its parameters.
    fn literal(&self) -> String {
        let numbered = self.values.iter().enumerate();
        numbered.fold(self.last.clone(), |sql, (i, value)| sql.replace(&format!("${}", i + 1), &format!("'{value}'")))
    }

    fn bind(&self, portal: &[u8], statement: &[u8], binary: bool) -> Vec<u8> {
        let mut body = [portal, b"\0", statement, b"\0\0\0"].concat();
        body.extend_from_slice(&u16::try_from(self.values.len()).unwrap().to_be_bytes());
        for value in &self.values {
            body.extend_from_slice(&u32::try_from(value.len()).unwrap().to_be_bytes());
            body.extend_from_slice(value.as_bytes());
        }
        body.extend_from_slice(&[0, 1, 0, u8::from(binary)]);
        frame(b'B', &body)
    }

    /// The last statement as messages; each item is answered by one ReadyForQuery.
    fn messages(&self, way: Way) -> Vec<Vec<u8>> {
        if let Some(call) = self.last.strip_prefix("@call ") {
            return vec![fast_path(call)];
        }
        let execute = frame(b'E', &[0; 5]);
        let describe = |kind: &[u8], name: &[u8]| frame(b'D', &[kind, name, b"\0"].concat());
        match way {
            Way::Simple => vec![query(&self.literal())],
            Way::Cursor => {
                let declare = format!("declare pgshape cursor for {}", self.literal());
                vec![query(&declare), query("fetch all from pgshape")]
            }
            Way::Copy => vec![query(&format!("copy ({}) to stdout", self.literal()))],
            Way::Unnamed => {
                let parse = parse(b"", self.last.as_bytes());
                vec![[parse, self.bind(b"", b"", false), describe(b"P", b""), execute, sync()].concat()]
            }
            Way::PreparedText | Way::PreparedBinary => {
                let parse = parse(b"named", self.last.as_bytes());
                let bind = self.bind(b"", b"named", way == Way::PreparedBinary);
                let close = frame(b'C', b"Snamed\0");
                vec![
                    [parse, describe(b"S", b"named"), sync()].concat(),
                    [bind, execute, sync()].concat(),
                    [close, sync()].concat(),
                ]
            }
        }
    }
}

/// FunctionCall with arguments in text form.
fn fast_path(call: &str) -> Vec<u8> {
    let (oid, arguments) = call.split_once(' ').unwrap();
    let arguments: Vec<&str> = arguments.split(" | ").collect();
    let mut body = oid.parse::<u32>().unwrap().to_be_bytes().to_vec();
    body.extend_from_slice(&[0, 0]);
    body.extend_from_slice(&u16::try_from(arguments.len()).unwrap().to_be_bytes());
    for argument in arguments {
        body.extend_from_slice(&u32::try_from(argument.len()).unwrap().to_be_bytes());
        body.extend_from_slice(argument.as_bytes());
    }
    body.extend_from_slice(&[0, 0]);
    frame(b'F', &body)
}

/// What came back.
#[derive(Debug, Default)]
pub struct Answer {
    /// All of it.
    pub frames: Vec<Frame>,
}

impl Answer {
    /// Every byte.
    pub fn bytes(&self) -> Vec<u8> {
        self.frames.iter().flat_map(|frame| [&[frame.tag], &frame.body[..], b"\n"].concat()).collect()
    }

    /// The same for the same values: without the numbers that types, temporary schemas and processes got.
    pub fn stable(&self) -> Vec<String> {
        self.frames.iter().map(stable).collect()
    }

    /// The first error: SQLSTATE, and the code of a refusal.
    pub fn error(&self) -> Option<(String, Option<String>)> {
        let error = self.frames.iter().find(|frame| frame.tag == b'E')?;
        let message = error.field(b'M').unwrap_or_default();
        let code = message.get(..5).filter(|code| code.starts_with("PV0")).map(str::to_owned);
        Some((error.field(b'C').unwrap_or_default(), code))
    }
}

/// The first number that the server gives to anything of users.
const USERS_OID: u32 = 16_384;

fn stable(frame: &Frame) -> String {
    let field = |field: &message::FieldDescription<'_>| {
        let ty = if field.type_oid < USERS_OID { field.type_oid } else { USERS_OID };
        format!("{} {ty} {} {} {}", field.name.escape_ascii(), field.size, field.typmod, field.format)
    };
    match frame.tag {
        b'T' => message::row_description(&frame.body).unwrap().iter().map(field).collect::<Vec<_>>().join(", "),
        b'A' => format!("A {}", frame.body[4..].escape_ascii()),
        tag => {
            let text = format!("{} {}", char::from(tag), frame.body.escape_ascii());
            let (first, rest) = text.split_once("pg_temp_").unwrap_or((&text, ""));
            format!("{first}{}", rest.trim_start_matches(|c: char| c.is_ascii_digit()))
        }
    }
}

/// A login that asks; a connection that the server ends is opened again.
pub struct Asker<'a> {
    site: &'a Site,
    /// Who.
    pub role: &'static str,
    port: u16,
    wire: Wire,
    database: String,
    /// Said before each shape.
    first: Option<String>,
    /// A schema that stands in shapes in the place of `public`.
    aim: Option<&'static str>,
}

impl<'a> Asker<'a> {
    /// Through the proxy.
    pub fn veiled(site: &'a Site, role: &'static str) -> Self {
        Self::at(site, role, site.port(), site.database.clone())
    }

    /// Through the proxy, for one of its purposes.
    pub fn acting(site: &'a Site, role: &'static str, purpose: &str) -> Self {
        Self::at(site, role, site.port(), format!("{}@{purpose}", site.database))
    }

    /// With the tables' names aimed at views in that schema.
    pub fn aimed(self, schema: &'static str) -> Self {
        Self { aim: Some(schema), ..self }
    }

    /// Past it.
    pub fn direct(site: &'a Site, role: &'static str) -> Self {
        Self::at(site, role, cluster().port(), site.database.clone())
    }

    fn at(site: &'a Site, role: &'static str, port: u16, database: String) -> Self {
        Self { site, role, port, wire: Wire::login(port, role, &database), database, first: None, aim: None }
    }

    /// Past the proxy, where the lens of that name is in the path as the proxy would have put it.
    pub fn through_lens(site: &'a Site, role: &'static str, lens: &str) -> Self {
        let first = format!("set search_path = pgveil_lens_{lens}_public, public");
        Self { first: Some(first), ..Self::direct(site, role) }
    }

    /// A value of a sealed column may go to nobody but the proxy, or the server's log has it; a lens alone redacts
    /// nothing.
    pub fn may(&self, shape: &Shape) -> bool {
        let past = self.port != self.site.port();
        !(past && shape.text().contains(CANARY) || self.first.is_some() && shape.said_by_tables)
    }

    /// Asks a shape, and leaves everything as it was.
    pub fn ask(&mut self, shape: &Shape, way: Way) -> Answer {
        let aimed = self.aim.map(|schema| shape.aimed(schema));
        let shape = aimed.as_ref().unwrap_or(shape);
        let mut answer = Answer::default();
        let cursor = way == Way::Cursor;
        if let Some(first) = self.first.clone() {
            self.say(&query(&first), &mut answer);
        }
        if shape.wrapped || cursor {
            self.say(&query("begin"), &mut answer);
        }
        for statement in &shape.before {
            self.say(&query(statement), &mut answer);
        }
        for message in shape.messages(way) {
            self.say(&message, &mut answer);
        }
        // What comes back of these is looked at too: a ParameterStatus, say.
        if shape.wrapped || cursor {
            self.say(&query("rollback"), &mut answer);
        }
        if !shape.wrapped {
            self.say(&query("discard all"), &mut answer);
        } else if shape.before.iter().any(|statement| statement.starts_with("prepare ")) {
            self.say(&query("deallocate all"), &mut answer);
        }
        answer
    }

    fn say(&mut self, message: &[u8], answer: &mut Answer) {
        self.wire.send(message);
        let mut frames = self.wire.until_ready();
        if frames.last().is_none_or(|frame| frame.tag != b'Z') {
            self.wire = Wire::login(self.port, self.role, &self.database);
        }
        answer.frames.append(&mut frames);
    }
}
