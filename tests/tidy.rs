//! The house rules of DESIGN §3 and STYLE as a test: import floors, sizes, headers, banned words.
//!
//! In: every `.rs` file of `src`, `tests` and `bench`. Out: one list of all violations, each as `path:line: what`.
//! Comments, strings and character literals are blanked before anything is looked for, so prose may say `unwrap()`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

const LINES_PER_FILE: usize = 700;
const LINES_PER_FUNCTION: usize = 100;

/// Rooms by floor; a room imports from floors strictly below its own.
const FLOORS: &[(u8, &[&str])] = &[
    (0, &["error", "event", "secret", "clock", "metrics"]),
    (1, &["wire", "sql", "crypto", "mask"]),
    (2, &["policy", "detect"]),
    (3, &["plan"]),
    (4, &["session"]),
    (5, &["relay", "auth", "keys", "audit", "catalog", "lens", "store", "desk"]),
    (6, &["consent", "rights", "retention", "report", "notify", "stats", "discover", "doctor", "console"]),
    (7, &["admin", "cli", "config", "demo", "main"]),
];

/// Imports within one floor, each with its reason. The graph they make has no cycle (tested below).
const SIDEWAYS: &[(&str, &str, &str)] = &[
    ("event", "error", "an event says how a statement ended"),
    ("metrics", "error", "refusals are counted by code"),
    ("metrics", "event", "events are counted by kind"),
    ("sql", "wire", "a column of the schema has a logical type"),
    ("mask", "sql", "masks as SQL quote what they are given"),
    ("mask", "wire", "a mask is chosen by the logical type"),
    ("crypto", "wire", "an envelope names the logical type"),
    ("policy", "detect", "rules carry the detector's thresholds"),
    ("relay", "desk", "the pump waits for the desk's acknowledgement"),
    ("relay", "catalog", "a session asks for a fresh catalog"),
    ("relay", "auth", "a session asks for a user's verifier"),
    ("auth", "catalog", "verifiers are asked for as the control account"),
    ("desk", "audit", "the desk is the log's only writer"),
    ("lens", "catalog", "apply compares the policy with the live catalog"),
    ("lens", "keys", "apply allocates column ids"),
    ("catalog", "keys", "rules are compiled with the keyring's column ids"),
    ("catalog", "desk", "a new policy version is an event"),
    ("store", "audit", "the access log is copied from its files"),
    ("store", "catalog", "our tables are reached through the control connection"),
    ("lens", "store", "apply makes pgveil's own tables too"),
    ("cli", "config", "commands read the configuration"),
    ("cli", "admin", "serve opens the admin port"),
    ("cli", "demo", "the demo is a command"),
    ("demo", "config", "the demo writes a configuration"),
    ("admin", "config", "the admin port is configured"),
];

/// Words and where they may stand; `floors 0–4` means everything below the world.
const BANNED: &[(&str, Where)] = &[
    ("dbg!", Where::Nowhere),
    ("todo!", Where::Nowhere),
    ("unimplemented!", Where::Nowhere),
    (".unwrap()", Where::Tests),
    ("println!", Where::Door),
    ("eprintln!", Where::Door),
    ("Instant::now", Where::ClockAndRelay),
    ("SystemTime", Where::ClockAndWorld),
    ("tokio", Where::World),
    (".await", Where::World),
    ("async fn", Where::World),
    ("std::fs", Where::World),
    ("std::env", Where::World),
    ("rand::", Where::World),
    ("getrandom", Where::World),
    ("TcpStream", Where::World),
    ("TcpListener", Where::World),
    ("UdpSocket", Where::World),
    ("UnixStream", Where::World),
    ("UnixListener", Where::World),
];

const MODULE_NAMES: &[&str] = &["util", "utils", "helper", "helpers", "manager", "common"];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Where {
    Nowhere,
    Tests,
    Door,
    ClockAndRelay,
    ClockAndWorld,
    World,
}

