//! The script of a [`Play`]: which message comes next, from which side.

use super::server::message;
use super::stage::{CANARY, ENVELOPE, PIN, Play};

/// What is left of the input.
#[derive(Debug)]
pub struct Input<'a>(pub &'a [u8]);

impl<'a> Input<'a> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    /// As many bytes as the next byte says; after 255 as the next two say.
    fn chunk(&mut self) -> &'a [u8] {
        let length = match self.byte() {
            Some(255) => usize::from(self.byte().unwrap_or(0)) << 8 | usize::from(self.byte().unwrap_or(0)),
            Some(length) => usize::from(length),
            None => 0,
        };
        let (head, rest) = self.0.split_at(length.min(self.0.len()));
        self.0 = rest;
        head
    }
}

/// Statements without a value of the client in them.
const TEXTS: [&str; 28] = [
    "select 1",
    "select id, email, full_name from public.users",
    "select email from users where email = $1",
    "insert into public.users (id, email, full_name, note) values ($1, $2, $3, $4)",
    "update public.users set email = $1 where id = $2",
    "insert into users (email) values ($1) on conflict (email) do update set email = excluded.email",
    "begin",
    "commit",
    "rollback",
    "set search_path to other",
    "set datestyle to 'German'",
    "create table t (a int)",
    "create table s (e pgveil.sealed_text)",
    "alter table users add column x int",
    "create view v as select email from users",
    "copy public.users (id, email) from stdin",
    "copy public.users (id, email) from stdin with (format csv, header)",
    "copy t from stdin",
    "copy public.users (id, email) to stdout",
    "copy t to stdout",
    "declare c cursor with hold for select email from users",
    "fetch all from c",
    "prepare n as select email from users where id = $1",
    "execute n(1)",
    "select array_agg(email) from users",
    "select note from users; select 2",
    "",
    "savepoint a",
];

/// The client's tags, the likely ones.
const CLIENT: [u8; 14] = *b"QPBDECSHFdcfpX";
/// The server's.
const SERVER: [u8; 22] = *b"RSKZTDCE123nstIGHdcNAv";

fn parse(name: &str, sql: &str, types: &[u32]) -> Vec<u8> {
    let mut body = [name.as_bytes(), b"\0", sql.as_bytes(), b"\0"].concat();
    body.extend_from_slice(&(types.len() as u16).to_be_bytes());
    types.iter().for_each(|oid| body.extend_from_slice(&oid.to_be_bytes()));
    message(b'P', &body)
}

fn bind(portal: &str, statement: &str, formats: &[u16], values: &[Option<&[u8]>], results: &[u16]) -> Vec<u8> {
    let codes = |list: &[u16]| [list.len() as u16].iter().chain(list).flat_map(|code| code.to_be_bytes()).collect();
    let mut body = [portal.as_bytes(), b"\0", statement.as_bytes(), b"\0"].concat();
    body.extend::<Vec<u8>>(codes(formats));
    body.extend_from_slice(&(values.len() as u16).to_be_bytes());
    for value in values {
        body.extend_from_slice(&value.map_or(-1, |value| value.len() as i32).to_be_bytes());
        body.extend_from_slice(value.unwrap_or_default());
    }
    body.extend::<Vec<u8>>(codes(results));
    message(b'B', &body)
}

fn execute(portal: &str, rows: i32) -> Vec<u8> {
    message(b'E', &[portal.as_bytes(), b"\0", &rows.to_be_bytes()].concat())
}

fn query(sql: &str) -> Vec<u8> {
    message(b'Q', &[sql.as_bytes(), b"\0"].concat())
}

fn sync() -> Vec<u8> {
    message(b'S', b"")
}

/// The canary, only where the statement seals it.
fn sealed(which: u8) -> Vec<u8> {
    let canary = Some(CANARY.as_bytes());
    let insert = "insert into public.users (id, email, full_name) values ($1, $2, $3)";
    let values = [Some(&b"1"[..]), canary, canary];
    match which % 10 {
        0 => query(&format!("insert into public.users (id, email) values (1, '{CANARY}')")),
        1 => query(&format!("select id from public.users where email = '{CANARY}'")),
        2 => query(&format!("update public.users set full_name = E'{CANARY}', email = $${CANARY}$$ where id = 1")),
        3 => [parse("", insert, &[]), bind("", "", &[], &values, &[]), execute("", 0)].concat(),
        4 => {
            [parse("c", insert, &[23, 25, 1043]), bind("p", "c", &[], &values, &[1]), execute("p", 1), sync()].concat()
        }
        5 => {
            let rows = message(b'd', format!("1\t{CANARY}\n2\t{CANARY}\n").as_bytes());
            [query("copy public.users (id, email) from stdin"), rows, message(b'c', b"")].concat()
        }
        6 => {
            let rows = message(b'd', format!("1,\"{CANARY}\"\n").as_bytes());
            let copy = parse("", "copy public.users (id, full_name) from stdin csv", &[]);
            [copy, bind("", "", &[], &[], &[]), execute("", 0), sync(), rows, message(b'c', b""), sync()].concat()
        }
        7 => query(&format!("update public.accounts set pin = {PIN} where pin = '{PIN}'")),
        8 => {
            let find = parse("", "select id from public.accounts where pin = $1", &[20]);
            let pin = PIN.to_be_bytes();
            [find, bind("", "", &[1], &[Some(&pin)], &[]), execute("", 0), sync()].concat()
        }
        _ => {
            let copy = query("copy public.accounts (id, pin) from stdin");
            let row = format!("1\t{PIN}\n");
            let (head, tail) = row.as_bytes().split_at(9);
            [copy, message(b'd', head), message(b'd', tail), message(b'c', b"")].concat()
        }
    }
}

