//! Who saw whose data, looked for in the log itself.
//!
//! In: a person's pseudonyms, a time, the tables that hold such people. Out: the newest accesses and what the log does not
//! know. Never: more than a bounded number of events in memory; a check of hashes, that is `verify`'s.

use std::collections::{BTreeSet, VecDeque};
use std::fs;
use std::path::{Path, PathBuf};

use memchr::memmem::Finder;
use serde::Serialize;

use super::lines::Lines;
use super::verify::first_record;
use super::{disk, record};
use crate::error::{Error, Result};
use crate::event::{Event, EventKind, Pseudonym};

/// What a `start` event says of statements of the run before: this, after their number.
pub const UNFINISHED: &str = " intents of the last run have no outcome";

/// Whom, since when, how many.
#[derive(Clone, Debug)]
pub struct Search {
    /// The person, as each spelling of the key would be recorded.
    pub people: Vec<Pseudonym>,
    /// Microseconds since the Unix epoch.
    pub since_us: i64,
    /// The newest so many are returned; all are counted.
    pub limit: usize,
    /// Where rows of unknown people may be theirs.
    pub tables: Tables,
}

/// Tables by whether they hold people of that kind.
#[derive(Clone, Debug, Default)]
pub struct Tables {
    /// Tables of the policy that do, each as `schema.table`.
    pub theirs: Vec<String>,
    /// All tables of the policy.
    pub known: Vec<String>,
}

impl Tables {
    /// A statement on these may be about such a person: one of the tables is of that kind, or nobody knows what it is.
    pub fn concern(&self, relations: &BTreeSet<&str>) -> bool {
        let named = |list: &[String], relation: &str| list.iter().any(|name| name == relation);
        relations.is_empty()
            || relations.iter().any(|relation| named(&self.theirs, relation) || !named(&self.known, relation))
    }
}

/// Statements that released or wrote rows of people whom the log does not name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Unknown {
    /// Statements.
    pub events: u64,
    /// Their rows of unknown people.
    pub rows: u64,
    /// People whom their records count and do not name.
    pub people: u64,
}

impl Unknown {
    /// Adds an event if it says that it does not know.
    pub fn add(&mut self, event: &Event) {
        let (rows, people) = (event.subjects.unknown_rows, event.subjects.more);
        if event.kind != EventKind::Intent && (rows > 0 || people > 0) {
            self.events += 1;
            self.rows = self.rows.saturating_add(rows);
            self.people = self.people.saturating_add(people);
        }
    }
}

/// One access.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen {
    /// Which log, where there are several.
    pub log: i32,
    /// Its record.
    pub seq: u64,
    /// How many people it names.
    pub people: u64,
    /// What happened, without the names of the people.
    pub event: Event,
}

/// The answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Found {
    /// Accesses in all.
    pub total: u64,
    /// The newest of them, newest first.
    pub newest: Vec<Seen>,
    /// What may have been theirs too.
    pub unknown: Unknown,
    /// Statements under way when a proxy ended without recording their outcome.
    pub unfinished: u64,
    /// When the log begins; nothing is known of what was before.
    pub begins_us: Option<i64>,
    /// Records that are not there: gone from the files, or before they could be copied.
    pub missing: u64,
    /// When the newest record was copied, if these are copies.
    pub copied_us: Option<i64>,
}

