//! Expressions: what each yields, and which uses of a sealed column are possible.
//!
//! Default-deny: whatever is not listed evaluates its parts as plain, which refuses a sealed one by name; a node this
//! file does not know is refused.

use sqlparser::ast::{AccessExpr, Array, BinaryOperator, CaseWhen, Expr, Ident, Query, Subscript, UnaryOperator};

use super::reader::{Reader, Sc, folded, without_modifier};
use super::refuse;
use super::typing::{Type, together};
use super::value::Value;
use crate::error::Refusal;
use crate::sql::resolve::{Lookup, names_nothing, parts};
use crate::wire::types::Kind;

/// Stack that one level of an unoptimised build may need.
const LEVEL_BYTES: usize = 128 * 1024;
const GROW_BYTES: usize = 2 * 1024 * 1024;

impl Reader<'_> {
    /// What an expression yields.
    pub(super) fn value(&mut self, scope: &Sc<'_>, expr: &Expr) -> Result<Value, Refusal> {
        stacker::maybe_grow(LEVEL_BYTES, GROW_BYTES, || self.value_here(scope, expr))
    }

    fn value_here(&mut self, scope: &Sc<'_>, expr: &Expr) -> Result<Value, Refusal> {
        match expr {
            Expr::Identifier(ident) => self.identifier(scope, ident),
            Expr::CompoundIdentifier(idents) => self.compound(scope, idents),
            Expr::Nested(inner) => self.value(scope, inner),
            Expr::Value(value) => self.constant(value),
            Expr::TypedString(typed) => self.typed(typed),
            Expr::Interval(interval) => self.interval(scope, interval),
            Expr::Cast { kind, expr, format: None, .. } => {
                self.cast(scope, expr, *kind == sqlparser::ast::CastKind::DoubleColon)
            }
            Expr::UnaryOp { op: UnaryOperator::Minus, expr } => {
                let value = self.value(scope, expr)?;
                self.negative(value)
            }
            Expr::UnaryOp { op, expr } => self.operands(scope, &[expr], &op.to_string()),
            Expr::BinaryOp { left, op, right } => self.binary(scope, left, op, right),
            Expr::IsNull(inner) | Expr::IsNotNull(inner) => self.null_test(scope, inner),
            Expr::IsDistinctFrom(left, right) | Expr::IsNotDistinctFrom(left, right) => {
                self.compare(scope, left, right, "IS DISTINCT FROM")
            }
            Expr::InList { expr, list, .. } => self.in_list(scope, expr, list),
            Expr::InSubquery { expr, subquery, .. } => {
                let left = self.value(scope, expr)?;
                let right = self.subquery(scope, subquery)?;
                self.compare_values(left, right, "IN")
            }
            Expr::AnyOp { left, compare_op, right, .. } => self.any(scope, left, compare_op, right, "ANY"),
            Expr::AllOp { left, compare_op, right } => self.any(scope, left, compare_op, right, "ALL"),
            Expr::Exists { subquery, .. } => self.query(Some(scope), subquery).map(|_| Value::Plain),
            Expr::Subquery(query) => self.subquery(scope, query),
            Expr::Tuple(values) => {
                values.iter().map(|value| self.value(scope, value)).collect::<Result<_, _>>().map(Value::Row)
            }
            Expr::Array(array) => self.array(scope, array, Type::Unknown),
            Expr::Case { operand, conditions, else_result, .. } => {
                self.case(scope, operand.as_deref(), conditions, else_result.as_deref())
            }
            Expr::Function(function) => self.function(scope, function),
            Expr::CompoundFieldAccess { root, access_chain } => self.access(scope, root, access_chain),
            other => self.plain_only(scope, other),
        }
    }

    /// Forms whose parts must all be plain.
    fn plain_only(&mut self, scope: &Sc<'_>, expr: &Expr) -> Result<Value, Refusal> {
        match expr {
            Expr::IsTrue(e) | Expr::IsNotTrue(e) | Expr::IsFalse(e) | Expr::IsNotFalse(e) => {
                self.operands(scope, &[e], "IS TRUE")
            }
            Expr::IsUnknown(e) | Expr::IsNotUnknown(e) => self.operands(scope, &[e], "IS UNKNOWN"),
            Expr::IsJson { expr, .. } => self.operands(scope, &[expr], "IS JSON"),
            Expr::IsNormalized { expr, .. } => self.operands(scope, &[expr], "IS NORMALIZED"),
            Expr::Between { expr, low, high, .. } => self.operands(scope, &[expr, low, high], "BETWEEN"),
            Expr::Like { expr, pattern, escape_char, .. } => {
                self.pattern(scope, expr, pattern, escape_char.as_deref(), "LIKE")
            }
            Expr::ILike { expr, pattern, escape_char, .. } => {
                self.pattern(scope, expr, pattern, escape_char.as_deref(), "ILIKE")
            }
            Expr::SimilarTo { expr, pattern, escape_char, .. } => {
                self.pattern(scope, expr, pattern, escape_char.as_deref(), "SIMILAR TO")
            }
            Expr::AtTimeZone { timestamp, time_zone } => self.operands(scope, &[timestamp, time_zone], "AT TIME ZONE"),
            Expr::Extract { expr, .. } => {
                self.meet_field(expr);
                self.operands(scope, &[expr], "EXTRACT")
            }
            Expr::Ceil { expr, .. } => self.operands(scope, &[expr], "CEIL"),
            Expr::Floor { expr, .. } => self.operands(scope, &[expr], "FLOOR"),
            Expr::Position { expr, r#in } => self.operands(scope, &[expr, r#in], "position()"),
            // `SELECT a COLLATE FROM t` has a label, and no collation `from`.
            Expr::Collate { expr, collation } if parts(collation).is_some() => self.operands(scope, &[expr], "COLLATE"),
            Expr::Substring { expr, substring_from, substring_for, .. } => {
                let parts = [Some(&**expr), substring_from.as_deref(), substring_for.as_deref()];
                self.operands_some(scope, &parts, "substring()")
            }
            Expr::Overlay { expr, overlay_what, overlay_from, overlay_for } => {
                let parts = [Some(&**expr), Some(overlay_what), Some(overlay_from), overlay_for.as_deref()];
                self.operands_some(scope, &parts, "overlay()")
            }
            Expr::Trim { trim_what, expr, trim_characters, .. } => {
                self.operands_some(scope, &[Some(expr), trim_what.as_deref()], "trim()")?;
                for part in trim_characters.iter().flatten() {
                    self.operands(scope, &[part], "trim()")?;
                }
                Ok(Value::Plain)
            }
            _ => Err(refuse::unreadable("an expression")),
        }
    }

    /// `EXTRACT('year' FROM …)` writes its field as a string, which the tree keeps as a word.
    fn meet_field(&mut self, expr: &Expr) {
        use sqlparser::ast::Spanned;
        let Some(first) = crate::sql::parse::token_at(self.tokens, expr.span().start) else { return };
        let sql = self.request.sql;
        for at in first.saturating_sub(3)..first {
            let from = self.tokens.get(at + 1).is_some_and(|token| token.is_word(sql, "from"));
            if from && self.tokens[at].kind == crate::sql::lexer::TokenKind::String {
                self.met.insert(at);
            }
        }
    }

    fn operands_some(&mut self, scope: &Sc<'_>, parts: &[Option<&Expr>], operation: &str) -> Result<Value, Refusal> {
        for part in parts.iter().flatten() {
            self.operands(scope, &[part], operation)?;
        }
        Ok(Value::Plain)
    }

    /// Every part must be plain.
    pub(super) fn operands(&mut self, scope: &Sc<'_>, parts: &[&Expr], operation: &str) -> Result<Value, Refusal> {
        for part in parts {
            let value = self.value(scope, part)?;
            self.plain(&value, operation)?;
        }
        Ok(Value::Plain)
    }

    fn pattern(
        &mut self,
        scope: &Sc<'_>,
        expr: &Expr,
        pattern: &Expr,
        escape: Option<&Expr>,
        operation: &str,
    ) -> Result<Value, Refusal> {
        self.operands(scope, &[expr, pattern], operation)?;
        if let Some(escape) = escape {
            self.operands(scope, &[escape], operation)?;
        }
        Ok(Value::Plain)
    }

    /// A condition: WHERE, ON, HAVING, FILTER, WHEN.
    pub(super) fn condition(&mut self, scope: &Sc<'_>, expr: &Expr) -> Result<(), Refusal> {
        self.using(super::How::Searched, |reader| {
            let value = reader.value(scope, expr)?;
            reader.plain(&value, "a condition")
        })
    }

    fn identifier(&mut self, scope: &Sc<'_>, ident: &Ident) -> Result<Value, Refusal> {
        let name = folded(ident);
        if ident.quote_style.is_none() && keyword_value(&name) {
            return Ok(if name == "default" { self.default_word(ident)? } else { Value::Plain });
        }
        if names_nothing(ident) {
            return Err(refuse::unreadable("a reserved word as a name"));
        }
        let found = scope.unqualified(&name);
        self.lookup(found)
    }

    fn compound(&mut self, scope: &Sc<'_>, idents: &[Ident]) -> Result<Value, Refusal> {
        if idents.first().is_some_and(names_nothing) {
            return Err(refuse::unreadable("a reserved word as a name"));
        }
        let names: Vec<String> = idents.iter().map(folded).collect();
        let found = match names.as_slice() {
            [relation, column] => scope.qualified(None, relation, column),
            [schema, relation, column] => scope.qualified(Some(schema), relation, column),
            [database, schema, relation, column] if *database == self.rules.schema.database => {
                scope.qualified(Some(schema), relation, column)
            }
            _ => return Err(refuse::unreadable("a dotted name")),
        };
        self.lookup(found)
    }

    fn lookup(&mut self, found: Lookup<'_, Value>) -> Result<Value, Refusal> {
        match found {
            Lookup::Column { column, doubt } => {
                if doubt && column.value.guarded() {
                    return Err(refuse::unreadable("a column's relation is not certain"));
                }
                self.used(column)
            }
            Lookup::Ambiguous(first, second) => {
                if first.value.guarded() || second.value.guarded() {
                    return Err(refuse::unreadable("an ambiguous column name"));
                }
                Ok(Value::Plain)
            }
            Lookup::Whole(rel) if rel.guarded => {
                let above = rel.columns.iter().any(|column| matches!(column.value, Value::Hidden(_)));
                Ok(Value::Whole { relation: rel.name.clone(), above })
            }
            Lookup::Whole(rel) => {
                let columns = self.used_all(&rel.columns)?;
                let columns = columns.into_iter().map(|column| column.value).collect();
                self.plain(&Value::Row(columns), "a row").map(|()| Value::Plain)
            }
            Lookup::NoColumn(rel) if rel.guarded => Err(refuse::no_column(&rel.name)),
            Lookup::Open | Lookup::System => Ok(Value::Plain),
            Lookup::NoColumn(_) | Lookup::Missing => {
                self.unknown = true;
                Ok(Value::Plain)
            }
        }
    }

    fn null_test(&mut self, scope: &Sc<'_>, inner: &Expr) -> Result<Value, Refusal> {
        match self.value(scope, inner)? {
            Value::Plain | Value::Pending { .. } => {}
            Value::Sealed(_) | Value::SealedArray(_) | Value::Untyped(_) => {}
            Value::Row(values) => {
                for value in values {
                    if let Value::Whole { relation, above } = value {
                        return Err(refuse::whole_row(&relation, above));
                    }
                }
            }
            other => self.plain(&other, "IS NULL")?,
        }
        Ok(Value::Plain)
    }

    fn binary(&mut self, scope: &Sc<'_>, left: &Expr, op: &BinaryOperator, right: &Expr) -> Result<Value, Refusal> {
        match op {
            BinaryOperator::Eq => self.compare(scope, left, right, "="),
            BinaryOperator::NotEq => self.compare(scope, left, right, "<>"),
            BinaryOperator::And | BinaryOperator::Or => self.operands(scope, &[left, right], "a condition"),
            other => self.operands(scope, &[left, right], &other.to_string()),
        }
    }

    fn in_list(&mut self, scope: &Sc<'_>, expr: &Expr, list: &[Expr]) -> Result<Value, Refusal> {
        let left = self.value(scope, expr)?;
        let items = list.iter().map(|item| self.value(scope, item)).collect::<Result<Vec<_>, _>>()?;
        // A sealed item decides what the others and the left side are, so it goes first.
        let (sealed, others): (Vec<_>, Vec<_>) = items.into_iter().partition(|item| matches!(item, Value::Sealed(_)));
        let pending = |item: &&Value| matches!(item, Value::Pending { .. });
        if let (Value::Sealed(column), 2..) = (&left, others.iter().filter(pending).count()) {
            self.array_of_items(column.ty.kind, &others);
        }
        for item in sealed.into_iter().chain(others) {
            self.compare_values(left.clone(), item, "IN")?;
        }
        Ok(Value::Plain)
    }

    /// `a IN (x, y)` becomes `a = ANY (ARRAY[x, y])` where all have one type: the left side's goes first.
    fn array_of_items(&mut self, left: Kind, items: &[Value]) {
        let ty = items.iter().fold(Type::Known(left.oid()), |all, item| match item {
            Value::Pending { ty, .. } => together(all, *ty),
            _ => all,
        });
        for item in items {
            if let Value::Pending { group, depth: 0, .. } = item {
                self.groups.settle(*group, 0, ty);
            }
        }
    }

    /// `left op ANY (right)`, `left op ALL (right)`.
    fn any(
        &mut self,
        scope: &Sc<'_>,
        left: &Expr,
        op: &BinaryOperator,
        right: &Expr,
        word: &str,
    ) -> Result<Value, Refusal> {
        let operation = format!("{op} {word}");
        let left = self.value(scope, left)?;
        let right = match right {
            Expr::Subquery(query) => self.subquery(scope, query)?,
            Expr::Nested(inner) if matches!(**inner, Expr::Subquery(_)) => self.value(scope, inner)?,
            array => match self.value(scope, array)? {
                Value::Pending { group, depth, ty } => {
                    Value::Pending { group, depth: depth.saturating_sub(1), ty: ty.element() }
                }
                Value::SealedArray(column) => Value::Sealed(column),
                other => {
                    self.plain(&other, &operation)?;
                    Value::Plain
                }
            },
        };
        if !matches!(op, BinaryOperator::Eq | BinaryOperator::NotEq) {
            self.plain(&left, &operation)?;
            self.plain(&right, &operation)?;
            return Ok(Value::Plain);
        }
        self.compare_values(left, right, &operation)
    }

    fn compare(&mut self, scope: &Sc<'_>, left: &Expr, right: &Expr, operation: &str) -> Result<Value, Refusal> {
        let left = self.value(scope, left)?;
        let right = self.value(scope, right)?;
        self.compare_values(left, right, operation)
    }

    /// Equality, or its opposite, of two values.
    pub(super) fn compare_values(&mut self, left: Value, right: Value, operation: &str) -> Result<Value, Refusal> {
        match (left, right) {
            (Value::Row(left), Value::Row(right)) if left.len() == right.len() => {
                for (left, right) in left.into_iter().zip(right) {
                    self.compare_values(left, right, operation)?;
                }
            }
            (Value::Sealed(column), Value::Pending { group, depth, ty })
            | (Value::Pending { group, depth, ty }, Value::Sealed(column)) => {
                self.search((group, depth, ty), &column, operation)?;
            }
            (Value::Sealed(column), Value::Sealed(other)) if column.id == other.id => {
                self.equality(&column, operation)?;
            }
            (Value::Sealed(column), Value::Sealed(other)) => {
                return Err(refuse::other_column(&column, operation, &other));
            }
            (Value::Sealed(column), Value::Plain) | (Value::Plain, Value::Sealed(column)) => {
                return Err(refuse::computed(&column, operation));
            }
            (left, right) => {
                self.plain(&left, operation)?;
                self.plain(&right, operation)?;
            }
        }
        Ok(Value::Plain)
    }

    /// A scalar or row subquery.
    pub(super) fn subquery(&mut self, scope: &Sc<'_>, query: &Query) -> Result<Value, Refusal> {
        let how = if self.how == super::How::Written { super::How::Read } else { self.how };
        let output = self.using(how, |reader| reader.query(Some(scope), query))?;
        if output.open {
            let guarded = output.columns.iter().any(|column| column.value.guarded());
            return if guarded { Err(refuse::unreadable("a subquery's columns")) } else { Ok(Value::Plain) };
        }
        let mut values: Vec<Value> = output.columns.into_iter().map(|column| column.value).collect();
        Ok(if values.len() == 1 { values.swap_remove(0) } else { Value::Row(values) })
    }

    /// `ARRAY[…]`; `to`: the elements' type, if a cast around it says so.
    pub(super) fn array(&mut self, scope: &Sc<'_>, array: &Array, to: Type) -> Result<Value, Refusal> {
        let values = array.elem.iter().map(|element| self.value(scope, element)).collect::<Result<Vec<_>, _>>()?;
        if values.is_empty() {
            return Ok(Value::Pending { group: self.groups.add(Vec::new()), depth: 1, ty: to.array() });
        }
        match self.combine_all(values, "ARRAY[]")? {
            Value::Pending { group, depth: 0, ty } => {
                let settled = match (to, ty) {
                    (Type::Unknown, Type::Unknown) => Type::Known(Kind::Text.oid()),
                    (Type::Unknown, ty) => ty,
                    (to, _) => to,
                };
                self.groups.settle(group, 0, settled);
                Ok(Value::Pending { group, depth: 1, ty: settled.array() })
            }
            Value::Sealed(column) => Ok(Value::SealedArray(column)),
            other => {
                self.plain(&other, "ARRAY[]")?;
                Ok(Value::Plain)
            }
        }
    }

    fn case(
        &mut self,
        scope: &Sc<'_>,
        operand: Option<&Expr>,
        conditions: &[CaseWhen],
        otherwise: Option<&Expr>,
    ) -> Result<Value, Refusal> {
        let operand = operand.map(|operand| self.value(scope, operand)).transpose()?;
        for when in conditions {
            match &operand {
                Some(left) => {
                    let right = self.value(scope, &when.condition)?;
                    self.compare_values(left.clone(), right, "CASE")?;
                }
                None => self.condition(scope, &when.condition)?,
            }
        }
        // PostgreSQL takes the type of ELSE first.
        let branches = otherwise.into_iter().chain(conditions.iter().map(|when| &when.result));
        let values = branches.map(|branch| self.value(scope, branch)).collect::<Result<Vec<_>, _>>()?;
        let mut value = self.branches(values, "CASE")?;
        if let (Value::Sealed(column), None) = (&value, otherwise) {
            value = Value::Sealed(without_modifier(column));
        }
        Ok(value)
    }

    /// `(row).column`, `array[1]`.
    fn access(&mut self, scope: &Sc<'_>, root: &Expr, chain: &[AccessExpr]) -> Result<Value, Refusal> {
        // `u.tags[1]`: the names before the first subscript are one dotted name.
        let written = match root {
            Expr::Identifier(ident) => std::slice::from_ref(ident),
            Expr::CompoundIdentifier(idents) => idents.as_slice(),
            _ => &[],
        };
        let dotted = chain.iter().map_while(|step| match step {
            AccessExpr::Dot(Expr::Identifier(ident)) => Some(ident),
            _ => None,
        });
        let names: Vec<Ident> = written.iter().chain(dotted).cloned().collect();
        if !written.is_empty() && names.len() > 1 {
            let value = self.compound(scope, &names)?;
            return self.access_rest(scope, value, &chain[names.len() - written.len()..]);
        }
        let mut value = match (root, chain) {
            // `(u).email` is u.email.
            (Expr::Nested(inner), [AccessExpr::Dot(Expr::Identifier(column)), ..])
                if matches!(**inner, Expr::Identifier(_)) =>
            {
                let Expr::Identifier(relation) = &**inner else { return Err(refuse::unreadable("a dotted name")) };
                if let Lookup::Whole(rel) = scope.unqualified(&folded(relation)) {
                    let name = rel.name.clone();
                    let found = scope.qualified(None, &name, &folded(column));
                    let value = self.lookup(found)?;
                    return self.access_rest(scope, value, &chain[1..]);
                }
                self.value(scope, root)?
            }
            _ => self.value(scope, root)?,
        };
        value = self.access_rest(scope, value, chain)?;
        Ok(value)
    }

    fn access_rest(&mut self, scope: &Sc<'_>, mut value: Value, chain: &[AccessExpr]) -> Result<Value, Refusal> {
        for step in chain {
            value = match step {
                AccessExpr::Subscript(Subscript::Index { index }) => {
                    self.operands(scope, &[index], "a subscript")?;
                    match value {
                        Value::SealedArray(column) => Value::Sealed(column),
                        Value::Pending { group, depth, ty } => {
                            Value::Pending { group, depth: depth.saturating_sub(1), ty: ty.element() }
                        }
                        other => {
                            self.plain(&other, "a subscript")?;
                            Value::Plain
                        }
                    }
                }
                AccessExpr::Subscript(Subscript::Slice { lower_bound, upper_bound, stride: None }) => {
                    for bound in [lower_bound, upper_bound].into_iter().flatten() {
                        self.operands(scope, &[bound], "a slice")?;
                    }
                    match value {
                        Value::SealedArray(column) => Value::SealedArray(column),
                        other => {
                            self.plain(&other, "a slice")?;
                            Value::Plain
                        }
                    }
                }
                AccessExpr::Dot(_) => {
                    self.plain(&value, "field selection")?;
                    Value::Plain
                }
                AccessExpr::Subscript(_) => return Err(refuse::unreadable("a subscript")),
            };
        }
        Ok(value)
    }
}

/// Reserved words that stand for a value; unquoted, they name no column.
fn keyword_value(name: &str) -> bool {
    matches!(
        name,
        "current_date"
            | "current_time"
            | "current_timestamp"
            | "localtime"
            | "localtimestamp"
            | "current_user"
            | "current_role"
            | "current_catalog"
            | "current_schema"
            | "session_user"
            | "user"
            | "default"
    )
}
