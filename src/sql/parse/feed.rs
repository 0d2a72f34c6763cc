//! What sqlparser's parser is fed: one of its tokens for each of the guard's.
//!
//! In: a guard token. Out: sqlparser's token for what PostgreSQL's grammar would see. Never: whitespace or comments.

use std::collections::VecDeque;
use std::ops::Range;

use sqlparser::keywords::{ALL_KEYWORDS, ALL_KEYWORDS_INDEX, Keyword};
use sqlparser::tokenizer::{Location, Span as TreeSpan, Token as TreeToken, TokenWithSpan, Word};

use super::foreign::FOREIGN;
use super::{ParseRefusal, assigned};
use crate::sql::kind::{Kind, kind};
use crate::sql::lexer::{Token, TokenKind};
use crate::sql::literal::{StringForm, string_form, string_value};
use crate::sql::name::{ident, is_ident};

/// sqlparser's tokens for one statement.
///
/// Spellings that PostgreSQL knows and sqlparser does not are put in words it does, where that changes neither what is
/// read or written nor any constant: see [`Feed::respell`].
pub(super) fn feed(sql: &str, tokens: &[Token]) -> Result<Vec<TokenWithSpan>, ParseRefusal> {
    let dml = matches!(
        kind(sql, tokens, 0..tokens.len()),
        Kind::Query | Kind::With | Kind::Insert | Kind::Update | Kind::Delete | Kind::Merge
    );
    let subscripts = if dml { assigned::subscripts(sql, tokens) } else { Vec::new() };
    let fed = Vec::with_capacity(tokens.len() + 4);
    let mut feed = Feed { sql, tokens, dml, fed, unwrapped: Vec::new(), subscripts: subscripts.into() };
    let mut index = 0;
    while index < tokens.len() {
        let taken = feed.respell(index);
        if taken > 0 {
            index += taken;
            continue;
        }
        if dml {
            feed.refuse_stray_string(index)?;
        }
        let fed = tree_token(sql, &tokens[index])?;
        feed.fed.push(fed);
        index += 1;
    }
    Ok(feed.fed)
}

/// Tokens of an ON CONFLICT clause before DO.
const INFERRED_MAX: usize = 1_000;

/// Tokens of casts before a COLLATE.
const CAST_TOKENS_MAX: usize = 16;

struct Feed<'a> {
    sql: &'a str,
    tokens: &'a [Token],
    /// A query or a change of data.
    dml: bool,
    fed: Vec<TokenWithSpan>,
    /// Closing parentheses of `ONLY (t)`, not fed.
    unwrapped: Vec<usize>,
    /// Of columns that are assigned to: not fed.
    subscripts: VecDeque<Range<usize>>,
}

