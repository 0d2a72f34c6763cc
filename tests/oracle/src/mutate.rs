//! Mutations: a text and a seed → another text, the same in every run.
//!
//! Some keep the statement's meaning (comments, white space, quoting, case), so that PostgreSQL's parser still accepts it
//! and everything behind the lexer is compared too; the others break it, token by token or byte by byte.

use pgveil::sql::TokenKind;
use pgveil::sql::lexer::{Token, tokens};

use super::dice::Dice;

/// A small generator of its own for mutation number `index` of a run.
pub fn dice(seed: u64, index: u64) -> Dice {
    let mut dice = Dice(seed ^ index.wrapping_mul(0x9E37_79B9_7F4A_7C15));
    dice.next();
    dice
}

/// Between any two tokens these are white space.
const SPACES: &[&str] = &[
    " ",
    "\n",
    "\t",
    "\r",
    "\u{c}",
    "\r\n",
    " /* c */ ",
    "/**/",
    "/* a /* b */ c */",
    "/*--*/",
    "/*'*/",
    " --\n",
    "-- ; '\n",
    "--/*\r",
    "/*/**/*/",
    "/* $$ */",
];

/// Put in anywhere.
const PIECES: &[&str] = &[
    "'",
    "''",
    "\"",
    "\\",
    "\\'",
    "$",
    "$$",
    "$a$",
    "$é$",
    "$1",
    "$65535",
    "$65536",
    "E'",
    "e'\\'",
    "U&'",
    "U&\"",
    "u&'\\0061'",
    "U&\"\\0061\"",
    "N'",
    "n'a'",
    "B'1'",
    "x'1f'",
    " uescape '!'",
    "UESCAPE",
    "/*",
    "*/",
    "--",
    "\n",
    "\r",
    "\u{b}",
    "\u{c}",
    "\u{a0}",
    "\u{3000}",
    "\u{feff}",
    ";",
    "::",
    ":=",
    ":",
    "=>",
    "..",
    ".",
    ".5",
    "5.",
    "1e5",
    "1e",
    "0x1f",
    "0b1",
    "0o7",
    "1_000",
    "1__0",
    "_1",
    "@",
    "@-",
    "+-",
    "-+",
    "<>-",
    "!=-",
    "||/",
    "?",
    "?|",
    "?&",
    "~",
    "!",
    "^",
    "#",
    "`",
    "%",
    "&",
    "|",
    "=",
    "<=",
    ">=",
    "{",
    "}",
    "[",
    "]",
    "(",
    ")",
    ",",
    "null",
    "begin atomic",
    "end",
    "atomic",
    "as",
    "only",
    "table",
    "from",
    "users",
    "with t as (select 1)",
    "union",
    "select",
    "operator(pg_catalog.+)",
    "collate \"C\"",
    "*",
    "é",
    "ſ",
    "K",
    "İ",
    "😀",
    "'a'\n'b'",
    "'a' -- c\n 'b'",
    "E'\\x41'",
    "E'\\u0041'",
    "E'\\101'",
    "e'\\\\'",
    "$b$ ' $b$",
    "array[1]",
    "row(1)",
    "returning *",
    "values (1)",
    "into t",
    "lateral",
    "default",
];

/// The text of mutation `dice`, and the number of the text it began as.
pub fn mutation(corpus: &[String], dice: &mut Dice) -> String {
    let mut text = corpus[dice.below(corpus.len())].clone();
    for _ in 0..1 + dice.below(3) {
        text = match dice.below(20) {
            0..7 => by_tokens(&text, corpus, dice),
            7..14 => by_quoting(&text, dice),
            14..18 => by_spacing(&text, dice),
            _ => by_bytes(&text, dice),
        };
    }
    text
}

/// The tokens before the first error.
fn lexed(text: &str) -> Vec<Token> {
    tokens(text).map_while(Result::ok).collect()
}

fn replaced(text: &str, start: usize, end: usize, with: &str) -> String {
    format!("{}{with}{}", &text[..start], &text[end..])
}

/// Token by token.
fn by_tokens(text: &str, corpus: &[String], dice: &mut Dice) -> String {
    let own = lexed(text);
    if own.is_empty() {
        return by_bytes(text, dice);
    }
    let at = dice.below(own.len());
    let (start, end) = (own[at].span.start as usize, own[at].span.end as usize);
    match dice.below(11) {
        0 => replaced(text, start, end, ""),
        1 => replaced(text, end, end, &format!(" {}", &text[start..end])),
        2 => {
            let other = &own[dice.below(own.len())];
            let (first, second) =
                if other.span.start < own[at].span.start { (other, &own[at]) } else { (&own[at], other) };
            if first.span.end > second.span.start {
                return text.to_owned();
            }
            let between = &text[first.span.end as usize..second.span.start as usize];
            let swapped = format!("{}{between}{}", second.text(text), first.text(text));
            replaced(text, first.span.start as usize, second.span.end as usize, &swapped)
        }
        3 => spliced(text, end, corpus, dice),
        4..6 => like_for_like(text, &own[at], corpus, dice),
        6 => replaced(text, start, start, &format!(" {} ", dice.of(PIECES))),
        7 => replaced(text, end, end, dice.of(PIECES)),
        8 => format!("{text};{}", corpus[dice.below(corpus.len())]),
        9 => {
            let last = own[at + dice.below(own.len() - at)].span.end as usize;
            format!("{}({}){}", &text[..start], &text[start..last], &text[last..])
        }
        _ => {
            let last = own[at + dice.below((own.len() - at).min(6))].span.end as usize;
            replaced(text, start, last, "")
        }
    }
}

