//! Tokens: the guard lexer's spans and kinds against PostgreSQL's scanner.
//!
//! The guard's tokens are coarser in three places, each a rule of PostgreSQL's own between scanner and grammar:
//! - `U&'…' UESCAPE 'c'` is one token (the filter of `parser.c` makes one of three);
//! - `N'…'` is one (the scanner says NCHAR and puts the quote back, so nothing can stand between);
//! - keywords are identifiers: the grammar decides.
//!
//! libpg_query's scanner is not PostgreSQL's everywhere, because it also returns comments, and allows `$1and`:
//! see [`is_theirs_alone`].

use pg_query::protobuf::{ScanResult, ScanToken, Token as Theirs};
use pgveil::sql::lexer::{LexError, Token, tokens};

/// One of PostgreSQL's tokens: start, end, the guard's name for its kind.
pub type Seen = (usize, usize, &'static str);

fn kind_of(token: &ScanToken, text: &str) -> &'static str {
    let Ok(kind) = Theirs::try_from(token.token) else { return "Punct" };
    match kind {
        Theirs::Uident => "UnicodeIdent",
        Theirs::Ident if text.starts_with('"') => "QuotedIdent",
        Theirs::Ident => "Ident",
        Theirs::Sconst if text.starts_with('$') => "DollarString",
        Theirs::Sconst | Theirs::Usconst => "String",
        Theirs::Bconst | Theirs::Xconst => "BitString",
        Theirs::Iconst | Theirs::Fconst => "Number",
        Theirs::Param => "Param",
        Theirs::Op
        | Theirs::Typecast
        | Theirs::DotDot
        | Theirs::ColonEquals
        | Theirs::EqualsGreater
        | Theirs::LessEquals
        | Theirs::GreaterEquals
        | Theirs::NotEquals => "Operator",
        _ if token.keyword_kind != 0 => "Ident",
        _ if text.len() == 1 && "+-*/%^<>=".contains(text) => "Operator",
        _ => "Punct",
    }
}

/// PostgreSQL's tokens without comments, those that the guard takes together joined.
pub fn theirs(sql: &str, scanned: &ScanResult) -> Vec<Seen> {
    let all: Vec<&ScanToken> = scanned.tokens.iter().filter(|token| !is_comment(token)).collect();
    let is = |at: usize, kind: Theirs| all.get(at).is_some_and(|token| token.token == kind as i32);
    let mut seen = Vec::with_capacity(all.len());
    let mut at = 0;
    while let Some(token) = all.get(at) {
        let (start, mut end) = (token.start as usize, token.end as usize);
        let text = &sql[start..end];
        let mut kind = kind_of(token, text);
        at += 1;
        if (is(at - 1, Theirs::Uident) || is(at - 1, Theirs::Usconst))
            && is(at, Theirs::Uescape)
            && is(at + 1, Theirs::Sconst)
        {
            end = all[at + 1].end as usize;
            at += 2;
        } else if is(at - 1, Theirs::Nchar) && text.len() == 1 && is(at, Theirs::Sconst) && all[at].start == token.end {
            (end, kind) = (all[at].end as usize, "String");
            at += 1;
        }
        seen.push((start, end, kind));
    }
    seen
}

/// The guard's tokens up to its error, and the error.
pub fn ours(sql: &str) -> (Vec<Token>, Option<LexError>) {
    let (mut found, mut error) = (Vec::new(), None);
    for token in tokens(sql) {
        match token {
            Ok(token) => found.push(token),
            Err(why) => error = Some(why),
        }
    }
    (found, error)
}

/// A text that libpg_query reads otherwise than PostgreSQL's own `scan.l`:
/// - a constant goes on in a line behind a comment (`'a' -- c` newline `'b'`: rule `quotecontinue`); libpg_query, which
///   made tokens of comments, ends it before;
/// - a parameter runs into a word (`$1a`: rule `param_junk`); libpg_query cuts it in two.
pub fn is_theirs_alone(sql: &str, own: &[Token], error: Option<LexError>) -> bool {
    let scanned = pg_query::scan(sql).map(|scanned| scanned.tokens).unwrap_or_default();
    let quoted = |token: &ScanToken| sql[..token.end as usize].ends_with('\'');
    let goes_on = |token: &ScanToken| sql[token.start as usize..].starts_with('\'');
    let mut commented = scanned.chunk_by(|left, right| is_comment(left) == is_comment(right)).collect::<Vec<_>>();
    commented.retain(|chunk| !chunk.is_empty());
    let commented = commented.windows(3).any(|three| {
        let line = three[1].iter().any(|token| token.token == Theirs::SqlComment as i32);
        line && three[0].last().is_some_and(quoted) && three[2].first().is_some_and(goes_on)
    });
    let end = own.last().map_or(0, |token| token.span.end as usize);
    let parameter = || {
        let mut first = pg_query::scan(&sql[end..]).map(|scanned| scanned.tokens).unwrap_or_default();
        first.retain(|token| !is_comment(token));
        let [first, second, ..] = first.as_slice() else { return false };
        first.token == Theirs::Param as i32 && first.end == second.start
    };
    (error == Some(LexError::TrailingJunk) && parameter()) || commented
}

fn is_comment(token: &ScanToken) -> bool {
    [Theirs::SqlComment as i32, Theirs::CComment as i32].contains(&token.token)
}

/// What differs. Where the guard has an error, PostgreSQL must refuse the text too: who asks for the tokens of such a text
/// forwards it as it is.
pub fn differs(
    sql: &str,
    own: &[Token],
    error: Option<LexError>,
    scanned: Result<&ScanResult, &str>,
) -> Option<String> {
    let scanned = match scanned {
        Ok(scanned) => theirs(sql, scanned),
        Err(_) => return None,
    };
    for (index, token) in own.iter().enumerate() {
        let kind = format!("{:?}", token.kind);
        let here = (token.span.start as usize, token.span.end as usize, kind.split('(').next().unwrap_or(""));
        match scanned.get(index) {
            Some(there) if *there == here => {}
            there => return Some(format!("token {index} is {here:?} here, {there:?} there")),
        }
    }
    match error {
        None if own.len() < scanned.len() => Some(format!("{} tokens here, {} there", own.len(), scanned.len())),
        _ => None,
    }
}
