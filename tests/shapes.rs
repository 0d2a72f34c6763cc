//! The leak suite: every shape of SQL in `vectors/leak_shapes.sql`, in every way a client can ask it, by every kind of
//! login that may not see everything; what is looked at is every byte that comes back, and every byte that is logged.
//!
//! Two questions: is a hidden value there, in clear or encoded; and does anything at all change when nothing but hidden
//! values has changed ([`World`]). The second finds pieces, guesses, hashes and orders, whatever their form. Beside it
//! the same shapes past the proxy, by a login with plain rights, to show that they are leaks there.

mod asking;
mod observed;
mod stage;

use std::collections::BTreeMap;
use std::time::Instant;

use tokio_postgres::SimpleQueryMessage;

use crate::support::{CANARY, Site, connect, find_in_files, memmem};
use asking::{Answer, Asker, Shape, WAYS, Way, shapes};
use stage::{CLINIC, NOBODY, PLAIN, READER, ROW, UNSEALING, World};

/// What must not be in an answer: name and bytes.
type Needles = Vec<(String, Vec<u8>)>;

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// The digits of base64 that the word's bytes alone decide, `offset` bytes into a group of three.
fn base64_core(word: &[u8], offset: usize) -> Vec<u8> {
    let bit = |at: usize| {
        let (byte, shift) = ((at / 8).checked_sub(offset)?, 7 - at % 8);
        word.get(byte).map(|byte| byte >> shift & 1)
    };
    let digit = |n: usize| (n * 6..n * 6 + 6).try_fold(0_u8, |digit, at| Some(digit << 1 | bit(at)?));
    let digits = (0..(word.len() + offset) * 8 / 6).filter_map(digit);
    digits.map(|digit| ALPHABET[usize::from(digit)]).collect()
}

/// The word as it stands, in capitals, backwards, in hex and in base64.
fn disguises(word: &str) -> Needles {
    let mut forms: Vec<Vec<u8>> = vec![word.into(), word.chars().rev().collect::<String>().into()];
    forms.push(word.to_ascii_uppercase().into());
    forms.extend([hex::encode(word).into(), hex::encode_upper(word).into()]);
    forms.push(hex::encode(word.to_ascii_uppercase()).into());
    forms.extend((0..3).map(|offset| base64_core(word.as_bytes(), offset)));
    forms.into_iter().map(|form| (word.to_owned(), form)).collect()
}

/// Every hidden plaintext cell's own word.
fn plain_cells() -> Vec<String> {
    let columns = ["ssn", "mail", "note", "gone", "doc", "docn", "tags", "tagz", "what", "code", "pin"];
    let cells = columns.iter().flat_map(|column| (1..=4).map(move |n| format!("{PLAIN}{column}{n}")));
    cells.chain([format!("{PLAIN}wide"), format!("{PLAIN}cut")]).collect()
}

fn sealed_cells() -> Vec<String> {
    (1..=4).flat_map(|n| [format!("e{CANARY}mail{n}"), format!("{CANARY}secret{n}")]).collect()
}

/// Salaries and birthdays, printed and as the binary values of their columns.
fn numbers() -> Needles {
    let mut needles = Needles::new();
    for n in 1..=4_u8 {
        let salary = 73_100_100_u32 + u32::from(n);
        needles.push(("salary".to_owned(), salary.to_string().into()));
        needles.push(("salary".to_owned(), [[0, 0, 0, 4], salary.to_be_bytes()].concat()));
        // 1973-05-10 is 9,731 days before 2000-01-01.
        let born = -9731_i32 + i32::from(n);
        needles.push(("born".to_owned(), format!("1973-05-1{n}").into()));
        needles.push(("born".to_owned(), [[0, 0, 0, 4], born.to_be_bytes()].concat()));
    }
    needles
}

/// What that login must not get in the answer to that shape; what it has said itself may come back.
fn needles(role: &str, shape: &Shape) -> Needles {
    let text = shape.text().to_ascii_lowercase();
    let unsaid = |(_, form): &(String, Vec<u8>)| !memmem(text.as_bytes(), &form.to_ascii_lowercase());
    let mut all = Needles::new();
    let mut hide = |word: &str, cells: Vec<String>| {
        let words = if text.contains(word) { cells } else { vec![word.to_owned()] };
        all.extend(words.iter().filter(|word| !text.contains(*word)).flat_map(|word| disguises(word)));
    };
    hide(CANARY, sealed_cells());
    if role != UNSEALING {
        hide(PLAIN, plain_cells());
        all.extend(numbers());
    }
    if ["analyst", NOBODY, CLINIC].contains(&role) {
        all.extend(disguises(ROW));
    }
    all.retain(unsaid);
    all
}