#[test]
fn the_house_is_tidy() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for top in ["src", "tests", "bench"] {
        rust_files(&root.join(top), &mut files);
    }
    files.sort();
    assert!(files.len() > 10, "no sources found under {}", root.display());
    let mut found = Vec::new();
    for file in files {
        let path = file.strip_prefix(root).expect("files come from the root").to_string_lossy().replace('\\', "/");
        let text = fs::read_to_string(&file).unwrap_or_else(|e| panic!("{path}: {e}"));
        found.extend(check(&path, &text));
    }
    assert!(found.is_empty(), "\n{} house rules are broken:\n  {}\n", found.len(), found.join("\n  "));
}

fn rust_files(dir: &Path, out: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        let excluded = ["fuzz", "target", "node_modules"].iter().any(|name| path.ends_with(name));
        if path.is_dir() && !excluded {
            rust_files(&path, out);
        } else if path.extension().is_some_and(|e| e == "rs") {
            out.push(path);
        }
    }
}

/// All violations of one file.
fn check(path: &str, text: &str) -> Vec<String> {
    let file = File::new(path, text);
    let mut found = Vec::new();
    sizes(&file, &mut found);
    names(&file, &mut found);
    if file.in_src() {
        header(&file, text, &mut found);
        imports(&file, &mut found);
        words(&file, text, &mut found);
    }
    found.into_iter().map(|(line, what)| format!("{path}:{line}: {what}")).collect()
}

/// A source file with comments and literals blanked, and which of its lines are test code.
struct File<'a> {
    path: &'a str,
    code: String,
    test_lines: Vec<bool>,
}

impl<'a> File<'a> {
    fn new(path: &'a str, text: &str) -> Self {
        let code = blank(text);
        let whole = !path.starts_with("src/") || path.ends_with("/tests.rs") || path.contains("/tests/");
        let mut test_lines = vec![whole; text.lines().count() + 1];
        for (start, end) in test_regions(&code) {
            for line in &mut test_lines[line_of(&code, start) - 1..line_of(&code, end)] {
                *line = true;
            }
        }
        Self { path, code, test_lines }
    }

    fn in_src(&self) -> bool {
        self.path.starts_with("src/")
    }

    /// `wire` for `src/wire/frame.rs`, `clock` for `src/clock.rs`.
    fn room(&self) -> &str {
        let inner = self.path.strip_prefix("src/").unwrap_or(self.path);
        inner.split('/').next().unwrap_or(inner).trim_end_matches(".rs")
    }

    fn is_test(&self, line: usize) -> bool {
        self.test_lines.get(line - 1).copied().unwrap_or(false)
    }
}

fn floor(room: &str) -> Option<u8> {
    FLOORS.iter().find(|(_, rooms)| rooms.contains(&room)).map(|(floor, _)| *floor)
}

fn sizes(file: &File<'_>, found: &mut Vec<(usize, String)>) {
    let lines = file.code.lines().count();
    if lines > LINES_PER_FILE {
        found.push((lines, format!("file of {lines} lines, more than {LINES_PER_FILE}")));
    }
    for (at, name) in functions(&file.code) {
        let Some((_, close)) = body(&file.code, at) else { continue };
        let (first, last) = (line_of(&file.code, at), line_of(&file.code, close));
        let length = last - first + 1;
        if length > LINES_PER_FUNCTION {
            found.push((first, format!("fn {name} of {length} lines, more than {LINES_PER_FUNCTION}")));
        }
    }
}

fn names(file: &File<'_>, found: &mut Vec<(usize, String)>) {
    for (at, name) in functions(&file.code) {
        if name.starts_with("get_") {
            found.push((line_of(&file.code, at), format!("fn {name}: no get_ prefixes")));
        }
    }
    for at in word_positions(&file.code, "mod ") {
        let name = identifier(&file.code[at + 4..]);
        if MODULE_NAMES.contains(&name) {
            found.push((line_of(&file.code, at), format!("mod {name}: name it after what it is")));
        }
    }
}

