//! The guard lexer: PostgreSQL's own tokens, with byte spans.
//!
//! In: the client's text. Out: tokens without whitespace and comments. Never: a copy of the text, a panic, a guess.
//!
//! Follows `src/backend/parser/scan.l` of PostgreSQL 15 with `standard_conforming_strings = on` (which the session
//! pins), and the `UESCAPE` step of `parser.c`. What PostgreSQL 16 added (digit separators, `0x`/`0o`/`0b`, vertical
//! tab as space) is read the 16 way: 15 answers each of them with a syntax error of its own, so no text means two
//! things.
//!
//! Invariants: spans ascend and do not overlap; every byte outside them is whitespace or comment; every span starts
//! and ends on a character boundary.

use memchr::{memchr, memchr2, memmem};

use super::Span;

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TokenKind {
    /// Unquoted identifier or keyword.
    Ident,
    /// `"…"`.
    QuotedIdent,
    /// `U&"…"`, together with its `UESCAPE '…'` when one follows.
    UnicodeIdent,
    /// `'…'`, `E'…'`, `N'…'`, `U&'…'` (with its `UESCAPE '…'`), together with its continuation lines.
    String,
    /// `$tag$…$tag$`.
    DollarString,
    /// `B'…'` or `X'…'`, together with its continuation lines.
    BitString,
    /// Integer, decimal or float, never signed.
    Number,
    /// `$1` and so on; `$0` is lexed as PostgreSQL does and fails there.
    Param(u16),
    /// Operator, also `::` `:=` `..` `=>` and the one-character ones such as `*`.
    Operator,
    /// `(` `)` `[` `]` `,` `;` `.` `:`, or a byte that no PostgreSQL grammar rule accepts (`{`, `\`, a bare `$`, …).
    Punct(u8),
}

/// A token and where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "kind and place")]
pub struct Token {
    pub kind: TokenKind,
    pub span: Span,
}

impl Token {
    /// The token's text. Empty if the token is of another text.
    pub fn text<'a>(&self, sql: &'a str) -> &'a str {
        sql.get(self.span.start as usize..self.span.end as usize).unwrap_or("")
    }

    /// Whether it is this punctuation byte.
    pub fn is_punct(&self, byte: u8) -> bool {
        self.kind == TokenKind::Punct(byte)
    }

    /// Whether it is this operator.
    pub fn is_operator(&self, sql: &str, operator: &str) -> bool {
        self.kind == TokenKind::Operator && self.text(sql) == operator
    }

    /// Whether it is this keyword (unquoted, any case). `word` is lower case ASCII.
    pub fn is_word(&self, sql: &str, word: &str) -> bool {
        self.kind == TokenKind::Ident && self.text(sql).eq_ignore_ascii_case(word)
    }
}

/// Why a text has no tokens. PostgreSQL refuses the same text, except for the limits. Never holds the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LexError {
    /// `'…`, `E'…`, `U&'…`.
    #[error("unterminated quoted string")]
    UnterminatedString,
    /// `B'…`, `X'…`.
    #[error("unterminated bit string literal")]
    UnterminatedBitString,
    /// `$tag$…`.
    #[error("unterminated dollar-quoted string")]
    UnterminatedDollarString,
    /// `"…`.
    #[error("unterminated quoted identifier")]
    UnterminatedIdent,
    /// `/*…`.
    #[error("unterminated comment")]
    UnterminatedComment,
    /// `""`.
    #[error("zero-length delimited identifier")]
    EmptyIdent,
    /// `1a`, `1e+`, `$1a`.
    #[error("trailing junk after a number or parameter")]
    TrailingJunk,
    /// `$65536` and above.
    #[error("parameter number too large")]
    ParameterNumber,
    /// 64 bytes or more.
    #[error("operator too long")]
    OperatorTooLong,
    /// `UESCAPE` without a usable escape character.
    #[error("invalid UESCAPE")]
    Uescape,
    /// An escape sequence that is not one, or names no character.
    #[error("invalid escape in a string or identifier")]
    Escape,
    /// The wire ends strings at a zero byte, so none can be inside.
    #[error("zero byte")]
    ZeroByte,
    /// The caller's limit.
    #[error("too many tokens")]
    TooManyTokens,
    /// More than 4 GiB.
    #[error("text too long")]
    TooLong,
}

/// NAMEDATALEN of every PostgreSQL that is built without changing it; names keep one byte less.
pub(super) const NAME_BYTES_MAX: usize = 63;