fn found<'n>(answer: &Answer, needles: &'n Needles) -> Option<&'n str> {
    let bytes = answer.bytes();
    needles.iter().find(|(_, form)| memmem(&bytes, form)).map(|(name, _)| name.as_str())
}

/// One cell of the matrix.
struct Cell {
    way: Way,
    /// A needle that is there.
    shown: Option<String>,
    stable: Vec<String>,
    error: Option<(String, Option<String>)>,
}

/// By shape.
type Pass = Vec<Vec<Cell>>;

/// Every shape in every way, by one login.
fn pass(mut asker: Asker<'_>, shapes: &[Shape], ways: &[Way]) -> Pass {
    let mut ask = |shape: &Shape| {
        let needles = needles(asker.role, shape);
        let ways: Vec<Way> = ways.iter().copied().filter(|way| shape.has(*way) && asker.may(shape)).collect();
        let cell = |way| {
            let answer = asker.ask(shape, way);
            let shown = found(&answer, &needles).map(str::to_owned);
            Cell { way, shown, stable: answer.stable(), error: answer.error() }
        };
        ways.into_iter().map(cell).collect()
    };
    shapes.iter().map(&mut ask).collect()
}

/// Where two answers part.
fn parting<'c>(one: &'c Cell, two: &'c Cell) -> Option<(&'c str, &'c str)> {
    let pairs = one.stable.iter().zip(&two.stable).find(|(a, b)| a != b);
    let longer = || (one.stable.len() != two.stable.len()).then_some(("more frames", "fewer frames"));
    pairs.map(|(a, b)| (a.as_str(), b.as_str())).or_else(longer)
}

/// A group's line of the table.
#[derive(Default)]
struct Row {
    /// How many shapes.
    shapes: usize,
    /// Of these show a value to a login with rights past the proxy.
    shows: usize,
    /// Tell of one, without showing it.
    tells: usize,
    /// Shapes × ways × masked logins.
    cells: usize,
    /// Answered without an error.
    answered: usize,
    /// In how many a value is shown or told of.
    leaks: usize,
    /// In how many there is what the README does not promise to hide.
    known: usize,
}

impl Row {
    fn numbers(&self) -> [usize; 7] {
        [self.shapes, self.shows, self.tells, self.cells, self.answered, self.known, self.leaks]
    }

    fn print(name: &str, numbers: [usize; 7]) {
        print!("{name:<40}");
        numbers.iter().for_each(|number| print!("{number:>13}"));
        println!();
    }
}

const HEADINGS: [&str; 7] =
    ["shapes", "direct shows", "direct tells", "cells", "answered", "known tells", "pgveil leaks"];