fn header(file: &File<'_>, text: &str, found: &mut Vec<(usize, String)>) {
    // A sibling `tests.rs` has its room's header.
    if !text.starts_with("//!") && !file.path.ends_with("/tests.rs") {
        found.push((1, format!("{} does not begin with a `//!` header", file.path)));
    }
}

fn imports(file: &File<'_>, found: &mut Vec<(usize, String)>) {
    let room = file.room();
    if matches!(room, "lib" | "main") {
        return;
    }
    let Some(own) = floor(room) else {
        found.push((1, format!("room `{room}` is on no floor; DESIGN §3 and tests/tidy.rs must name it")));
        return;
    };
    for (at, other) in crate_paths(&file.code) {
        let line = line_of(&file.code, at);
        if other == room || file.is_test(line) {
            continue;
        }
        let sideways = SIDEWAYS.iter().any(|(from, to, _)| *from == room && *to == other);
        match floor(other) {
            Some(theirs) if theirs < own || sideways => {}
            Some(theirs) => found.push((
                line,
                format!("`{room}` (floor {own}) imports `{other}` (floor {theirs}): imports point down only"),
            )),
            None => found.push((line, format!("`crate::{other}` is no room"))),
        }
    }
}

/// Every `crate::room`, also inside `use crate::{a, b::c}`.
fn crate_paths(code: &str) -> Vec<(usize, &str)> {
    let mut out = Vec::new();
    for at in word_positions(code, "crate::") {
        let rest = &code[at + 7..];
        if !rest.starts_with('{') {
            out.push((at, identifier(rest)));
            continue;
        }
        let mut depth = 0_usize;
        let mut expects_name = false;
        for (i, c) in rest.char_indices() {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                break;
            }
            if depth == 1 && matches!(c, '{' | ',') {
                expects_name = true;
            } else if expects_name && !c.is_whitespace() {
                out.push((at + 7 + i, identifier(&rest[i..])));
                expects_name = false;
            }
        }
    }
    out.retain(|(_, name)| !name.is_empty());
    out
}

fn words(file: &File<'_>, text: &str, found: &mut Vec<(usize, String)>) {
    let room = file.room();
    let own = floor(room).unwrap_or(7);
    for (word, place) in BANNED {
        let allowed = match place {
            Where::Nowhere | Where::Tests => false,
            Where::Door => matches!(room, "cli" | "demo" | "main"),
            Where::ClockAndRelay => matches!(room, "clock" | "relay"),
            Where::ClockAndWorld => room == "clock" || own >= 5,
            Where::World => own >= 5,
        };
        if allowed {
            continue;
        }
        for at in word_positions(&file.code, word) {
            let line = line_of(&file.code, at);
            if *place == Where::Nowhere || !file.is_test(line) {
                found.push((line, format!("`{word}` does not belong in {}", file.path)));
            }
        }
    }
    sockets(file, own, found);
    expects(file, text, found);
}

/// Addresses are nouns; everything else of `std::net` is the world's.
fn sockets(file: &File<'_>, own: u8, found: &mut Vec<(usize, String)>) {
    for at in word_positions(&file.code, "std::net") {
        let line = line_of(&file.code, at);
        let rest = &file.code[at + 8..];
        if own < 5 && !file.is_test(line) && !rest.starts_with("::Ip") {
            found.push((line, "`std::net` below the world floor, other than one IP address type".to_owned()));
        }
    }
}

/// `expect` is for provable invariants: the reason stands in a comment on the same line or the one above.
fn expects(file: &File<'_>, text: &str, found: &mut Vec<(usize, String)>) {
    let lines: Vec<&str> = text.lines().collect();
    for at in word_positions(&file.code, ".expect(") {
        let line = line_of(&file.code, at);
        let commented = |n: usize| n >= 1 && lines.get(n - 1).is_some_and(|l| l.contains("//"));
        if !file.is_test(line) && !commented(line) && !commented(line - 1) {
            found.push((line, "`.expect(` without the reason in a comment beside it".to_owned()));
        }
    }
}