impl Feed<'_> {
    fn is(&self, index: usize, words: &[&str]) -> bool {
        let Some(token) = self.tokens.get(index).filter(|token| token.kind == TokenKind::Ident) else { return false };
        let text = token.text(self.sql);
        words.iter().any(|word| text.eq_ignore_ascii_case(word))
    }

    fn before_is(&self, index: usize, words: &[&str]) -> bool {
        index.checked_sub(1).is_some_and(|before| self.is(before, words))
    }

    /// A keyword behind AS or a dot is a name.
    fn is_label(&self, index: usize) -> bool {
        self.before_is(index, &["as"]) || index.checked_sub(1).is_some_and(|before| self.tokens[before].is_punct(b'.'))
    }

    /// Whether a relation can stand here, so that ONLY before it means its children are left out.
    fn precedes_relation(&self, index: usize) -> bool {
        self.before_is(index, &["from", "join", "update", "into", "using", "table"])
            || index
                .checked_sub(1)
                .is_some_and(|before| matches!(self.tokens[before].kind, TokenKind::Punct(b',' | b'(')))
    }

    /// Takes tokens at `index` that are fed differently; returns how many.
    ///
    /// | PostgreSQL | fed |
    /// |---|---|
    /// | `TABLE t` | `SELECT * FROM t` |
    /// | `ONLY t`, `ONLY (t)` | `t` |
    /// | `x ISNULL` | `x IS NULL` |
    /// | `BETWEEN SYMMETRIC`, `f(VARIADIC x)` | without that word |
    /// | `FOR NO KEY UPDATE`, `FOR KEY SHARE` | `FOR UPDATE`, `FOR SHARE` |
    /// | `OVERRIDING SYSTEM VALUE` | nothing |
    /// | `WHERE CURRENT OF cursor` | `WHERE TRUE` |
    /// | `ON CONFLICT (lower(a) COLLATE c) WHERE b DO`, no constant in it | `ON CONFLICT (a, b) DO` |
    /// | `SET a[1] = x`, `INSERT INTO t (a[1:2])` | without the subscript |
    /// | `a::b::text COLLATE c` | `a COLLATE c::b::text` |
    /// | `RANGE '1 day'::interval PRECEDING` | with parentheses around the bound |
    /// | `INSERT DEFAULT VALUES` of MERGE | `INSERT VALUES (DEFAULT)` |
    /// | `… FOLLOWING EXCLUDE TIES` of a window | without EXCLUDE and what follows it |
    fn respell(&mut self, index: usize) -> usize {
        let token = &self.tokens[index];
        if token.is_punct(b')') && self.unwrapped.last() == Some(&index) {
            self.unwrapped.pop();
            return 1;
        }
        if token.is_punct(b'[') && self.subscripts.front().is_some_and(|next| next.start == index) {
            return self.subscripts.pop_front().map_or(0, |range| range.len());
        }
        if token.is_punct(b'(') {
            return self.conflict_target(index);
        }
        if token.kind == TokenKind::String {
            return self.frame_bound(index);
        }
        if self.is_cast(index) {
            return self.collated_cast(index);
        }
        if token.kind != TokenKind::Ident {
            return 0;
        }
        let words = |words: &[&str]| self.is(index, words);
        if words(&["only"]) && self.precedes_relation(index) {
            return 1 + self.unwrap(index + 1);
        }
        if words(&["symmetric", "asymmetric"]) && self.before_is(index, &["between"]) {
            return 1;
        }
        if words(&["variadic"]) && !self.is_label(index) {
            return 1;
        }
        if words(&["no"])
            && self.before_is(index, &["for"])
            && self.is(index + 1, &["key"])
            && self.is(index + 2, &["update"])
        {
            return 2;
        }
        if words(&["key"]) && self.before_is(index, &["for"]) && self.is(index + 1, &["share"]) {
            return 1;
        }
        if words(&["overriding"]) && self.is(index + 1, &["system", "user"]) && self.is(index + 2, &["value"]) {
            return 3;
        }
        if words(&["exclude"]) && self.before_is(index, &["preceding", "following", "row"]) {
            let two = self.is(index + 1, &["current"]) && self.is(index + 2, &["row"])
                || self.is(index + 1, &["no"]) && self.is(index + 2, &["others"]);
            match (self.is(index + 1, &["ties", "group"]), two) {
                (true, _) => return 2,
                (_, true) => return 3,
                _ => {}
            }
        }
        if words(&["isnull"]) && !self.is_label(index) && index > 0 {
            self.word(token, "is", Keyword::IS);
            self.word(token, "null", Keyword::NULL);
            return 1;
        }
        if words(&["current"]) && self.is(index + 1, &["of"]) && self.tokens.get(index + 2).is_some_and(is_ident) {
            self.word(token, "true", Keyword::TRUE);
            return 3;
        }
        if words(&["default"]) && self.is(index + 1, &["values"]) && self.before_is(index, &["insert"]) {
            self.word(token, "values", Keyword::VALUES);
            self.fed.push(placed(TreeToken::LParen, token));
            self.word(token, "default", Keyword::DEFAULT);
            self.fed.push(placed(TreeToken::RParen, token));
            return 2;
        }
        if words(&["table"]) && self.begins_query(index) {
            self.word(token, "select", Keyword::SELECT);
            self.fed.push(placed(TreeToken::Mul, token));
            self.word(token, "from", Keyword::FROM);
            return 1;
        }
        0
    }

    /// TABLE there is short for SELECT * FROM.
    fn begins_query(&self, index: usize) -> bool {
        if self.dml {
            let names = self.before_is(index, &["into", "temp", "temporary", "unlogged"]);
            return !self.is_label(index) && !names;
        }
        // CREATE … AS TABLE t, not COPY … FROM or what has a table for its object.
        self.before_is(index, &["as"]) && self.is(0, &["create"]) && !self.is(index + 1, &["from"])
    }

    /// What is inferred from between ON CONFLICT and DO, which begins at `index`, if it is more than a list of columns:
    /// its columns are fed.
    fn conflict_target(&mut self, index: usize) -> usize {
        if !self.before_is(index, &["conflict"]) || !self.before_is(index - 1, &["on"]) {
            return 0;
        }
        let does = |end: &usize| self.is(*end, &["do"]);
        let Some(end) = (index..self.tokens.len()).take(INFERRED_MAX).find(does) else { return 0 };
        let plain = self.tokens[index + 1..end].iter().enumerate().all(|(at, token)| match at % 2 {
            0 => is_ident(token),
            _ => token.is_punct(b',') || (token.is_punct(b')') && index + 2 + at == end),
        });
        if plain || !self.says_nothing(index..end) {
            return 0;
        }
        let columns: Vec<_> = (index + 1..end).filter(|at| self.may_be_column(*at)).collect();
        for (count, at) in columns.iter().enumerate() {
            let Some(column) = self.tree_tokens(*at..*at + 1) else { return 0 };
            let between = if count == 0 { TreeToken::LParen } else { TreeToken::Comma };
            self.fed.push(placed(between, &self.tokens[*at]));
            self.fed.extend(column);
        }
        if !columns.is_empty() {
            self.fed.push(placed(TreeToken::RParen, &self.tokens[end - 1]));
        }
        end - index
    }

    /// Inside an index expression: no function, type, collation, operator class or keyword.
    fn may_be_column(&self, at: usize) -> bool {
        let punct = |at: usize, byte| self.tokens.get(at).is_some_and(|token| token.is_punct(byte));
        let after_operand =
            punct(at - 1, b')') || (is_ident(&self.tokens[at - 1]) && !self.is(at - 1, BETWEEN_OPERANDS));
        is_ident(&self.tokens[at])
            && !self.is(at, BETWEEN_OPERANDS)
            && !punct(at + 1, b'(')
            && !punct(at + 1, b'.')
            && !after_operand
            && !self.before_is(at, &["collate"])
            && !self.is_cast(at - 1)
    }

    /// Neither a constant nor a query, which could say or read something.
    fn says_nothing(&self, mut range: Range<usize>) -> bool {
        use TokenKind::{BitString, DollarString, Number, Param, String};
        !range.any(|at| {
            let constant = matches!(self.tokens[at].kind, Param(_) | String | DollarString | BitString | Number);
            constant || self.is(at, &["select", "table", "values"])
        })
    }

    /// A cast string as the bound of a window frame, which begins at `index`.
    fn frame_bound(&mut self, index: usize) -> usize {
        let ends = self.is(index + 3, &["preceding", "following"]);
        if !ends || !self.is_cast(index + 1) || !is_ident(&self.tokens[index + 2]) {
            return 0;
        }
        let Some(fed) = self.tree_tokens(index..index + 3) else { return 0 };
        self.fed.push(placed(TreeToken::LParen, &self.tokens[index]));
        self.fed.extend(fed);
        self.fed.push(placed(TreeToken::RParen, &self.tokens[index + 2]));
        3
    }

    fn is_cast(&self, index: usize) -> bool {
        let cast = |token: &Token| token.kind == TokenKind::Operator && token.text(self.sql) == "::";
        self.tokens.get(index).is_some_and(cast)
    }

    /// Casts to types of one word, the first at `index`, with COLLATE behind them.
    fn collated_cast(&mut self, index: usize) -> usize {
        let named = |at: usize| self.tokens.get(at).is_some_and(is_ident);
        let mut end = index;
        while self.is_cast(end) && named(end + 1) && end - index < CAST_TOKENS_MAX {
            end += 2;
        }
        if !self.is(end, &["collate"]) || !named(end + 1) {
            return 0;
        }
        let mut after = end + 2;
        while self.tokens.get(after).is_some_and(|token| token.is_punct(b'.')) && named(after + 1) {
            after += 2;
        }
        let (Some(casts), Some(collation)) = (self.tree_tokens(index..end), self.tree_tokens(end..after)) else {
            return 0;
        };
        self.fed.extend(collation);
        self.fed.extend(casts);
        after - index
    }

    fn tree_tokens(&self, range: Range<usize>) -> Option<Vec<TokenWithSpan>> {
        self.tokens[range].iter().map(|token| tree_token(self.sql, token).ok()).collect()
    }

    fn word(&mut self, at: &Token, value: &str, keyword: Keyword) {
        self.fed.push(placed(TreeToken::Word(Word { value: value.to_owned(), quote_style: None, keyword }), at));
    }

    /// Behind ONLY: the parentheses around the relation are not fed. Returns 1 if there are some.
    fn unwrap(&mut self, open: usize) -> usize {
        if !self.tokens.get(open).is_some_and(|token| token.is_punct(b'(')) {
            return 0;
        }
        match self.tokens[open..].iter().position(|token| token.is_punct(b')')) {
            Some(length) => {
                self.unwrapped.push(open + length);
                1
            }
            None => 0,
        }
    }

    /// sqlparser reads `a 'x'` as an alias; to PostgreSQL it is a constant of type `a`.
    fn refuse_stray_string(&self, index: usize) -> Result<(), ParseRefusal> {
        let string =
            matches!(self.tokens[index].kind, TokenKind::String | TokenKind::DollarString | TokenKind::BitString);
        let Some(before) = index.checked_sub(1).filter(|_| string) else { return Ok(()) };
        let fine = match self.tokens[before].kind {
            TokenKind::Operator => true,
            TokenKind::Punct(b')') => self.closes_type(before),
            TokenKind::Punct(byte) => byte != b']' && byte != b'.',
            TokenKind::Ident => self.is(before, BEFORE_STRING) || (self.is(before, TYPES) && !self.is_label(before)),
            _ => false,
        };
        if fine { Ok(()) } else { Err(ParseRefusal::Grammar) }
    }

    /// `varchar(3) '…'`, `OPERATOR(s.=) '…'`.
    fn closes_type(&self, close: usize) -> bool {
        let open = self.tokens[..close].iter().rposition(|token| token.is_punct(b'('));
        open.is_some_and(|open| {
            self.before_is(open, &["operator"]) || (self.before_is(open, TYPES) && !self.is_label(open - 1))
        })
    }
}