fn print(rows: &[(&'static str, Row)]) {
    print!("{:<40}", "");
    HEADINGS.iter().for_each(|heading| print!("{heading:>13}"));
    println!();
    let mut sum = [0; 7];
    for (name, row) in rows {
        sum.iter_mut().zip(row.numbers()).for_each(|(sum, number)| *sum += number);
        Row::print(name, row.numbers());
    }
    Row::print("all", sum);
}

/// Analyst past the proxy, which has read and redacted nothing: what PostgreSQL alone holds back.
const LENS_ALONE: &str = "analyst, past pgveil";

/// The clinic acts for research: as it is, with every name aimed at its lens for care, and past the proxy, where it acts
/// for nothing, with that lens in its path.
const OTHER_PURPOSE: &str = "clinic, for research";
const OTHER_LENS: &str = "clinic, for research, at the lens for care";
const NO_PURPOSE: &str = "clinic, past pgveil";

/// The logins that may not see everything.
const MASKED: [&str; 8] = ["analyst", LENS_ALONE, "support", NOBODY, UNSEALING, OTHER_PURPOSE, OTHER_LENS, NO_PURPOSE];

fn asker<'a>(site: &'a Site, who: &'static str) -> Asker<'a> {
    match who {
        LENS_ALONE => Asker::through_lens(site, "analyst", "analyst"),
        OTHER_PURPOSE => Asker::acting(site, CLINIC, "research"),
        OTHER_LENS => Asker::acting(site, CLINIC, "research").aimed("pgveil_lens_shapes_clinic_care_public"),
        NO_PURPOSE => Asker::through_lens(site, CLINIC, "shapes_clinic_care"),
        role => Asker::veiled(site, role),
    }
}

/// What a cleared login is told where it does not get what it would past the proxy: no operation on sealed bytes, what
/// cannot be read completely, pinned settings, reserved names, definitions over sealed columns, fast-path calls, tables
/// made of protected plaintext columns.
const LISTED: [&str; 7] = ["PV011", "PV014", "PV019", "PV020", "PV022", "PV024", "PV031"];

/// All answers.
struct Matrix {
    first: BTreeMap<&'static str, Pass>,
    /// In another world; who is cleared for all that changes is not asked.
    other: BTreeMap<&'static str, Pass>,
    /// Past the proxy, in both.
    direct: [Pass; 2],
    /// The cleared login through pgveil, and past it.
    cleared: [Pass; 2],
}

fn matrix(site: &Site, shapes: &[Shape]) -> Matrix {
    let all = |role| {
        stage::put_in_order(site);
        (role, pass(asker(site, role), shapes, &WAYS))
    };
    // Who has no rights holds no locks.
    let (first, shown) = std::thread::scope(|scope| {
        let nobody = scope.spawn(|| all(NOBODY));
        let others = MASKED.into_iter().filter(|role| *role != NOBODY).map(all);
        let mut first: BTreeMap<_, _> = others.collect();
        let shown = pass(Asker::direct(site, READER), shapes, &WAYS);
        first.extend([nobody.join().expect("nobody's pass ends")]);
        (first, shown)
    });
    let veiled = pass(Asker::veiled(site, "app"), shapes, &[Way::Simple]);
    let unveiled = pass(Asker::direct(site, "app"), shapes, &[Way::Simple]);
    stage::turn(site, World::Second);
    let mut other: BTreeMap<_, _> = ["support", NOBODY].into_iter().map(all).collect();
    let told = pass(Asker::direct(site, READER), shapes, &[Way::Simple]);
    stage::more_hidden_rows(site);
    other.extend(["analyst", LENS_ALONE, OTHER_PURPOSE, OTHER_LENS, NO_PURPOSE].map(all));
    Matrix { first, other, direct: [shown, told], cleared: [veiled, unveiled] }
}

impl Matrix {
    fn row(&self, at: usize, shape: &Shape, row: &mut Row, leaks: &mut Vec<String>) {
        let known = row.known;
        row.shapes += 1;
        let [shown, told] = &self.direct;
        if shown[at].iter().any(|cell| cell.shown.is_some()) {
            row.shows += 1;
        } else if !shape.restless && shown[at].iter().zip(&told[at]).any(|(a, b)| parting(a, b).is_some()) {
            row.tells += 1;
        }
        for role in MASKED {
            let mut others = self.other.get(role).map(|pass| pass[at].iter());
            for cell in &self.first[role][at] {
                row.cells += 1;
                row.answered += usize::from(cell.error.is_none());
                let other = others.as_mut().and_then(Iterator::next).filter(|_| !shape.restless);
                let parted = other.and_then(|other| parting(cell, other));
                let what = match (&cell.shown, parted) {
                    (None, None) => continue,
                    (None, Some(_)) if shape.known => {
                        row.known += 1;
                        continue;
                    }
                    (Some(word), _) => format!("shows {word}:\n    {:?}", cell.stable),
                    (None, Some(parted)) => format!("tells:\n    {parted:?}"),
                };
                row.leaks += 1;
                leaks.push(format!("{role}, {:?}: {}\n    {what}", cell.way, shape.line));
            }
        }
        if shape.known && row.known == known {
            leaks.push(format!("tells nothing, so it should not be marked: {}", shape.line));
        }
    }

    /// Where a cleared login gets something else than past the proxy: refusals by code, and all other differences.
    fn cleared(&self, shapes: &[Shape]) -> (BTreeMap<String, Vec<&'static str>>, Vec<String>) {
        let (mut refused, mut different) = (BTreeMap::<String, Vec<_>>::new(), Vec::new());
        for (at, shape) in shapes.iter().enumerate() {
            let [Some(veiled), Some(direct)] = [0, 1].map(|n| self.cleared[n][at].first()) else { continue };
            match (&veiled.error, &direct.error) {
                (Some((_, Some(code))), _) => refused.entry(code.clone()).or_default().push(shape.line),
                (Some((one, None)), Some((two, _))) if one == two => {}
                (None, None) => {}
                (one, two) => different.push(format!("{}: {one:?}, past pgveil {two:?}", shape.line)),
            }
        }
        (refused, different)
    }
}

/// What a login may say of its session when it begins.
async fn beginnings(site: &Site) {
    for option in [
        "-c search_path=public",
        "-c search_path=pg_catalog,public -c row_security=off",
        "-c role=shapes_reader",
        "-c session_authorization=app",
        "-c client_encoding=SJIS",
        "-c standard_conforming_strings=off",
        "-c session_replication_role=replica",
        "-c client_min_messages=debug5 -c debug_print_plan=on",
    ] {
        let url = format!("{}?options={}", site.url("analyst"), option.replace(' ', "%20").replace('=', "%3D"));
        let client = match connect(&url).await {
            Ok(client) => client,
            Err(error) => {
                assert!(error.as_db_error().is_some(), "{option}: {error}");
                continue;
            }
        };
        for sql in ["select * from people", "table public.people", "select p::text from people p", "show search_path"] {
            let said = match client.simple_query(sql).await {
                Ok(messages) => messages.iter().filter_map(cells).collect::<String>(),
                Err(error) => format!("{:?}", error.as_db_error()),
            };
            let hidden = disguises(PLAIN).into_iter().chain(disguises(ROW)).find(|(_, n)| memmem(said.as_bytes(), n));
            assert!(hidden.is_none() && !said.is_empty(), "{option}, {sql}: {said}");
        }
    }
}

fn cells(message: &SimpleQueryMessage) -> Option<String> {
    let SimpleQueryMessage::Row(row) = message else { return None };
    Some((0..row.len()).filter_map(|at| row.get(at)).collect())
}

/// Nothing hidden is in what pgveil itself writes: its log, metrics, access log. (Values that are sealed: see [`Site`].)
fn written_nowhere(mut site: Site) {
    let needles = [PLAIN, ROW].map(disguises).concat();
    let forms: Vec<&[u8]> = needles.iter().map(|(_, form)| &form[..]).collect();
    site.write("metrics.txt", &site.metrics());
    assert_eq!(site.terminate(), Some(0));
    site.write("tail.txt", &site.pgveil_ok(&["log", "tail", "--json", "-n", "10000000"]));
    let tail = std::fs::metadata(site.path("tail.txt")).unwrap().len();
    assert!(tail > 1_000_000, "the access log has only {tail} bytes of what was asked");
    let file = find_in_files(&site.path(""), &forms);
    assert!(file.is_none(), "a hidden value is in {file:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_shape_of_sql_shows_or_tells_what_policy_hides() {
    let site = stage::site().await;
    let shapes = shapes();
    let begun = Instant::now();
    beginnings(&site).await;
    let matrix = tokio::task::block_in_place(|| matrix(&site, &shapes));
    let (mut rows, mut leaks) = (Vec::<(&'static str, Row)>::new(), Vec::new());
    for (at, shape) in shapes.iter().enumerate() {
        if rows.last().is_none_or(|(group, _)| *group != shape.group) {
            rows.push((shape.group, Row::default()));
        }
        let (_, row) = rows.last_mut().expect("there is one now");
        matrix.row(at, shape, row, &mut leaks);
    }
    print(&rows);
    println!("{:?}", begun.elapsed());
    let (refused, different) = matrix.cleared(&shapes);
    for (code, lines) in &refused {
        println!("app is refused {} of {} shapes with {code}", lines.len(), shapes.len());
        assert!(LISTED.contains(&code.as_str()), "{code}:\n{}", lines.join("\n"));
    }
    assert!(leaks.is_empty(), "{} leaks:\n{}", leaks.len(), leaks.join("\n"));
    assert!(different.is_empty(), "not as past pgveil, for app:\n{}", different.join("\n"));
    let sum = |number: fn(&Row) -> usize| rows.iter().map(|(_, row)| number(row)).sum::<usize>();
    assert!(sum(|row| row.shows + row.tells) > 350, "most shapes are leaks where nobody hides anything");
    assert!(sum(|row| row.answered) * 3 > sum(|row| row.cells), "what is refused altogether hides everything");
    written_nowhere(site);
}