/// The tokens of `sql`, at most `limit`.
pub fn lex(sql: &str, limit: usize) -> Result<Vec<Token>, LexError> {
    let mut found = Vec::with_capacity((sql.len() / 5).clamp(8, 256).min(limit));
    for token in tokens(sql) {
        let token = token?;
        if found.len() >= limit {
            return Err(LexError::TooManyTokens);
        }
        found.push(token);
    }
    Ok(found)
}

/// The tokens of `sql` one by one. After an error there are no more.
pub fn tokens(sql: &str) -> Tokens<'_> {
    Tokens { lexer: Lexer { text: sql.as_bytes(), at: 0 }, ended: false }
}

/// See [`tokens`].
pub struct Tokens<'a> {
    lexer: Lexer<'a>,
    ended: bool,
}

impl Iterator for Tokens<'_> {
    type Item = Result<Token, LexError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let next = match u32::try_from(self.lexer.text.len()) {
            Ok(_) => self.lexer.next().transpose(),
            Err(_) => Some(Err(LexError::TooLong)),
        };
        self.ended = !matches!(next, Some(Ok(_)));
        next
    }
}

pub(super) fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c)
}

fn is_newline(byte: u8) -> bool {
    matches!(byte, b'\n' | b'\r')
}

fn is_ident_start(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_' || byte >= 0x80
}

fn is_ident_part(byte: u8) -> bool {
    is_ident_start(byte) || byte.is_ascii_digit() || byte == b'$'
}

fn is_operator_byte(byte: u8) -> bool {
    matches!(
        byte,
        b'~' | b'!'
            | b'@'
            | b'#'
            | b'^'
            | b'&'
            | b'|'
            | b'`'
            | b'?'
            | b'+'
            | b'-'
            | b'*'
            | b'/'
            | b'%'
            | b'<'
            | b'>'
            | b'='
    )
}

/// `quotecontinue`: from after a closing quote, over whitespace that holds a newline (`--` comments included), to after
/// the opening quote of the string's next line.
pub(super) fn continuation(text: &[u8], mut at: usize) -> Option<usize> {
    let mut newline = false;
    loop {
        match *text.get(at)? {
            b'\'' if newline => return Some(at + 1),
            b'-' if text.get(at + 1) == Some(&b'-') => at += memchr2(b'\n', b'\r', &text[at..])?,
            byte if is_space(byte) => {
                newline |= is_newline(byte);
                at += 1;
            }
            _ => return None,
        }
    }
}

struct Lexer<'a> {
    text: &'a [u8],
    at: usize,
}