/// Words between the operands of an expression without a query.
const BETWEEN_OPERANDS: &[&str] = &[
    "and",
    "or",
    "not",
    "is",
    "isnull",
    "notnull",
    "null",
    "true",
    "false",
    "unknown",
    "distinct",
    "from",
    "case",
    "when",
    "then",
    "else",
    "end",
    "in",
    "like",
    "ilike",
    "similar",
    "to",
    "between",
    "symmetric",
    "collate",
    "at",
    "time",
    "zone",
    "where",
    "cast",
    "as",
    "row",
    "array",
    "any",
    "all",
    "operator",
];

/// Keywords that a string constant can follow.
const BEFORE_STRING: &[&str] = &[
    "select",
    "all",
    "distinct",
    "where",
    "and",
    "or",
    "not",
    "on",
    "having",
    "when",
    "then",
    "else",
    "case",
    "between",
    "symmetric",
    "asymmetric",
    "like",
    "ilike",
    "escape",
    "in",
    "to",
    "from",
    "for",
    "by",
    "limit",
    "offset",
    "zone",
    "default",
    "returning",
    "using",
    "placing",
    "leading",
    "trailing",
    "both",
    "similar",
    "variadic",
];

/// Type names that sqlparser reads before a string constant.
const TYPES: &[&str] = &[
    "date",
    "time",
    "timestamp",
    "timestamptz",
    "timetz",
    "interval",
    "int",
    "integer",
    "int2",
    "int4",
    "int8",
    "smallint",
    "bigint",
    "float",
    "float4",
    "float8",
    "real",
    "numeric",
    "decimal",
    "dec",
    "bool",
    "boolean",
    "text",
    "varchar",
    "char",
    "character",
    "varying",
    "json",
    "jsonb",
    "uuid",
    "bytea",
    "bit",
    "varbit",
    "precision",
    "point",
    "line",
    "lseg",
    "box",
    "path",
    "polygon",
    "circle",
    "regclass",
    "tsvector",
    "tsquery",
    "xml",
];