// ---- reading Rust ------------------------------------------------------------------------------------------------

fn line_of(code: &str, at: usize) -> usize {
    code.as_bytes()[..at.min(code.len())].iter().filter(|b| **b == b'\n').count() + 1
}

fn identifier(text: &str) -> &str {
    let end = text.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(text.len());
    &text[..end]
}

/// Positions of `word` that do not continue an identifier on the left.
fn word_positions(code: &str, word: &str) -> Vec<usize> {
    let starts_inside = word.starts_with(|c: char| c.is_alphanumeric());
    let ends_inside = word.ends_with(|c: char| c.is_alphanumeric());
    code.match_indices(word)
        .map(|(at, _)| at)
        .filter(|at| {
            let before = code[..*at].chars().next_back().is_some_and(|c| c.is_alphanumeric() || c == '_');
            let after = code[at + word.len()..].chars().next().is_some_and(|c| c.is_alphanumeric() || c == '_');
            !(starts_inside && before || ends_inside && after)
        })
        .collect()
}

fn functions(code: &str) -> Vec<(usize, &str)> {
    word_positions(code, "fn ")
        .into_iter()
        .map(|at| (at, identifier(&code[at + 3..])))
        .filter(|(_, name)| !name.is_empty())
        .collect()
}

/// The braces of the item that begins at `at`; `None` if it ends with `;` first.
fn body(code: &str, at: usize) -> Option<(usize, usize)> {
    let (mut depth, mut open, mut nested) = (0_usize, None, 0_i32);
    for (i, b) in code.bytes().enumerate().skip(at) {
        match b {
            b'(' | b'[' => nested += 1,
            b')' | b']' => nested -= 1,
            b';' if open.is_none() && nested == 0 => return None,
            b'{' => {
                open.get_or_insert(i);
                depth += 1;
            }
            b'}' if depth > 0 => {
                depth -= 1;
                if depth == 0 {
                    return open.map(|open| (open, i));
                }
            }
            _ => {}
        }
    }
    None
}

/// Byte ranges of items under `#[cfg(test)]` or `#[test]`.
fn test_regions(code: &str) -> Vec<(usize, usize)> {
    let mut out = Vec::new();
    for mark in ["#[cfg(test)]", "#[test]"] {
        for (at, _) in code.match_indices(mark) {
            let after = at + mark.len();
            match body(code, after) {
                Some((_, close)) => out.push((at, close)),
                None => out.push((at, after)),
            }
        }
    }
    out
}

/// The text with comments, strings and character literals replaced by spaces; newlines stay.
fn blank(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = bytes.to_vec();
    let mut i = 0;
    while i < bytes.len() {
        let end = literal_or_comment(bytes, i);
        if end > i {
            for b in &mut out[i..end] {
                if *b != b'\n' {
                    *b = b' ';
                }
            }
            i = end;
        } else {
            i += 1;
        }
    }
    String::from_utf8(out).expect("only whole literals are blanked")
}

/// End of the comment or literal that begins at `i`, or `i`.
fn literal_or_comment(b: &[u8], i: usize) -> usize {
    let word_before = i > 0 && (b[i - 1].is_ascii_alphanumeric() || b[i - 1] == b'_');
    match b[i] {
        b'/' if b.get(i + 1) == Some(&b'/') => i + b[i..].iter().position(|c| *c == b'\n').unwrap_or(b.len() - i),
        b'/' if b.get(i + 1) == Some(&b'*') => block_comment(b, i),
        b'"' => string(b, i),
        b'r' | b'b' | b'c' if !word_before => prefixed(b, i),
        b'\'' => character(b, i),
        _ => i,
    }
}

fn block_comment(b: &[u8], start: usize) -> usize {
    let (mut i, mut depth) = (start, 0_usize);
    while i + 1 < b.len() {
        match (b[i], b[i + 1]) {
            (b'/', b'*') => (depth, i) = (depth + 1, i + 2),
            (b'*', b'/') => (depth, i) = (depth - 1, i + 2),
            _ => i += 1,
        }
        if depth == 0 {
            return i;
        }
    }
    b.len()
}

