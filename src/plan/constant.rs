//! Literals, parameters and the casts around them.

use sqlparser::ast::{CastKind, Expr, Ident, Interval, TypedString, Value as Literal, ValueWithSpan};

use super::reader::{Reader, Sc};
use super::refuse;
use super::typing::Type;
use super::value::{Leaf, LeafKind, Value, Written};
use crate::error::Refusal;
use crate::sql::Span;
use crate::sql::lexer::TokenKind;
use crate::sql::resolve::{TypeText, type_at};
use crate::wire::types::Kind;

/// The most tokens a type name before a literal has (`timestamp (3) without time zone '…'`).
const TYPE_TOKENS_MAX: usize = 12;

impl Reader<'_> {
    /// A literal, parameter or NULL.
    pub(super) fn constant(&mut self, value: &ValueWithSpan) -> Result<Value, Refusal> {
        // The TRUE that stands for CURRENT OF is not of the client's text.
        let added = crate::sql::parse::token_at(self.tokens, value.span.start).is_none();
        if added && matches!(value.value, Literal::Boolean(true)) {
            return Ok(Value::Plain);
        }
        let at = self.token_at(value.span.start)?;
        let token = self.tokens[at];
        self.met.insert(at);
        let (kind, ty) = match (&value.value, token.kind) {
            (Literal::Placeholder(_), TokenKind::Param(number)) => {
                let index = number.checked_sub(1).ok_or_else(|| refuse::unreadable("parameter $0"))?;
                let declared = self.request.parameter_oids.get(usize::from(index)).copied();
                (LeafKind::Parameter(index), Type::declared(declared.unwrap_or(0)))
            }
            (Literal::Placeholder(_), _) => return Err(refuse::unreadable("a parameter's number")),
            (Literal::Null, _) => (LeafKind::Null, Type::Unknown),
            (Literal::Boolean(_), TokenKind::Ident) => {
                (LeafKind::Literal { negative: false }, Type::Known(Kind::Bool.oid()))
            }
            (Literal::Number(..), TokenKind::Number) => {
                let kind = number_kind(token.text(self.request.sql));
                (LeafKind::Literal { negative: false }, Type::Known(kind.oid()))
            }
            (Literal::SingleQuotedString(_), TokenKind::String | TokenKind::DollarString) => {
                (LeafKind::Literal { negative: false }, Type::Unknown)
            }
            _ => return Ok(Value::Plain),
        };
        Ok(self.pending(Leaf { kind, literal: token.span, cover: token.span, ty, casts: Some(Vec::new()) }))
    }

    /// DEFAULT: stays as it stands.
    pub(super) fn default_word(&mut self, ident: &Ident) -> Result<Value, Refusal> {
        let span = self.tokens[self.token_at(ident.span.start)?].span;
        let (kind, ty) = (LeafKind::Null, Type::Unknown);
        Ok(self.pending(Leaf { kind, literal: span, cover: span, ty, casts: Some(Vec::new()) }))
    }

    /// `- literal`.
    pub(super) fn negative(&mut self, value: Value) -> Result<Value, Refusal> {
        if let Value::Pending { group, depth: 0, .. } = value {
            let (sql, tokens) = (self.request.sql, self.tokens);
            if let Some(leaf) = self.groups.lone(group)
                && leaf.kind == (LeafKind::Literal { negative: false })
            {
                let at = tokens.partition_point(|token| token.span.start < leaf.literal.start);
                let number = tokens.get(at).is_some_and(|token| token.kind == TokenKind::Number);
                if let Some(minus) = at.checked_sub(1).and_then(|before| tokens.get(before))
                    && number
                    && minus.is_operator(sql, "-")
                {
                    leaf.kind = LeafKind::Literal { negative: true };
                    leaf.cover.start = minus.span.start;
                    return Ok(value);
                }
            }
        }
        self.plain(&value, "unary minus")?;
        Ok(Value::Plain)
    }

    /// `DATE '…'`.
    pub(super) fn typed(&mut self, typed: &TypedString) -> Result<Value, Refusal> {
        let value = self.constant(&typed.value)?;
        let at = self.token_at(typed.value.span.start)?;
        let found = (1..=TYPE_TOKENS_MAX.min(at))
            .filter_map(|back| type_at(self.request.sql, self.tokens, at - back))
            .rfind(|text| text.end == at);
        let Some(text) = found else {
            self.plain(&value, "a typed literal")?;
            return Ok(Value::Plain);
        };
        self.prefixed(value, text)
    }

    /// `INTERVAL '…'`. In `SELECT interval five` it is a column, with a label.
    pub(super) fn interval(&mut self, scope: &Sc<'_>, interval: &Interval) -> Result<Value, Refusal> {
        let literal = |expr: &Expr| matches!(expr, Expr::Value(value) if value.value.clone().into_string().is_some());
        if !literal(&interval.value) {
            return Err(refuse::unreadable("INTERVAL without a constant"));
        }
        let value = self.value(scope, &interval.value)?;
        let bare = interval.leading_field.is_none()
            && interval.last_field.is_none()
            && interval.leading_precision.is_none()
            && interval.fractional_seconds_precision.is_none();
        if let (Expr::Value(literal), true) = (&*interval.value, bare) {
            let at = self.token_at(literal.span.start)?;
            let text = at.checked_sub(1).and_then(|first| type_at(self.request.sql, self.tokens, first));
            if let Some(text) = text.filter(|text| text.end == at) {
                return self.prefixed(value, text);
            }
        }
        self.plain(&value, "INTERVAL")?;
        Ok(Value::Plain)
    }

    /// The type stands before the literal: both are replaced together.
    fn prefixed(&mut self, value: Value, text: TypeText) -> Result<Value, Refusal> {
        let start = self.tokens[text.first].span.start;
        if let Value::Pending { group, depth, .. } = value
            && let Some(leaf) = self.groups.lone(group)
        {
            leaf.cover = Span { start, end: leaf.cover.end };
            self.groups.cast(group, Written { text, depth, alone: true });
            return Ok(Value::Pending { group, depth, ty: Type::of_text(&text) });
        }
        self.plain(&value, "a typed literal")?;
        Ok(Value::Plain)
    }

    /// `e::type` and `CAST(e AS type)`. A chain of casts is as long as its text: it is followed, not descended into.
    pub(super) fn cast(&mut self, scope: &Sc<'_>, inner: &Expr, double_colon: bool) -> Result<Value, Refusal> {
        let (mut marks, mut base) = (vec![double_colon], inner);
        while let Expr::Cast { kind, expr, format: None, .. } = base {
            marks.push(*kind == CastKind::DoubleColon);
            base = expr;
        }
        let mut end = self.last_token(base);
        let innermost = marks.last().and_then(|double_colon| self.cast_type(end, *double_colon));
        let mut value = match (bare(base), innermost) {
            // PostgreSQL casts the elements of ARRAY[…]::type[] each by itself.
            (Expr::Array(array), Some(text)) if text.array => {
                self.array(scope, array, Type::of_text(&text).element())?
            }
            _ => self.value(scope, base)?,
        };
        let alone = constant(base);
        for double_colon in marks.into_iter().rev() {
            let text = self.cast_type(end, double_colon);
            value = self.cast_once(&value, text, alone)?;
            end = text.and_then(|text| self.cast_end(&text, double_colon));
        }
        Ok(value)
    }

    fn cast_once(&mut self, value: &Value, text: Option<TypeText>, alone: bool) -> Result<Value, Refusal> {
        let Value::Pending { group, depth, .. } = *value else {
            self.plain(value, "a cast")?;
            return Ok(Value::Plain);
        };
        match text {
            Some(text) => {
                self.groups.cast(group, Written { text, depth, alone });
                Ok(Value::Pending { group, depth, ty: Type::of_text(&text) })
            }
            None => {
                self.groups.plain(group)?;
                Ok(Value::Plain)
            }
        }
    }

    /// The type of a cast around the expression whose last token is `end`.
    fn cast_type(&self, end: Option<usize>, double_colon: bool) -> Option<TypeText> {
        let end = end?;
        let mark = self.tokens.get(end + 1)?;
        let sql = self.request.sql;
        let marked = if double_colon { mark.is_operator(sql, "::") } else { mark.is_word(sql, "as") };
        marked.then(|| type_at(sql, self.tokens, end + 2))?
    }

    /// The last token of a cast to that type.
    fn cast_end(&self, text: &TypeText, double_colon: bool) -> Option<usize> {
        if double_colon { Some(text.end - 1) } else { self.closed(text.end - 1, b')') }
    }

    /// The token after `last`, if it is that one.
    fn closed(&self, last: usize, byte: u8) -> Option<usize> {
        self.tokens.get(last + 1)?.is_punct(byte).then_some(last + 1)
    }

    /// Index of the last token of an expression, where it can be told with certainty.
    fn last_token(&self, expr: &Expr) -> Option<usize> {
        let sql = self.request.sql;
        let at = |location| crate::sql::parse::token_at(self.tokens, location);
        match expr {
            Expr::Value(value) => at(value.span.start),
            Expr::TypedString(typed) => at(typed.value.span.start),
            Expr::Identifier(ident) => at(ident.span.start),
            Expr::CompoundIdentifier(idents) => at(idents.last()?.span.start),
            Expr::UnaryOp { expr, .. } => self.last_token(expr),
            Expr::Nested(inner) => self.closed(self.last_token(inner)?, b')'),
            Expr::Cast { expr, kind, .. } => {
                let double_colon = *kind == CastKind::DoubleColon;
                self.cast_end(&self.cast_type(self.last_token(expr), double_colon)?, double_colon)
            }
            Expr::Array(array) => self.closed(self.last_token(array.elem.last()?)?, b']'),
            Expr::Case { end_token, .. } => at(end_token.0.span.start),
            Expr::Function(function) => {
                use sqlparser::ast::{FunctionArg, FunctionArgExpr, FunctionArguments};
                let FunctionArguments::List(list) = &function.args else { return None };
                let Some(FunctionArg::Unnamed(FunctionArgExpr::Expr(last))) = list.args.last() else { return None };
                let plain = list.clauses.is_empty() && function.over.is_none() && function.filter.is_none();
                let last = plain.then(|| self.last_token(last))??;
                self.closed(last, b')')
            }
            Expr::Interval(interval) => self.last_token(&interval.value),
            _ => None,
        }
        .filter(|last| *last < self.tokens.len() && !sql.is_empty())
    }
}

/// What stands in the parentheses.
fn bare(expr: &Expr) -> &Expr {
    match expr {
        Expr::Nested(inner) => bare(inner),
        other => other,
    }
}

/// One constant, with or without casts around it.
fn constant(expr: &Expr) -> bool {
    match bare(expr) {
        Expr::Value(_) | Expr::TypedString(_) => true,
        Expr::UnaryOp { expr, .. } | Expr::Cast { expr, .. } => constant(expr),
        _ => false,
    }
}

/// `make_const`: the type of a number in the text.
fn number_kind(digits: &str) -> Kind {
    match (digits.parse::<i32>(), digits.parse::<i64>()) {
        (Ok(_), _) => Kind::Int4,
        (_, Ok(_)) => Kind::Int8,
        _ => Kind::Numeric,
    }
}