fn placed(token: TreeToken, at: &Token) -> TokenWithSpan {
    let location = |byte: u32| Location { line: 1, column: u64::from(byte) + 1 };
    TokenWithSpan { token, span: TreeSpan { start: location(at.span.start), end: location(at.span.end) } }
}

/// sqlparser's token for a guard token.
fn tree_token(sql: &str, token: &Token) -> Result<TokenWithSpan, ParseRefusal> {
    let tree = match token.kind {
        TokenKind::Ident => {
            let value = ident(sql, token).into_owned();
            let keyword = keyword(token.text(sql));
            TreeToken::Word(Word { value, quote_style: None, keyword })
        }
        TokenKind::QuotedIdent | TokenKind::UnicodeIdent => {
            let value = ident(sql, token).into_owned();
            TreeToken::Word(Word { value, quote_style: Some('"'), keyword: Keyword::NoKeyword })
        }
        TokenKind::String | TokenKind::DollarString => {
            let value = string_value(sql, token).map_err(|_| ParseRefusal::Literal)?.into_owned();
            match string_form(sql, token) {
                Some(StringForm::National) => TreeToken::NationalStringLiteral(value),
                _ => TreeToken::SingleQuotedString(value),
            }
        }
        TokenKind::BitString => bit_string(token.text(sql))?,
        TokenKind::Number => TreeToken::Number(token.text(sql).to_owned(), false),
        TokenKind::Param(number) => TreeToken::Placeholder(format!("${number}")),
        TokenKind::Operator => operator(token.text(sql))?,
        TokenKind::Punct(byte) => punct(byte)?,
    };
    Ok(placed(tree, token))
}

