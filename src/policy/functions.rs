//! Functions of PostgreSQL and of the extensions that come with it which reach past the tables a statement names.
//!
//! In: the files `functions/15.tsv` to `18.tsv`, the server's version. Out: what sort of function a name is. Never: who may
//! call it: rights in PostgreSQL say that.

use std::collections::{BTreeSet, HashMap};
use std::sync::LazyLock;

macro_rules! sorts {
    ($($name:ident = $word:literal, $doc:literal;)*) => {
        /// What a function reaches.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Sort { $(#[doc = $doc] $name,)* }

        impl Sort {
            /// The files' words.
            const WORDS: &'static [(&'static str, Sort)] = &[$(($word, Sort::$name),)*];
        }
    };
}

sorts! {
    Sql = "sql", "Tables, by SQL or names that it gets as text.";
    Files = "files", "What is in files of the server.";
    Listing = "listing", "Which files there are.";
    Settings = "settings", "The server's configuration and access rules.";
    Wal = "wal", "The write-ahead log, as it lies.";
    Decoding = "decoding", "Rows of all tables, out of the write-ahead log.";
    Storage = "storage", "Tables as they are stored; it asks itself who may.";
    Others = "others", "Texts and values of other sessions, and of statistics.";
    Objects = "objects", "Large objects.";
    Types = "types", "Users' code, by a type or table that it gets as a number or text.";
}

impl Sort {
    /// It is about files of the server, in whatever form.
    pub fn reaches_files(self) -> bool {
        matches!(self, Self::Files | Self::Listing | Self::Settings | Self::Wal | Self::Decoding | Self::Storage)
    }
}

/// The oldest version with a list, and that list.
const OLDEST: (u32, &str) = (15, include_str!("functions/15.tsv"));

/// The later ones.
const LATER: [(u32, &str); 3] = [
    (16, include_str!("functions/16.tsv")),
    (17, include_str!("functions/17.tsv")),
    (18, include_str!("functions/18.tsv")),
];

static LISTS: LazyLock<(Functions, [Functions; 3])> =
    LazyLock::new(|| (Functions::read(OLDEST), LATER.map(Functions::read)));

/// The list of one version.
#[derive(Debug)]
pub struct Functions {
    /// The major version it is for.
    pub major: u32,
    whole: HashMap<&'static str, Sort>,
    prefixes: Vec<(&'static str, Sort)>,
}

impl Functions {
    fn read((major, text): (u32, &'static str)) -> Self {
        let mut list = Self { major, whole: HashMap::new(), prefixes: Vec::new() };
        for (name, sort) in text.lines().filter_map(entry) {
            match name.strip_suffix('*') {
                Some(prefix) => list.prefixes.push((prefix, sort)),
                None => {
                    list.whole.insert(name, sort);
                }
            }
        }
        list
    }

    /// The list for a server of that `server_version_num`: of an unknown later version the newest.
    pub fn of(server_version: u32) -> &'static Self {
        let (oldest, later) = &*LISTS;
        later.iter().rfind(|list| list.major <= server_version / 10_000).unwrap_or(oldest)
    }

    /// The warning for a server that is newer than all lists.
    pub fn warning(server_version: u32) -> Option<String> {
        let (major, known) = (server_version / 10_000, Self::of(server_version).major);
        (known == LATER[LATER.len() - 1].0 && major > known).then(|| {
            format!(
                "this is PostgreSQL {major}, and pgveil's lists of functions that run SQL text or read files end at {known}: \
                 new ones of {major} are not known"
            )
        })
    }

    /// What sort of function it is; `None`: like any other. The name is unqualified, as PostgreSQL has it.
    pub fn sort(&self, name: &str) -> Option<Sort> {
        let prefixed = || self.prefixes.iter().find(|(prefix, _)| name.starts_with(prefix));
        self.whole.get(name).copied().or_else(|| prefixed().map(|(_, sort)| *sort))
    }
}

/// Name and sort of one line.
fn entry(line: &'static str) -> Option<(&'static str, Sort)> {
    let mut fields = line.split('\t');
    let (name, word) = (fields.next()?, fields.next()?);
    let (_, sort) = Sort::WORDS.iter().find(|(known, _)| *known == word)?;
    Some((name, *sort))
}

/// Every version's names, whole ones and how others begin: of those sorts, or of all.
pub fn names(sorts: &[Sort]) -> (BTreeSet<&'static str>, BTreeSet<&'static str>) {
    let (oldest, later) = &*LISTS;
    let wanted = |sort: &Sort| sorts.is_empty() || sorts.contains(sort);
    let lists = || std::iter::once(oldest).chain(later);
    let whole = lists().flat_map(|list| list.whole.iter().filter(|(_, sort)| wanted(sort)).map(|(name, _)| *name));
    let prefixes =
        lists().flat_map(|list| list.prefixes.iter().filter(|(_, sort)| wanted(sort)).map(|(name, _)| *name));
    (whole.collect(), prefixes.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_understood_and_says_where_and_why() {
        for (major, text) in std::iter::once(OLDEST).chain(LATER) {
            let mut names = Vec::new();
            for line in text.lines().filter(|line| !line.starts_with('#')) {
                let fields: Vec<&str> = line.split('\t').collect();
                assert_eq!(fields.len(), 4, "{major}: {line}");
                assert!(entry(line).is_some() && !fields[3].is_empty(), "{major}: {line}");
                let letters = fields[0].strip_suffix('*').unwrap_or(fields[0]);
                assert!(letters.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'), "{line}");
                names.push(fields[0]);
            }
            let count = names.len();
            names.sort_unstable();
            names.dedup();
            assert!(names.len() == count && count > 100, "{major}");
        }
    }

    #[test]
    fn the_version_chooses_the_list() {
        let major = |version| Functions::of(version).major;
        assert_eq!([140_000, 150_018, 160_002, 170_000, 180_004, 190_000].map(major), [15, 15, 16, 17, 18, 18]);
        assert_eq!(Functions::of(150_000).sort("pg_input_is_valid"), None);
        assert_eq!(Functions::of(160_000).sort("pg_input_is_valid"), Some(Sort::Types));
        assert!([0, 150_000, 180_000].iter().all(|version| Functions::warning(*version).is_none()));
        assert!(Functions::warning(190_001).unwrap().contains("PostgreSQL 19"));
    }

    #[test]
    fn whole_names_come_before_how_names_begin() {
        let list = Functions::of(150_000);
        for (name, sort) in [
            ("query_to_xml", Some(Sort::Sql)),
            ("dblink_send_query", Some(Sort::Sql)),
            ("pg_read_file", Some(Sort::Files)),
            ("pg_read_file_old", Some(Sort::Storage)),
            ("pg_read_anything", Some(Sort::Files)),
            ("lo_import", Some(Sort::Files)),
            ("lo_new", Some(Sort::Objects)),
            ("lower", None),
            ("pg_relation_size", None),
        ] {
            assert_eq!(list.sort(name), sort, "{name}");
        }
        let (whole, begins) = names(&[Sort::Files]);
        assert!(whole.contains("pg_read_file") && !whole.contains("pg_ls_dir") && begins.contains("pg_read_"));
        assert!(names(&[]).0.contains("pg_input_is_valid"));
    }
}