/// What stands between two tokens, which may be nothing.
fn by_spacing(text: &str, dice: &mut Dice) -> String {
    let own = lexed(text);
    let at = dice.below(own.len());
    let Some(token) = own.get(at) else { return by_bytes(text, dice) };
    let next = own.get(at + 1).map_or(text.len(), |next| next.span.start as usize);
    let between = if dice.below(4) == 0 { "" } else { dice.of(SPACES) };
    replaced(text, token.span.end as usize, next, between)
}

/// The beginning of one text and the end of another.
fn spliced(text: &str, end: usize, corpus: &[String], dice: &mut Dice) -> String {
    let other = &corpus[dice.below(corpus.len())];
    let theirs = lexed(other);
    if theirs.is_empty() {
        return text.to_owned();
    }
    let from = theirs[dice.below(theirs.len())].span.start as usize;
    format!("{} {}", &text[..end], &other[from..])
}

/// Another token of the same kind, from anywhere.
fn like_for_like(text: &str, token: &Token, corpus: &[String], dice: &mut Dice) -> String {
    let other = if dice.below(3) == 0 { text } else { &corpus[dice.below(corpus.len())] };
    let same = |found: &Token| std::mem::discriminant(&found.kind) == std::mem::discriminant(&token.kind);
    let theirs: Vec<Token> = lexed(other).into_iter().filter(same).collect();
    match theirs.get(dice.below(theirs.len())) {
        Some(found) => replaced(text, token.span.start as usize, token.span.end as usize, found.text(other)),
        None => text.to_owned(),
    }
}

/// The same name or value, spelt otherwise.
fn by_quoting(text: &str, dice: &mut Dice) -> String {
    let own = lexed(text);
    let spelt = |token: &&Token| {
        matches!(token.kind, TokenKind::Ident | TokenKind::QuotedIdent | TokenKind::String | TokenKind::DollarString)
    };
    let candidates: Vec<&Token> = own.iter().filter(spelt).collect();
    let Some(token) = candidates.get(dice.below(candidates.len())) else { return by_bytes(text, dice) };
    let (start, end) = (token.span.start as usize, token.span.end as usize);
    let word = &text[start..end];
    let with = match token.kind {
        TokenKind::Ident => match dice.below(6) {
            0 => word.to_uppercase(),
            1 | 4 => word.to_ascii_lowercase(),
            2 => format!("\"{}\"", word.to_ascii_lowercase()),
            3 => unicode(&word.to_ascii_lowercase(), '"', dice),
            _ => word.chars().map(|c| if dice.below(2) == 0 { c.to_ascii_uppercase() } else { c }).collect(),
        },
        TokenKind::QuotedIdent => match dice.below(2) {
            0 => unicode(&word[1..word.len() - 1], '"', dice),
            _ => word[1..word.len() - 1].to_owned(),
        },
        _ => {
            let inside = pgveil::sql::string_value(text, token).unwrap_or_default().into_owned();
            let quoted = inside.replace('\'', "''");
            match dice.below(7) {
                0 => format!("E'{}'", quoted.replace('\\', "\\\\")),
                1 => unicode(&quoted.replace('\\', "\\\\"), '\'', dice),
                2 => format!("$${inside}$$"),
                3 => format!("$q${inside}$q$"),
                4 => format!("'{quoted}'"),
                5 => format!("'{quoted}'\n ''"),
                _ => format!("n'{quoted}'"),
            }
        }
    };
    replaced(text, start, end, &with)
}

/// `U&"…"` with one character escaped, in one of the ways.
fn unicode(inside: &str, quote: char, dice: &mut Dice) -> String {
    let at = dice.below(inside.chars().count());
    let mark = if dice.below(3) == 0 { '!' } else { '\\' };
    let mut out = format!("U&{quote}");
    for (index, c) in inside.chars().enumerate() {
        match () {
            () if index == at && c.is_ascii_alphanumeric() && dice.below(2) == 0 => {
                out.push_str(&format!("{mark}{:04x}", u32::from(c)))
            }
            () if index == at && c.is_ascii_alphanumeric() => out.push_str(&format!("{mark}+{:06X}", u32::from(c))),
            () => out.push(c),
        }
    }
    out.push(quote);
    if mark == '!' {
        out.push_str(dice.of(&[" UESCAPE '!'", "uescape'!'", " /* c */ uescape -- c\n '!'", " UESCAPE E'!'", ""]));
    }
    out
}

/// Byte by byte; characters stay whole, as the wire lets nothing else through.
fn by_bytes(text: &str, dice: &mut Dice) -> String {
    let bounds: Vec<usize> = text.char_indices().map(|(at, _)| at).chain([text.len()]).collect();
    let at = dice.below(bounds.len());
    let (start, end) = (bounds[at], bounds[(at + 1).min(bounds.len() - 1)]);
    match dice.below(6) {
        0 => replaced(text, start, end, ""),
        1 => replaced(text, end, end, &text[start..end]),
        2 => {
            let after = bounds[(at + 2).min(bounds.len() - 1)];
            let swapped = format!("{}{}", &text[end..after], &text[start..end]);
            replaced(text, start, after, &swapped)
        }
        3 => text[..start].to_owned(),
        4 => replaced(text, start, start, dice.of(PIECES)),
        _ => {
            let byte = char::from(33 + u8::try_from(dice.below(94)).unwrap_or(0));
            replaced(text, start, end, &byte.to_string())
        }
    }
}