impl Lexer<'_> {
    fn peek(&self, ahead: usize) -> Option<u8> {
        self.text.get(self.at + ahead).copied()
    }

    fn rest(&self) -> &[u8] {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn next(&mut self) -> Result<Option<Token>, LexError> {
        self.skip_space()?;
        let start = self.at;
        let Some(byte) = self.peek(0) else { return Ok(None) };
        let kind = match byte {
            b'b' | b'B' | b'x' | b'X' if self.peek(1) == Some(b'\'') => {
                self.at += 1;
                self.bit_string()?
            }
            b'e' | b'E' if self.peek(1) == Some(b'\'') => {
                self.at += 1;
                self.string(true)?
            }
            // The grammar reads N'…' as NCHAR '…', which nothing can come between.
            b'n' | b'N' if self.peek(1) == Some(b'\'') => {
                self.at += 1;
                self.string(false)?
            }
            b'u' | b'U' if self.rest()[1..].starts_with(b"&'") => {
                self.at += 2;
                self.string(false)?;
                self.uescape()?;
                TokenKind::String
            }
            b'u' | b'U' if self.rest()[1..].starts_with(b"&\"") => {
                self.at += 2;
                self.quoted_ident()?;
                self.uescape()?;
                super::name::check_unicode(&self.text[start..self.at])?;
                TokenKind::UnicodeIdent
            }
            _ if is_ident_start(byte) => self.word(),
            b'\'' => self.string(false)?,
            b'"' => self.quoted_ident()?,
            b'$' => self.dollar()?,
            b'0'..=b'9' => self.number()?,
            b'.' if self.peek(1).is_some_and(|next| next.is_ascii_digit()) => self.number()?,
            b'.' if self.peek(1) == Some(b'.') => self.take(2, TokenKind::Operator),
            b':' if matches!(self.peek(1), Some(b':' | b'=')) => self.take(2, TokenKind::Operator),
            _ if is_operator_byte(byte) => self.operator()?,
            0 => return Err(LexError::ZeroByte),
            _ => self.take(1, TokenKind::Punct(byte)),
        };
        Ok(Some(Token { kind, span: Span { start: start as u32, end: self.at as u32 } }))
    }

    fn take(&mut self, bytes: usize, kind: TokenKind) -> TokenKind {
        self.at += bytes;
        kind
    }

    fn skip_space(&mut self) -> Result<(), LexError> {
        while let Some(byte) = self.peek(0) {
            if is_space(byte) {
                self.at += 1;
            } else if self.rest().starts_with(b"--") {
                self.skip_line_comment();
            } else if self.rest().starts_with(b"/*") {
                self.skip_block_comment()?;
            } else {
                break;
            }
        }
        Ok(())
    }

    fn skip_line_comment(&mut self) {
        self.at += memchr2(b'\n', b'\r', self.rest()).unwrap_or(self.text.len() - self.at);
    }

    /// Block comments nest.
    fn skip_block_comment(&mut self) -> Result<(), LexError> {
        let mut depth = 0usize;
        while let Some(offset) = memchr2(b'/', b'*', self.rest()) {
            self.at += offset;
            if self.rest().starts_with(b"/*") {
                self.at += 2;
                depth += 1;
            } else if self.rest().starts_with(b"*/") {
                self.at += 2;
                depth -= 1;
                if depth == 0 {
                    return Ok(());
                }
            } else {
                self.at += 1;
            }
        }
        Err(LexError::UnterminatedComment)
    }

    fn word(&mut self) -> TokenKind {
        self.at += self.rest().iter().take_while(|&&byte| is_ident_part(byte)).count();
        TokenKind::Ident
    }

    /// From the opening quote. With `escapes`, a backslash takes the next byte with it.
    fn string(&mut self, escapes: bool) -> Result<TokenKind, LexError> {
        self.at += 1;
        loop {
            let stop = if escapes { memchr2(b'\'', b'\\', self.rest()) } else { memchr(b'\'', self.rest()) };
            self.at += stop.ok_or(LexError::UnterminatedString)?;
            if self.peek(0) == Some(b'\\') || self.peek(1) == Some(b'\'') {
                self.at = (self.at + 2).min(self.text.len());
                continue;
            }
            self.at += 1;
            match continuation(self.text, self.at) {
                Some(inside) => self.at = inside,
                None => return Ok(TokenKind::String),
            }
        }
    }

    /// From the opening quote. `''` inside does not stand for a quote: it ends one string and starts the next.
    fn bit_string(&mut self) -> Result<TokenKind, LexError> {
        self.at += 1;
        loop {
            self.at += memchr(b'\'', self.rest()).ok_or(LexError::UnterminatedBitString)? + 1;
            match continuation(self.text, self.at) {
                Some(inside) => self.at = inside,
                None => return Ok(TokenKind::BitString),
            }
        }
    }

    /// From the opening quote.
    fn quoted_ident(&mut self) -> Result<TokenKind, LexError> {
        let open = self.at;
        self.at += 1;
        loop {
            self.at += memchr(b'"', self.rest()).ok_or(LexError::UnterminatedIdent)? + 1;
            if self.peek(0) != Some(b'"') {
                break;
            }
            self.at += 1;
        }
        if self.at == open + 2 { Err(LexError::EmptyIdent) } else { Ok(TokenKind::QuotedIdent) }
    }

    /// After a `U&` token: takes `UESCAPE '…'` into it, as PostgreSQL's filter between lexer and grammar does.
    fn uescape(&mut self) -> Result<(), LexError> {
        let end = self.at;
        self.skip_space()?;
        let word = self.at;
        if self.peek(0).is_some_and(is_ident_start) {
            self.word();
        }
        if !self.text[word..self.at].eq_ignore_ascii_case(b"uescape") {
            self.at = end;
            return Ok(());
        }
        self.skip_space()?;
        match (self.peek(0), self.peek(1)) {
            (Some(b'\''), _) => self.string(false)?,
            (Some(b'e' | b'E'), Some(b'\'')) => {
                self.at += 1;
                self.string(true)?
            }
            (Some(b'$'), _) => self.dollar()?,
            _ => return Err(LexError::Uescape),
        };
        Ok(())
    }

    fn dollar(&mut self) -> Result<TokenKind, LexError> {
        let digits = self.rest()[1..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        if digits > 0 {
            return self.param(digits);
        }
        let mut tag = 0;
        while let Some(&byte) = self.text.get(self.at + 1 + tag) {
            let part = if tag == 0 { is_ident_start(byte) } else { is_ident_part(byte) && byte != b'$' };
            if !part {
                break;
            }
            tag += 1;
        }
        if self.peek(1 + tag) != Some(b'$') {
            return Ok(self.take(1, TokenKind::Punct(b'$')));
        }
        let body = self.at + tag + 2;
        let delimiter = &self.text[self.at..body];
        let length = memmem::find(&self.text[body..], delimiter).ok_or(LexError::UnterminatedDollarString)?;
        self.at = body + length + delimiter.len();
        Ok(TokenKind::DollarString)
    }

    fn param(&mut self, digits: usize) -> Result<TokenKind, LexError> {
        let mut number = 0u32;
        for &byte in &self.rest()[1..=digits] {
            number = number * 10 + u32::from(byte - b'0');
            if number > u32::from(u16::MAX) {
                return Err(LexError::ParameterNumber);
            }
        }
        self.at += 1 + digits;
        if self.peek(0).is_some_and(is_ident_start) {
            return Err(LexError::TrailingJunk);
        }
        Ok(TokenKind::Param(number as u16))
    }

    fn number(&mut self) -> Result<TokenKind, LexError> {
        let radix: Option<fn(&u8) -> bool> = match (self.peek(0), self.peek(1)) {
            (Some(b'0'), Some(b'x' | b'X')) => Some(u8::is_ascii_hexdigit),
            (Some(b'0'), Some(b'o' | b'O')) => Some(|byte| matches!(byte, b'0'..=b'7')),
            (Some(b'0'), Some(b'b' | b'B')) => Some(|byte| matches!(byte, b'0' | b'1')),
            _ => None,
        };
        if let Some(digit) = radix {
            self.at += 2;
            if self.peek(0) == Some(b'_') {
                self.at += 1;
            }
            let before = self.at;
            self.digits(digit);
            let ends = !self.peek(0).is_some_and(is_ident_part);
            return if self.at > before && ends { Ok(TokenKind::Number) } else { Err(LexError::TrailingJunk) };
        }
        self.digits(u8::is_ascii_digit);
        // `1..2` is 1, `..`, 2.
        if self.peek(0) == Some(b'.') && self.peek(1) != Some(b'.') {
            self.at += 1;
            self.digits(u8::is_ascii_digit);
        }
        if matches!(self.peek(0), Some(b'e' | b'E')) {
            let sign = usize::from(matches!(self.peek(1), Some(b'+' | b'-')));
            if !self.peek(1 + sign).is_some_and(|next| next.is_ascii_digit()) {
                return Err(LexError::TrailingJunk);
            }
            self.at += 1 + sign;
            self.digits(u8::is_ascii_digit);
            // `1e5$` is junk, `1$` and `1e+5$` are not: as `1` and an identifier it would be longer.
            if sign == 0 && self.peek(0) == Some(b'$') {
                return Err(LexError::TrailingJunk);
            }
        }
        if self.peek(0).is_some_and(is_ident_start) { Err(LexError::TrailingJunk) } else { Ok(TokenKind::Number) }
    }

    /// Digits, each but the first of which may follow one `_`.
    fn digits(&mut self, digit: fn(&u8) -> bool) {
        while self.peek(0).is_some_and(|byte| digit(&byte)) {
            self.at += 1;
            if self.peek(0) == Some(b'_') && self.peek(1).is_some_and(|byte| digit(&byte)) {
                self.at += 1;
            }
        }
    }

    /// The longest run of operator bytes, cut at a comment start; then, unless a byte foreign to standard SQL is in
    /// it, without its trailing `+` and `-`.
    fn operator(&mut self) -> Result<TokenKind, LexError> {
        let run = self.rest().iter().take_while(|&&byte| is_operator_byte(byte)).count();
        let text = &self.text[self.at..self.at + run];
        let comment = text.windows(2).position(|pair| matches!(pair, b"/*" | b"--"));
        let text = &text[..comment.unwrap_or(run)];
        let foreign = |byte: &u8| matches!(byte, b'~' | b'!' | b'@' | b'#' | b'^' | b'&' | b'|' | b'`' | b'?' | b'%');
        let mut length = text.len();
        let head = &text[..length.saturating_sub(1)];
        if !head.iter().any(foreign) {
            while length > 1 && matches!(text[length - 1], b'+' | b'-') {
                length -= 1;
            }
        }
        if length > NAME_BYTES_MAX {
            return Err(LexError::OperatorTooLong);
        }
        Ok(self.take(length, TokenKind::Operator))
    }
}

#[cfg(test)]
mod tests;