/// Described as PostgreSQL describes `users.email`, with its envelope in either format; and as it never would.
fn of_a_column(which: u8) -> Vec<u8> {
    let field = |table: u32, attnum: u16, oid: u32, format: u16| {
        let mut body = b"\0\x01email\0".to_vec();
        body.extend_from_slice(&table.to_be_bytes());
        body.extend_from_slice(&attnum.to_be_bytes());
        body.extend_from_slice(&oid.to_be_bytes());
        body.extend_from_slice(&[0xff; 6]);
        body.extend_from_slice(&format.to_be_bytes());
        message(b'T', &body)
    };
    let row = |value: &[u8]| message(b'D', &[&[0, 1], &(value.len() as u32).to_be_bytes()[..], value].concat());
    let hex = hex::encode(&*ENVELOPE);
    match which % 10 {
        0 => field(100, 2, 17, 1),
        1 => field(100, 2, 17, 0),
        2 => field(0, 0, 17, 0),
        3 => field(100, 3, 17, 0),
        4 => field(100, 2, 1001, 0),
        5 => field(100, 2, 25, 0),
        6 => row(&ENVELOPE),
        7 => row(format!("\\x{hex}").as_bytes()),
        8 => row(format!("{{\"\\\\x{hex}\"}}").as_bytes()),
        _ => message(b'd', format!("1\t\\\\x{hex}\n").as_bytes()),
    }
}

/// Brings the session into the state the input wants to be in. From 12 on: before the login.
pub fn enter(play: &mut Play, state: u8) {
    if state % 16 >= 12 {
        return;
    }
    while !play.ready() && play.answer(0) {}
    while play.answer(0) {}
    match state % 16 {
        0 => {}
        1 => play.client(&[parse("", TEXTS[1], &[]), bind("", "", &[], &[], &[]), execute("", 0)].concat()),
        2 => {
            play.client(&parse("", TEXTS[1], &[]));
            play.answer(0x80);
        }
        3..=5 => {
            play.client(&query(TEXTS[12 + usize::from(state % 16)]));
            play.answer(0);
        }
        6 => {
            play.client(&[query("begin"), query("select 1")].concat());
            play.answer(0);
            play.answer(0x80);
        }
        7 => {
            play.client(&[parse("", TEXTS[1], &[]), bind("p", "", &[], &[], &[1]), execute("p", 1)].concat());
            while play.answer(1) {}
        }
        8 => {
            play.client(&[parse("n", TEXTS[2], &[25]), sync()].concat());
            while play.answer(1) {}
        }
        9 => {
            let copy = [parse("", TEXTS[15], &[]), bind("", "", &[], &[], &[]), execute("", 0), sync()];
            play.client(&copy.concat());
            while play.answer(0) {}
        }
        10 => play.client(&query(TEXTS[1])),
        _ => play.client(&query(TEXTS[18])),
    }
}

/// One step. `false`: the input is used up.
pub fn step(play: &mut Play, input: &mut Input<'_>) -> bool {
    let Some(what) = input.byte() else { return false };
    match what % 10 {
        0 => {
            let tag = input.byte().unwrap_or(b'S');
            let tag = CLIENT.get(usize::from(tag)).copied().unwrap_or(tag);
            play.client(&message(tag, input.chunk()));
        }
        1 => play.client(&query(TEXTS[usize::from(input.byte().unwrap_or(0)) % TEXTS.len()])),
        2 => extended(play, input),
        3 if play.between_messages() => play.client(&sealed(input.byte().unwrap_or(0))),
        4 => play.client(input.chunk()),
        6 => play.catalog(),
        7 if play.server_is_hostile() => {
            let tag = input.byte().unwrap_or(b'Z');
            let tag = SERVER.get(usize::from(tag)).copied().unwrap_or(tag);
            play.server(&message(tag, input.chunk()));
        }
        8 if play.server_is_hostile() => play.server(&of_a_column(input.byte().unwrap_or(0))),
        9 if play.server_is_hostile() => play.server(input.chunk()),
        9 => play.client(&sync()),
        _ => {
            let (times, taste) = (input.byte().unwrap_or(0), input.byte().unwrap_or(0));
            for _ in 0..=times % 8 {
                play.answer(taste);
            }
        }
    }
    true
}

/// Parse, Bind, Describe, Execute, Close, Sync of a statement in any selection.
fn extended(play: &mut Play, input: &mut Input<'_>) {
    let (text, names, which) = (input.byte().unwrap_or(0), input.byte().unwrap_or(0), input.byte().unwrap_or(0));
    let name = ["", "n", "c", "pgveil_x"][usize::from(names) % 4];
    let portal = ["", "p", "c", "q"][usize::from(names >> 2) % 4];
    let count = usize::from(names >> 4) % 5;
    let format = u16::from(names >> 7);
    let values = vec![Some(input.chunk()); count];
    let messages = [
        parse(name, TEXTS[usize::from(text) % TEXTS.len()], &[25, 17, 0][..usize::from(text >> 6)]),
        bind(portal, name, &[format], &values, &[format]),
        message(b'D', &[b"S", name.as_bytes(), b"\0"].concat()),
        message(b'D', &[b"P", portal.as_bytes(), b"\0"].concat()),
        execute(portal, i32::from(text >> 7)),
        message(b'C', &[b"S", name.as_bytes(), b"\0"].concat()),
        message(b'C', &[b"P", portal.as_bytes(), b"\0"].concat()),
        sync(),
    ];
    let mut sent = Vec::new();
    for (bit, message) in messages.iter().enumerate() {
        if which >> bit & 1 != 0 {
            sent.extend_from_slice(message);
        }
    }
    play.client(&sent);
}
