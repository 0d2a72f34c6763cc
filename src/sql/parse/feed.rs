//! What sqlparser's parser is fed: one of its tokens for each of the guard's.
//!
//! In: a guard token. Out: sqlparser's token for what PostgreSQL's grammar would see. Never: whitespace or comments.

use sqlparser::keywords::{ALL_KEYWORDS, ALL_KEYWORDS_INDEX, Keyword};
use sqlparser::tokenizer::{Location, Span as TreeSpan, Token as TreeToken, TokenWithSpan, Word};

use super::ParseRefusal;
use super::foreign::FOREIGN;
use crate::sql::lexer::{Token, TokenKind};
use crate::sql::literal::{StringForm, string_form, string_value};
use crate::sql::name::ident;

/// sqlparser's token for a guard token.
pub(super) fn tree_token(sql: &str, token: &Token) -> Result<TokenWithSpan, ParseRefusal> {
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
    let at = |byte: u32| Location { line: 1, column: u64::from(byte) + 1 };
    Ok(TokenWithSpan { token: tree, span: TreeSpan { start: at(token.span.start), end: at(token.span.end) } })
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