/// Statements that a `start` event's note says were left without an outcome.
pub fn unfinished(note: &str) -> u64 {
    let said = note.split("; ").find_map(|part| part.strip_suffix(UNFINISHED));
    said.and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// Reads the whole log since then. `progress` is told how many bytes of how many were read.
///
/// # Errors
/// A file cannot be read.
pub fn who_saw(dir: &Path, search: &Search, progress: &mut dyn FnMut(u64, u64)) -> Result<Found> {
    let segments = segments_since(dir, search.since_us)?;
    let size = |path: &PathBuf| fs::metadata(path).map_or(0, |meta| meta.len());
    let total: u64 = segments.iter().map(|(path, _)| size(path)).sum();
    let mut reader = Reader::new(search);
    let (mut read, mut newest) = (0, None);
    for (path, last) in &segments {
        let mut lines = Lines::open(path)?;
        let mut count = 0u64;
        while let Some((line, true)) = lines.next()? {
            if let Some(seq) = sequence(line).filter(|seq| last.is_none_or(|last| *seq <= last)) {
                newest = Some(seq);
                reader.line(line);
            }
            read += line.len() as u64 + 1;
            count += 1;
            if count.is_multiple_of(4_096) {
                progress(read, total);
            }
        }
        if let Some(last) = *last {
            reader.found.missing += last.saturating_sub(newest.unwrap_or(last));
            newest = Some(last);
        }
    }
    Ok(reader.found())
}

/// A record's number, without reading the rest of it.
fn sequence(line: &[u8]) -> Option<u64> {
    let rest = line.strip_prefix(b"{\"v\":1,\"seq\":")?;
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    std::str::from_utf8(&rest[..digits]).ok()?.parse().ok()
}

/// Segments that may hold an event since then, oldest first, each with the last record that counts in it where another
/// follows: what a segment that was given up holds beyond that stands again in the next one.
fn segments_since(dir: &Path, since_us: i64) -> Result<Vec<(PathBuf, Option<u64>)>> {
    let listed = disk::segments(dir).map_err(|e| Error::io(format!("reading {}", dir.display()), e))?;
    let (mut found, mut next) = (VecDeque::new(), None);
    for (_, path) in listed.into_iter().rev() {
        let first = first_record(&path);
        let begins = first.as_ref().map(|first| first.seq).or(next);
        found.push_front((path, next.map(|next| next.saturating_sub(1))));
        next = begins;
        if let Some(record::Kind::Segment(header)) = first.map(|first| first.kind)
            && header.created_us < since_us
        {
            break;
        }
    }
    Ok(found.into())
}

struct Reader<'a> {
    search: &'a Search,
    people: Vec<String>,
    unknown: [Finder<'static>; 2],
    start: Finder<'static>,
    found: Found,
    newest: VecDeque<Seen>,
}

impl<'a> Reader<'a> {
    fn new(search: &'a Search) -> Self {
        Self {
            search,
            people: search.people.iter().map(ToString::to_string).collect(),
            unknown: [Finder::new("\"unknown_rows\":"), Finder::new("\"more\":")],
            start: Finder::new("\"kind\":\"start\""),
            found: Found::default(),
            newest: VecDeque::new(),
        }
    }

    /// Only lines that may matter are read as JSON.
    fn line(&mut self, line: &[u8]) {
        let named = self.people.iter().any(|person| memchr::memmem::find(line, person.as_bytes()).is_some());
        let unknown = self.unknown.iter().any(|finder| finder.find(line).is_some());
        let first = self.found.begins_us.is_none();
        if !(named || unknown || first || self.start.find(line).is_some()) {
            return;
        }
        let Some((seq, event)) = record::event(line) else { return };
        self.found.begins_us.get_or_insert(event.at_us);
        if event.at_us >= self.search.since_us {
            self.event(seq, event);
        }
    }

    fn event(&mut self, seq: u64, mut event: Event) {
        if event.kind == EventKind::Start {
            self.found.unfinished += event.note.as_deref().map_or(0, unfinished);
        }
        let known = &event.subjects.known;
        if known.iter().any(|subject| self.search.people.contains(&subject.pseudonym)) {
            self.found.total += 1;
            let people = known.len() as u64 + event.subjects.more;
            event.subjects.known = Vec::new();
            self.newest.push_front(Seen { log: 0, seq, people, event });
            self.newest.truncate(self.search.limit);
        } else {
            let relations = event.action().touches.iter().map(|touch| &*touch.relation).collect();
            if self.search.tables.concern(&relations) {
                self.found.unknown.add(&event);
            }
        }
    }

    fn found(self) -> Found {
        Found { newest: self.newest.into(), ..self.found }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_says_how_many_have_no_outcome() {
        let note = format!("pgveil 0.1.0 started; 12{UNFINISHED}; windows were rebuilt");
        assert_eq!((unfinished(&note), unfinished("pgveil 0.1.0 started")), (12, 0));
    }

    #[test]
    fn tables_concern_somebody_unless_they_are_known_to_hold_others() {
        let tables = Tables { theirs: vec!["a".into()], known: vec!["a".into(), "b".into()] };
        let concern = |names: &[&str]| tables.concern(&names.iter().copied().collect());
        assert!(concern(&["a", "b"]) && concern(&["gone"]) && concern(&[]));
        assert!(!concern(&["b"]));
    }
}