/// `B'…'` and `X'…'`; one with continuation lines has no single value, and nobody writes it.
fn bit_string(text: &str) -> Result<TreeToken, ParseRefusal> {
    let digits = text[2..].strip_suffix('\'').ok_or(ParseRefusal::Literal)?;
    if !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(ParseRefusal::Literal);
    }
    let digits = digits.to_owned();
    Ok(if matches!(text.as_bytes().first(), Some(b'x' | b'X')) {
        TreeToken::HexStringLiteral(digits)
    } else {
        TreeToken::SingleQuotedByteStringLiteral(digits)
    })
}

/// sqlparser's keyword for an unquoted word, if PostgreSQL's grammar has that keyword too, or if it is a type or an
/// option that PostgreSQL knows by that name. ASCII only: case rules of other letters would make `ſelect` a SELECT.
fn keyword(word: &str) -> Keyword {
    if !word.is_ascii() {
        return Keyword::NoKeyword;
    }
    let upper = word.to_ascii_uppercase();
    match ALL_KEYWORDS.binary_search(&upper.as_str()) {
        Ok(index) if FOREIGN.binary_search(&ALL_KEYWORDS_INDEX[index]).is_err() => ALL_KEYWORDS_INDEX[index],
        _ => Keyword::NoKeyword,
    }
}

/// sqlparser's token for an operator.
fn operator(text: &str) -> Result<TreeToken, ParseRefusal> {
    Ok(match text {
        "::" => TreeToken::DoubleColon,
        ":=" => TreeToken::Assignment,
        "=>" => TreeToken::RArrow,
        ".." => return Err(ParseRefusal::Grammar),
        "=" => TreeToken::Eq,
        "<>" | "!=" => TreeToken::Neq,
        "<" => TreeToken::Lt,
        ">" => TreeToken::Gt,
        "<=" => TreeToken::LtEq,
        ">=" => TreeToken::GtEq,
        "+" => TreeToken::Plus,
        "-" => TreeToken::Minus,
        "*" => TreeToken::Mul,
        "/" => TreeToken::Div,
        "%" => TreeToken::Mod,
        "^" => TreeToken::Caret,
        "||" => TreeToken::StringConcat,
        "&" => TreeToken::Ampersand,
        "|" => TreeToken::Pipe,
        "#" => TreeToken::Sharp,
        "~" => TreeToken::Tilde,
        "<<" => TreeToken::ShiftLeft,
        ">>" => TreeToken::ShiftRight,
        "~*" => TreeToken::TildeAsterisk,
        "!~" => TreeToken::ExclamationMarkTilde,
        "!~*" => TreeToken::ExclamationMarkTildeAsterisk,
        "~~" => TreeToken::DoubleTilde,
        "~~*" => TreeToken::DoubleTildeAsterisk,
        "!~~" => TreeToken::ExclamationMarkDoubleTilde,
        "!~~*" => TreeToken::ExclamationMarkDoubleTildeAsterisk,
        "->" => TreeToken::Arrow,
        "->>" => TreeToken::LongArrow,
        "#>" => TreeToken::HashArrow,
        "#>>" => TreeToken::HashLongArrow,
        "#-" => TreeToken::HashMinus,
        "@>" => TreeToken::AtArrow,
        "<@" => TreeToken::ArrowAt,
        "@?" => TreeToken::AtQuestion,
        "@@" => TreeToken::AtAt,
        "?" => TreeToken::Question,
        "?|" => TreeToken::QuestionPipe,
        "?&" => TreeToken::QuestionAnd,
        "&&" => TreeToken::Overlap,
        "^@" => TreeToken::CaretAt,
        "@" => TreeToken::AtSign,
        "|/" => TreeToken::PGSquareRoot,
        "||/" => TreeToken::PGCubeRoot,
        // PostgreSQL 14 dropped `!` and `!!`; what they do now is up to whoever created them.
        _ => TreeToken::CustomBinaryOperator(text.to_owned()),
    })
}

/// sqlparser's token for punctuation.
fn punct(byte: u8) -> Result<TreeToken, ParseRefusal> {
    Ok(match byte {
        b'(' => TreeToken::LParen,
        b')' => TreeToken::RParen,
        b'[' => TreeToken::LBracket,
        b']' => TreeToken::RBracket,
        b',' => TreeToken::Comma,
        b';' => TreeToken::SemiColon,
        b'.' => TreeToken::Period,
        b':' => TreeToken::Colon,
        _ => return Err(ParseRefusal::Character),
    })
}
