//! What is wrong with a file that somebody wrote: where, what, and the way out.

use std::fmt;
use std::sync::Arc;

/// A line of a file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Path as the user named it.
    pub file: Arc<str>,
    /// From 1; 0 when the problem belongs to the whole file.
    pub line: u32,
}

impl fmt::Display for Place {
    /// `file:line`, or the file.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if self.line > 0 { write!(f, ":{}", self.line) } else { Ok(()) }
    }
}

/// Something read, and where it stood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct At<T> {
    /// What was read.
    pub value: T,
    /// Where.
    pub place: Place,
}

impl<T> At<T> {
    /// The same place, another value.
    pub fn map<U>(self, f: impl FnOnce(T) -> U) -> At<U> {
        At { value: f(self.value), place: self.place }
    }
}

/// One problem. Names keys, tables and columns; never the value of a secret.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub struct Problem {
    /// Path as the user named it.
    pub file: Arc<str>,
    /// From 1; 0 when the problem belongs to the whole file.
    pub line: u32,
    /// What is wrong.
    pub message: String,
    /// The way out.
    pub hint: Option<String>,
}

impl Problem {
    /// A problem at a place.
    pub fn at(place: &Place, message: impl Into<String>, hint: impl Into<Option<String>>) -> Self {
        Self { file: place.file.clone(), line: place.line, message: message.into(), hint: hint.into() }
    }

    /// A problem of a whole file.
    pub fn whole(file: &str, message: impl Into<String>, hint: impl Into<Option<String>>) -> Self {
        Self { file: file.into(), line: 0, message: message.into(), hint: hint.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = Place { file: self.file.clone(), line: self.line };
        write!(f, "{place}: {}", self.message)?;
        match &self.hint {
            Some(hint) => write!(f, "\n  help: {hint}"),
            None => Ok(()),
        }
    }
}

/// All problems as one text, in file and line order, each once.
pub fn render(problems: &[Problem]) -> String {
    let mut sorted: Vec<&Problem> = problems.iter().collect();
    sorted.sort();
    sorted.dedup();
    sorted.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// The candidate nearest to `word` by edit distance, if it is near enough to be a slip of the hand.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let limit = 1 + word.chars().count() / 4;
    candidates
        .into_iter()
        .map(|candidate| (distance(word, candidate), candidate))
        .filter(|(distance, _)| *distance <= limit)
        .min()
        .map(|(_, candidate)| candidate)
}

/// `did you mean …?`, if something is near; else `otherwise`.
pub fn suggest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>, otherwise: &str) -> Option<String> {
    match nearest(word, candidates) {
        Some(near) => Some(format!("did you mean `{near}`?")),
        None if otherwise.is_empty() => None,
        None => Some(otherwise.to_owned()),
    }
}

/// Levenshtein distance with transposed neighbours counted once, case ignored.
fn distance(a: &str, b: &str) -> usize {
    let a: Vec<char> = a.chars().take(64).flat_map(char::to_lowercase).collect();
    let b: Vec<char> = b.chars().take(64).flat_map(char::to_lowercase).collect();
    let mut rows = vec![vec![0usize; b.len() + 1]; a.len() + 1];
    for (i, row) in rows.iter_mut().enumerate() {
        row[0] = i;
    }
    for (j, cell) in rows[0].iter_mut().enumerate() {
        *cell = j;
    }
    for i in 1..=a.len() {
        for j in 1..=b.len() {
            let change = usize::from(a[i - 1] != b[j - 1]);
            let mut best = (rows[i - 1][j] + 1).min(rows[i][j - 1] + 1).min(rows[i - 1][j - 1] + change);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            rows[i][j] = best;
        }
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_recognised_and_a_different_word_is_not() {
        assert_eq!(nearest("emial", ["email", "name"]), Some("email"));
        assert_eq!(nearest("levl", ["level", "data"]), Some("level"));
        assert_eq!(nearest("colour", ["level", "data"]), None);
    }

    #[test]
    fn problems_come_in_order_and_once() {
        let one = Problem::whole("a.toml", "x", None);
        let two = Problem { file: "a.toml".into(), line: 3, message: "y".into(), hint: Some("z".into()) };
        assert_eq!(render(&[two.clone(), one.clone(), two]), "a.toml: x\na.toml:3: y\n  help: z");
    }
}
