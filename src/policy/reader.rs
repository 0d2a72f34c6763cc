//! Reads TOML key by key and remembers every line: unknown keys, wrong types and bad values are all reported at
//! once, each with its place. Used for policies and for `pgveil.toml`.

use std::cell::RefCell;
use std::ops::RangeInclusive;
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::problem::{At, Place, Problem, suggest};

/// One file's text and where its lines begin.
#[derive(Debug)]
struct Lines {
    file: Arc<str>,
    starts: Vec<usize>,
}

impl Lines {
    fn place(&self, offset: usize) -> Place {
        let line = self.starts.partition_point(|start| *start <= offset);
        Place { file: self.file.clone(), line: u32::try_from(line).unwrap_or(u32::MAX) }
    }
}

/// A file being read; the problems found so far.
#[derive(Debug)]
pub struct Document<'a> {
    lines: Lines,
    text: &'a str,
    problems: RefCell<Vec<Problem>>,
}

impl<'a> Document<'a> {
    /// `file` is the path as the user named it.
    pub fn new(file: &str, text: &'a str) -> Self {
        let starts = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Self { lines: Lines { file: file.into(), starts }, text, problems: RefCell::default() }
    }

    /// Parses the text and hands its root to `read`; syntax errors become problems and what could be read is read.
    pub fn read<T>(&self, read: impl FnOnce(Section<'_>) -> T) -> T {
        let (root, errors) = DeTable::parse_recoverable(self.text);
        for error in errors {
            let place = self.lines.place(error.span().map_or(0, |span| span.start));
            self.add(Problem::at(&place, format!("TOML: {}", one_line(error.message())), None));
        }
        read(Section {
            document: self,
            table: root.get_ref(),
            path: String::new(),
            place: Place { file: self.lines.file.clone(), line: 1 },
            asked: Vec::new(),
        })
    }

    /// Records a problem.
    pub fn add(&self, problem: Problem) {
        self.problems.borrow_mut().push(problem);
    }

    /// Everything recorded.
    pub fn problems(self) -> Vec<Problem> {
        self.problems.into_inner()
    }

    fn place(&self, span: std::ops::Range<usize>) -> Place {
        self.lines.place(span.start)
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// One table of the file. Every key that is asked for is known; [`Section::close`] reports the others.
#[derive(Debug)]
pub struct Section<'a> {
    document: &'a Document<'a>,
    table: &'a DeTable<'a>,
    path: String,
    place: Place,
    asked: Vec<&'static str>,
}

impl<'a> Section<'a> {
    /// Where the section begins.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// Where `key` stands, or the section if it does not.
    pub fn place_of(&self, key: &str) -> Place {
        match self.table.iter().find(|(name, _)| name.get_ref() == key) {
            Some((name, _)) => self.document.place(name.span()),
            None => self.place.clone(),
        }
    }

    /// The dotted path, for messages.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Records a problem.
    pub fn problem(&self, place: &Place, message: impl Into<String>, hint: impl Into<Option<String>>) {
        self.document.add(Problem::at(place, message, hint));
    }

    /// A string.
    pub fn text(&mut self, key: &'static str) -> Option<At<String>> {
        let (value, place) = self.ask(key)?;
        match value {
            DeValue::String(text) => Some(At { value: text.to_string(), place }),
            other => self.wrong(key, "a string", other, &place),
        }
    }

    /// `true` or `false`.
    pub fn flag(&mut self, key: &'static str) -> Option<At<bool>> {
        let (value, place) = self.ask(key)?;
        match value {
            DeValue::Boolean(flag) => Some(At { value: *flag, place }),
            other => self.wrong(key, "true or false", other, &place),
        }
    }

    /// A whole number inside `range`.
    pub fn number(&mut self, key: &'static str, range: RangeInclusive<u64>) -> Option<At<u64>> {
        let (value, place) = self.ask(key)?;
        let DeValue::Integer(number) = value else {
            return self.wrong(key, "a whole number", value, &place);
        };
        match u64::from_str_radix(number.as_str(), number.radix()) {
            Ok(number) if range.contains(&number) => Some(At { value: number, place }),
            _ => {
                let hint = format!("between {} and {}", range.start(), range.end());
                self.problem(&place, format!("{} is out of range", self.named(key)), hint);
                None
            }
        }
    }

    /// One of the listed words.
    pub fn choice<T: Copy>(&mut self, key: &'static str, words: &[(&'static str, T)]) -> Option<At<T>> {
        let word = self.text(key)?;
        match words.iter().find(|(name, _)| *name == word.value) {
            Some((_, value)) => Some(At { value: *value, place: word.place }),
            None => {
                let names: Vec<&str> = words.iter().map(|(name, _)| *name).collect();
                let otherwise = format!("one of: {}", names.join(", "));
                let hint = suggest(&word.value, names.iter().copied(), &otherwise);
                self.problem(&word.place, format!("{} cannot be \"{}\"", self.named(key), word.value), hint);
                None
            }
        }
    }