fn string(b: &[u8], quote: usize) -> usize {
    let mut i = quote + 1;
    while i < b.len() {
        match b[i] {
            b'\\' => i += 2,
            b'"' => return i + 1,
            _ => i += 1,
        }
    }
    b.len()
}

/// `r"…"`, `r#"…"#`, `b"…"`, `br#"…"#`, `b'…'`, `c"…"`; `i` if it is an ordinary identifier.
fn prefixed(b: &[u8], i: usize) -> usize {
    let mut j = i;
    while j < b.len() && matches!(b[j], b'r' | b'b' | b'c') && j - i < 2 {
        j += 1;
    }
    let hashes = b[j..].iter().take_while(|c| **c == b'#').count();
    let raw = b[i..j].contains(&b'r');
    match b.get(j + hashes) {
        Some(b'"') if raw => {
            let close: Vec<u8> = std::iter::once(b'"').chain(std::iter::repeat_n(b'#', hashes)).collect();
            let from = j + hashes + 1;
            b[from..].windows(close.len()).position(|w| w == close).map_or(b.len(), |p| from + p + close.len())
        }
        Some(b'"') if hashes == 0 => string(b, j),
        Some(b'\'') if hashes == 0 && &b[i..j] == b"b" => character(b, j),
        _ => i,
    }
}

/// A character literal, or `quote` if it is a lifetime.
fn character(b: &[u8], quote: usize) -> usize {
    if b.get(quote + 1) == Some(&b'\\') {
        let from = quote + 3;
        return b[from.min(b.len())..].iter().position(|c| *c == b'\'').map_or(b.len(), |p| from + p + 1);
    }
    // One character of one to four bytes, then the closing quote; otherwise it is a lifetime.
    let width = match b.get(quote + 1) {
        Some(c) if *c < 0x80 => 1,
        Some(c) if *c < 0xE0 => 2,
        Some(c) if *c < 0xF0 => 3,
        Some(_) => 4,
        None => return quote,
    };
    if b.get(quote + 1 + width) == Some(&b'\'') { quote + width + 2 } else { quote }
}

// ---- every rule can fail -----------------------------------------------------------------------------------------

/// (rule, path, text that breaks it, text that does not)
fn cases() -> Vec<(&'static str, &'static str, String, String)> {
    let long = |lines: usize| format!("//! x\nfn f() {{\n{}}}\n", "    let _ = 1;\n".repeat(lines - 2));
    let body = |inner: &str| format!("//! x\nfn f() {{\n    {inner}\n}}\n");
    let words = |word: &str| (body(word), body(&format!("let _ = {word:?}; // {word}")));
    let mut cases = vec![
        ("more than 700", "src/wire/a.rs", "//! x\n".repeat(701), "//! x\n".repeat(700)),
        ("more than 100", "src/wire/a.rs", long(101), long(100)),
        ("more than 100", "tests/a.rs", long(101), long(100)),
        ("header", "src/wire/a.rs", "fn f() {}\n".into(), "//! x\nfn f() {}\n".into()),
        ("get_", "src/wire/a.rs", "//! x\nfn get_x() {}\n".into(), "//! x\nfn get(&self);\n".into()),
        ("name it after", "src/wire/a.rs", "//! x\nmod util;\n".into(), "//! x\nmod utility_bill;\n".into()),
        (
            "point down",
            "src/wire/a.rs",
            "//! x\nuse crate::session::A;\n".into(),
            "//! x\n/// [`crate::session`]\nuse crate::error::A;\n".into(),
        ),
        (
            "point down",
            "src/policy/a.rs",
            "//! x\nuse crate::{\n    error::{A, B}, plan,\n};\n".into(),
            "//! x\nuse crate::{\n    error::{A, B}, detect,\n};\n".into(),
        ),
        (
            "point down",
            "src/clock.rs",
            "//! x\nfn f(a: crate::wire::A) {}\n".into(),
            "//! x\n#[cfg(test)]\nmod t {\n    use crate::wire::A;\n}\n".into(),
        ),
        ("no room", "src/wire/a.rs", "//! x\nuse crate::nowhere::A;\n".into(), "//! x\nuse crate::wire::A;\n".into()),
        ("on no floor", "src/attic/a.rs", "//! x\n".into(), "//! x\nmod a;\n".into()),
        (
            "reason in a comment",
            "src/relay/a.rs",
            body("x.expect(\"y\");"),
            body("// bounded above\n    x.expect(\"y\");"),
        ),
        ("std::net", "src/session/a.rs", body("std::net::TcpListener::x()"), body("let a: std::net::IpAddr;")),
        (
            "`.unwrap()`",
            "src/relay/a.rs",
            body("x.unwrap();"),
            "//! x\n#[cfg(test)]\nmod tests {\n    fn f() {\n        x.unwrap();\n    }\n}\n".into(),
        ),
    ];
    for (word, place) in BANNED {
        let (bad, good) = words(word);
        let path = if matches!(place, Where::Nowhere | Where::Tests) { "src/relay/a.rs" } else { "src/session/a.rs" };
        cases.push((word, path, bad, good));
    }
    cases
}

