//! Random scripts of protocol messages, in and out of order: through pgveil they get the same messages as direct, with
//! the same rows, command tags, SQLSTATEs and transaction states.
//!
//! A script is made from its seed alone, and starts from the same tables. `PGVEIL_TEST_SCRIPTS` says how many are run,
//! `PGVEIL_TEST_SEED` which is the first; one that fails is cut down to what still fails, and printed.

mod script;

use std::time::Duration;

use crate::support::{Frame, PASSWORD, Pair, Site, Wire, cluster, shown};
use script::{Message, SCHEMA, START, script};

const POLICY: &str = r#"
version = 1
default_level = "internal"
[tables."public.secrets"]
subject = { kind = "person", key = "id" }
[tables."public.secrets".columns]
email = { level = "restricted", as = "varchar(20)", encrypt = "deterministic", accept_leakage = ["equality"] }
name = { level = "restricted", as = "text", encrypt = "randomized" }
n = { level = "restricted", as = "int4", encrypt = "randomized" }
[roles.app]
clearance = "restricted"
"#;

const SCRIPTS: u64 = 400;

fn number(name: &str, or: u64) -> u64 {
    std::env::var(name).map_or(or, |text| text.parse().unwrap_or_else(|e| panic!("{name}: {e}")))
}

/// One of two ends that scripts are sent to.
struct End {
    port: u16,
    database: String,
    wire: Option<Wire>,
}

impl End {
    fn new(port: u16, database: &str) -> Self {
        Self { port, database: database.to_owned(), wire: None }
    }

    /// What came for the script, one line a message. The connection is kept if the script left it open.
    fn run(&mut self, script: &[Message]) -> Vec<String> {
        let mut wire = self.wire.take().unwrap_or_else(|| Wire::login(self.port, "app", &self.database));
        wire.message(b'Q', &[START.as_bytes(), b"\0"].concat());
        let begun: Vec<String> = wire.until_ready().iter().map(shown).collect();
        assert!(begun.last().is_some_and(|last| last == "Z I"), "the tables are not as they should be: {begun:?}");
        let mut bytes: Vec<u8> = script.iter().flat_map(Message::bytes).collect();
        // Whatever state that left: out of COPY, out of a pipeline, out of a transaction.
        for last in [Message::CopyFail, Message::Sync, Message::Query("rollback"), Message::Query(END)] {
            bytes.extend(last.bytes());
        }
        wire.send(&bytes);
        let (mut said, mut ended) = (Vec::new(), false);
        loop {
            match wire.frame_within(Duration::from_secs(10)) {
                Err(_) => {
                    said.push(SILENCE.to_owned());
                    return said;
                }
                Ok(None) => {
                    said.push("end of stream".to_owned());
                    return said;
                }
                Ok(Some(frame)) => {
                    said.push(line(&frame));
                    ended |= is_end(&frame);
                    if ended && frame.tag == b'Z' {
                        break;
                    }
                }
            }
        }
        wire.message(b'Q', b"discard all\0");
        let reset: Vec<String> = wire.until_ready().iter().map(shown).collect();
        said.extend(reset);
        self.wire = Some(wire);
        said
    }
}

const SILENCE: &str = "silence";

/// Nobody else's row.
const END: &str = "select 'the end of the script'";

fn is_end(frame: &Frame) -> bool {
    frame.tag == b'D' && frame.body.ends_with(b"the end of the script")
}

fn line(frame: &Frame) -> String {
    match frame.tag {
        // Who notified is another process each time.
        b'A' => format!("A {}", frame.body[4..].escape_ascii()),
        _ => shown(frame),
    }
}

/// Both ends on that script; the lines that differ.
fn differ(ends: &mut [End; 2], script: &[Message]) -> Option<String> {
    let [veiled, direct] = ends.each_mut().map(|end| end.run(script));
    (veiled != direct).then(|| {
        let same = veiled.iter().zip(&direct).take_while(|(a, b)| a == b).count();
        let rest = |said: &[String]| said.iter().skip(same).take(6).cloned().collect::<Vec<_>>().join("\n    ");
        format!(
            "  both:\n    {}\n  then pgveil:\n    {}\n  and PostgreSQL:\n    {}\n",
            veiled[..same].join("\n    "),
            rest(&veiled),
            rest(&direct)
        )
    })
}

/// Without the messages that do not matter, as far as leaving out one at a time tells.
fn cut_down(ends: &mut [End; 2], mut script: Vec<Message>) -> Vec<Message> {
    let mut at = 0;
    while at < script.len() {
        let mut shorter = script.clone();
        shorter.remove(at);
        if differ(ends, &shorter).is_some() {
            script = shorter;
        } else {
            at += 1;
        }
    }
    script
}

fn compare(ends: &mut [End; 2], scripts: u64) {
    let first = number("PGVEIL_TEST_SEED", 0);
    let mut faults = Vec::new();
    for seed in first..first + scripts {
        let mut short = script(seed);
        let Some(mut what) = differ(ends, &short) else { continue };
        if !what.contains(SILENCE) {
            // On fresh connections, so that nothing from before is to blame.
            ends.iter_mut().for_each(|end| end.wire = None);
            short = cut_down(ends, short);
            what = differ(ends, &short).unwrap_or(what);
        }
        let lines: String = short.iter().map(|message| format!("    {message:?}\n")).collect();
        faults.push(format!("seed {seed}:\n{lines}{what}"));
        if faults.len() >= 10 {
            break;
        }
    }
    assert!(faults.is_empty(), "{} of {scripts} scripts from seed {first} differ:\n{}", faults.len(), faults.concat());
}

#[test]
fn a_protected_database_answers_as_its_unsealed_twin() {
    let builder = Site::new("scripts").policy(POLICY).audit("durability = \"async\"");
    let pair = Pair::start(builder, SCHEMA);
    let (port, database) = pair.direct();
    let mut ends = [End::new(pair.site.port(), &pair.site.database), End::new(port, database)];
    compare(&mut ends, number("PGVEIL_TEST_SCRIPTS", SCRIPTS));
}

#[test]
fn a_passthrough_database_answers_as_it_does_direct() {
    let database = "scripts_passthrough";
    cluster().sql("postgres", &format!("create database {database} owner app")).unwrap();
    cluster().sql_as("app", PASSWORD, database, SCHEMA).unwrap();
    let site = Site::new("scripts_beside").passthrough(database).start();
    let mut ends = [End::new(site.port(), database), End::new(cluster().port(), database)];
    compare(&mut ends, number("PGVEIL_TEST_SCRIPTS", SCRIPTS) / 4);
}