    /// A list of strings.
    pub fn texts(&mut self, key: &'static str) -> Option<Vec<At<String>>> {
        let (value, place) = self.ask(key)?;
        let DeValue::Array(items) = value else {
            return self.wrong(key, "a list of strings", value, &place);
        };
        let mut texts = Vec::new();
        for item in items.iter() {
            let place = self.document.place(item.span());
            match item.get_ref() {
                DeValue::String(text) => texts.push(At { value: text.to_string(), place }),
                other => {
                    self.wrong::<()>(key, "a list of strings", other, &place);
                }
            }
        }
        Some(texts)
    }

    /// A string or a list of strings.
    pub fn text_or_texts(&mut self, key: &'static str) -> Option<Vec<At<String>>> {
        match self.table.get(key).map(Spanned::get_ref) {
            Some(DeValue::String(_)) => self.text(key).map(|text| vec![text]),
            _ => self.texts(key),
        }
    }

    /// A table.
    pub fn section(&mut self, key: &'static str) -> Option<Section<'a>> {
        let (value, place) = self.ask(key)?;
        match value {
            DeValue::Table(table) => Some(self.inner(key, table, place)),
            other => self.wrong(key, "a table", other, &place),
        }
    }

    /// A table whose keys the user chooses and whose values are tables, in the order they are written.
    pub fn sections(&mut self, key: &'static str) -> Vec<(At<String>, Section<'a>)> {
        let Some(outer) = self.section(key) else { return Vec::new() };
        let mut found = Vec::new();
        let mut written: Vec<_> = outer.table.iter().collect();
        written.sort_by_key(|(name, _)| name.span().start);
        for (name, value) in written {
            let place = self.document.place(name.span());
            let text = name.get_ref().to_string();
            match value.get_ref() {
                DeValue::Table(table) => {
                    let inner = outer.inner(&text, table, place.clone());
                    found.push((At { value: text, place }, inner));
                }
                other => {
                    outer.wrong::<()>(&text, "a table", other, &place);
                }
            }
        }
        found
    }

    /// A table whose keys the user chooses and whose values are strings, in the order they are written.
    pub fn named_texts(&mut self, key: &'static str) -> Vec<(At<String>, At<String>)> {
        let Some(outer) = self.section(key) else { return Vec::new() };
        let mut written: Vec<_> = outer.table.iter().collect();
        written.sort_by_key(|(name, _)| name.span().start);
        let mut found = Vec::new();
        for (name, value) in written {
            let place = self.document.place(name.span());
            let text = name.get_ref().to_string();
            match value.get_ref() {
                DeValue::String(value) => {
                    let value = At { value: value.to_string(), place: place.clone() };
                    found.push((At { value: text, place }, value));
                }
                other => {
                    outer.wrong::<()>(&text, "a string", other, &place);
                }
            }
        }
        found
    }

    /// A list of tables (`[[key]]`).
    pub fn list(&mut self, key: &'static str) -> Vec<Section<'a>> {
        let Some((value, place)) = self.ask(key) else { return Vec::new() };
        let DeValue::Array(items) = value else {
            self.wrong::<()>(key, "a list of tables", value, &place);
            return Vec::new();
        };
        let mut found = Vec::new();
        for item in items.iter() {
            let place = self.document.place(item.span());
            match item.get_ref() {
                DeValue::Table(table) => found.push(self.inner(key, table, place)),
                other => {
                    self.wrong::<()>(key, "a list of tables", other, &place);
                }
            }
        }
        found
    }

    /// Counts the key as known, whatever it holds.
    pub fn skip(&mut self, key: &'static str) {
        self.asked.push(key);
    }

    /// Whether the key is written at all; does not count as asking for it.
    pub fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// Reports what is written but was never asked for.
    pub fn close(&self) {
        for (name, _) in self.table {
            let text: &str = name.get_ref();
            if !self.asked.contains(&text) {
                let place = self.document.place(name.span());
                let known = format!("known here: {}", self.asked.join(", "));
                let hint = suggest(text, self.asked.iter().copied(), &known);
                let message = match self.path.as_str() {
                    "" => format!("unknown key `{text}`"),
                    path => format!("unknown key `{text}` in [{path}]"),
                };
                self.problem(&place, message, hint);
            }
        }
    }

    fn ask(&mut self, key: &'static str) -> Option<(&'a DeValue<'a>, Place)> {
        if !self.asked.contains(&key) {
            self.asked.push(key);
        }
        let (name, value) = self.table.get_key_value(key)?;
        Some((value.get_ref(), self.document.place(name.span())))
    }

    fn inner(&self, key: &str, table: &'a DeTable<'a>, place: Place) -> Section<'a> {
        let bare = key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
        let key = if bare { key.to_owned() } else { format!("\"{key}\"") };
        let path = if self.path.is_empty() { key } else { format!("{}.{key}", self.path) };
        Section { document: self.document, table, path, place, asked: Vec::new() }
    }

    fn named(&self, key: &str) -> String {
        if self.path.is_empty() { format!("`{key}`") } else { format!("`{key}` in [{}]", self.path) }
    }

    fn wrong<T>(&self, key: &str, wanted: &str, found: &DeValue<'_>, place: &Place) -> Option<T> {
        self.problem(place, format!("{} must be {wanted}, not {}", self.named(key), found.type_str()), None);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::super::problem::render;
    use super::*;

    fn problems(text: &str, read: impl FnOnce(Section<'_>)) -> String {
        let document = Document::new("x.toml", text);
        document.read(read);
        render(&document.problems())
    }

    #[test]
    fn every_problem_is_reported_with_its_line() {
        let text = "port = \"a\"\nhots = 1\n[tls]\nmode = \"requier\"\nsize = 99\n";
        let all = problems(text, |mut root| {
            assert!(root.number("port", 1..=9).is_none());
            assert!(root.text("host").is_none());
            let mut tls = root.section("tls").unwrap();
            assert!(tls.choice("mode", &[("require", 1), ("disable", 2)]).is_none());
            assert!(tls.number("size", 1..=9).is_none());
            tls.close();
            root.close();
        });
        assert_eq!(
            all,
            "x.toml:1: `port` must be a whole number, not string\n\
             x.toml:2: unknown key `hots`\n  help: did you mean `host`?\n\
             x.toml:4: `mode` in [tls] cannot be \"requier\"\n  help: did you mean `require`?\n\
             x.toml:5: `size` in [tls] is out of range\n  help: between 1 and 9"
        );
    }

    #[test]
    fn syntax_errors_are_problems_with_a_line() {
        let all = problems("a = 1\nb = = 2\n", |mut root| {
            root.number("a", 0..=9);
            root.text("b");
            root.close();
        });
        assert!(all.starts_with("x.toml:2: TOML: "), "{all}");
    }
}