#[test]
fn every_rule_can_fail() {
    for (rule, path, bad, good) in cases() {
        let found = check(path, &bad);
        assert!(found.iter().any(|f| f.contains(rule)), "{rule}: not found in {path}:\n{bad}\nfound: {found:?}");
        if path == "src/attic/a.rs" {
            continue;
        }
        let found = check(path, &good);
        assert!(!found.iter().any(|f| f.contains(rule)), "{rule}: falsely found in {path}:\n{good}\nfound: {found:?}");
    }
}

#[test]
fn words_are_allowed_where_they_belong() {
    for (path, text) in [
        ("src/clock.rs", "Instant::now()"),
        ("src/clock.rs", "SystemTime::now()"),
        ("src/relay/a.rs", "Instant::now()"),
        ("src/relay/a.rs", "tokio::spawn(x).await"),
        ("src/keys/a.rs", "std::fs::read(x)"),
        ("src/cli/a.rs", "println!()"),
        ("src/main.rs", "eprintln!()"),
        ("tests/a.rs", "x.unwrap(); println!()"),
    ] {
        let found = check(path, &format!("//! x\nfn f() {{\n    {text}\n}}\n"));
        assert!(found.is_empty(), "{path}: {text}: {found:?}");
    }
}

#[test]
fn literals_and_comments_are_blanked() {
    let text = "let a = \"fn \\\" {\"; let b = r#\"\"dbg!\"#; /* a /* b */ dbg! */ let c = '\"'; let d: &'static str = b\"{\"; 'é'";
    let code = blank(text);
    assert_eq!(code.len(), text.len());
    assert!(!code.contains("dbg!") && !code.contains('{') && !code.contains('é'), "{code}");
    assert!(code.contains("let d: &'static str ="), "{code}");
}

#[test]
fn sideways_imports_have_no_cycle() {
    let mut edges: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (from, to, reason) in SIDEWAYS {
        assert_eq!(floor(from), floor(to), "{from} → {to} is not sideways");
        assert!(!reason.is_empty(), "{from} → {to} has no reason");
        edges.entry(from).or_default().push(to);
    }
    fn reaches(edges: &BTreeMap<&str, Vec<&str>>, from: &str, goal: &str, left: usize) -> bool {
        left > 0
            && edges.get(from).is_some_and(|next| next.iter().any(|n| *n == goal || reaches(edges, n, goal, left - 1)))
    }
    for (from, _, _) in SIDEWAYS {
        assert!(!reaches(&edges, from, from, SIDEWAYS.len()), "`{from}` imports itself by a detour");
    }
}
