//! The statements that everything starts from: PostgreSQL's own regression scripts, our vectors, our fuzz corpora.
//!
//! In: files. Out: statement texts, without psql's own commands and the data of COPY. A text that is no SQL stays in:
//! what PostgreSQL refuses must be cut into the same tokens all the same.

use std::collections::HashSet;
use std::path::Path;

use pg_query::protobuf::Token;

/// Longer texts are loads of data; they would only slow the mutations down.
const TEXT_BYTES_MAX: usize = 16 * 1024;

/// The texts of all files, each once.
pub fn load(paths: &[String]) -> Vec<String> {
    let (mut texts, mut known) = (Vec::new(), HashSet::new());
    for path in paths {
        for text in file(Path::new(path)) {
            let text = text.trim();
            if !text.is_empty() && text.len() <= TEXT_BYTES_MAX && known.insert(text.to_owned()) {
                texts.push(text.to_owned());
            }
        }
    }
    texts
}

fn file(path: &Path) -> Vec<String> {
    if path.is_dir() {
        let mut inside: Vec<_> = std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()).collect();
        inside.sort();
        return inside.iter().flat_map(|path| file(path)).collect();
    }
    let bytes = std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let text = String::from_utf8_lossy(&bytes).replace('\0', "");
    match path {
        _ if path.ends_with("vectors/statements.sql") => {
            text.lines().map(|line| line.trim_start_matches('!').trim_start().replace('¶', "\n")).collect()
        }
        _ if path.extension().is_some_and(|end| end == "sql") => script(&text),
        // An input of a fuzz target.
        _ => vec![text],
    }
}

/// A psql script's statements.
fn script(text: &str) -> Vec<String> {
    let (mut kept, mut data) = (String::new(), false);
    for line in text.lines() {
        let lower = line.to_ascii_lowercase();
        if data {
            data = line != "\\.";
        } else if !line.starts_with('\\') {
            // `\;` keeps two statements in one message; `\gset` and others end one.
            let line = line.replace("\\;", ";");
            kept.push_str(line.find(" \\").filter(|_| !line.contains('\'')).map_or(&line, |end| &line[..end]));
            kept.push('\n');
            data = lower.contains("from stdin") && lower.trim_end().ends_with(';');
        }
    }
    statements(&kept)
}

/// Cut at semicolons outside parentheses, and where PostgreSQL's parser accepts what is there: the body of a function
/// holds semicolons too.
fn statements(text: &str) -> Vec<String> {
    let Ok(scanned) = pg_query::scan(text) else {
        // Some script shows an unterminated literal: up to there by lines.
        return text.split_inclusive(";\n").map(str::to_owned).collect();
    };
    let (mut found, mut start, mut depth, mut body) = (Vec::new(), 0, 0i32, false);
    for token in &scanned.tokens {
        match Token::try_from(token.token) {
            Ok(Token::Ascii40) => depth += 1,
            Ok(Token::Ascii41) => depth -= 1,
            Ok(Token::Atomic) => body = true,
            Ok(Token::Ascii59) if depth <= 0 => {
                let part = &text[start..token.start as usize];
                if !body || pg_query::parse(part).is_ok() {
                    found.push(part.to_owned());
                    (start, depth, body) = (token.end as usize, 0, false);
                }
            }
            _ => {}
        }
    }
    found.push(text[start..].to_owned());
    found
}
