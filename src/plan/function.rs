//! Function calls: the few that sealed columns pass through, and all others.

use std::sync::Arc;

use sqlparser::ast::{
    DuplicateTreatment, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentClause, FunctionArgumentList,
    FunctionArguments, OrderByExpr, WindowFrameBound, WindowSpec, WindowType,
};

use super::reader::{Col, Reader, Sc, folded, shown_as};
use super::refuse;
use super::typing::{Type, operand, same_cells};
use super::value::Value;
use crate::error::Refusal;
use crate::policy::rules::SealedColumn;
use crate::sql::resolve::parts;
use crate::wire::types::{Kind, SqlType};

impl Reader<'_> {
    /// What a call yields.
    pub(super) fn function(&mut self, scope: &Sc<'_>, function: &Function) -> Result<Value, Refusal> {
        let names = parts(&function.name).ok_or_else(|| refuse::unreadable("a function's name"))?;
        let name = match names.as_slice() {
            [name] => name.as_str(),
            [schema, name] if schema == "pg_catalog" => name.as_str(),
            _ => "",
        };
        let shown = format!("{}()", names.last().map_or("", String::as_str));
        if !matches!(function.parameters, FunctionArguments::None) || function.uses_odbc_syntax {
            return Err(refuse::unreadable("a function call"));
        }
        for order in &function.within_group {
            self.order_expression(scope, order, "WITHIN GROUP (ORDER BY)")?;
        }
        if let Some(filter) = &function.filter {
            self.condition(scope, filter)?;
        }
        match &function.over {
            None => {}
            Some(WindowType::NamedWindow(_)) => {}
            Some(WindowType::WindowSpec(spec)) => self.window(scope, spec)?,
        }
        match &function.args {
            FunctionArguments::None => Ok(Value::Plain),
            FunctionArguments::Subquery(query) => {
                let value = self.subquery(scope, query)?;
                match (name, value) {
                    ("array", Value::Sealed(column)) => Ok(Value::SealedArray(column)),
                    (_, other) => self.plain(&other, &shown).map(|()| Value::Plain),
                }
            }
            FunctionArguments::List(list) => self.call(scope, name, &shown, list, function.over.is_some()),
        }
    }

    fn call(
        &mut self,
        scope: &Sc<'_>,
        name: &str,
        shown: &str,
        list: &FunctionArgumentList,
        over: bool,
    ) -> Result<Value, Refusal> {
        for clause in &list.clauses {
            match clause {
                FunctionArgumentClause::OrderBy(orders) => {
                    for order in orders {
                        self.order_expression(scope, order, "ORDER BY")?;
                    }
                }
                FunctionArgumentClause::IgnoreOrRespectNulls(_)
                | FunctionArgumentClause::JsonNullClause(_)
                | FunctionArgumentClause::JsonReturningClause(_) => {}
                _ => return Err(refuse::unreadable("a function call's clause")),
            }
        }
        let distinct = list.duplicate_treatment == Some(DuplicateTreatment::Distinct);
        if let ("count", true, [FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Tuple(row)))]) =
            (name, distinct, list.args.as_slice())
        {
            let columns: Vec<Col> = row.iter().map(|expr| self.column_of(scope, expr, "")).collect::<Result<_, _>>()?;
            return self.told_apart(&columns, "count(DISTINCT)").map(|()| Value::Plain);
        }
        let mut values = Vec::with_capacity(list.args.len());
        for arg in &list.args {
            values.push(self.argument(scope, arg, shown)?);
        }
        self.wrapper(name, shown, values, distinct, over)
    }

    fn argument(&mut self, scope: &Sc<'_>, arg: &FunctionArg, shown: &str) -> Result<Value, Refusal> {
        let (arg, named) = match arg {
            FunctionArg::Unnamed(arg) => (arg, false),
            FunctionArg::Named { arg, .. } => (arg, true),
            FunctionArg::ExprNamed { name: Expr::Identifier(_), arg, .. } => (arg, true),
            FunctionArg::ExprNamed { .. } => return Err(refuse::unreadable("a function call's argument")),
        };
        match arg {
            FunctionArgExpr::Expr(expr) => {
                let value = self.value(scope, expr)?;
                if named {
                    self.plain(&value, shown)?;
                }
                Ok(value)
            }
            // count(*); PostgreSQL refuses it elsewhere.
            FunctionArgExpr::Wildcard => Ok(Value::Plain),
            FunctionArgExpr::WildcardWithOptions(options) if super::query::no_options(options) => Ok(Value::Plain),
            FunctionArgExpr::QualifiedWildcard(name) => {
                let names = parts(name).ok_or_else(|| refuse::unreadable("a row's name"))?;
                let rel = match names.as_slice() {
                    [relation] => scope.rel(None, relation),
                    [schema, relation] => scope.rel(Some(schema), relation),
                    _ => None,
                };
                let rel = rel.ok_or_else(|| refuse::unreadable("a row's name"))?;
                let columns = rel.columns.iter().map(|column| column.value.clone()).collect();
                if rel.guarded {
                    let above = rel.columns.iter().any(|column| matches!(column.value, Value::Hidden(_)));
                    return Err(refuse::whole_row(&rel.name, above));
                }
                self.plain(&Value::Row(columns), shown).map(|()| Value::Plain)
            }
            FunctionArgExpr::WildcardWithOptions(_) => Err(refuse::unreadable("a function call's argument")),
        }
    }

    /// The listed wrappers; everything else takes plain values and yields a plain one.
    fn wrapper(
        &mut self,
        name: &str,
        shown: &str,
        values: Vec<Value>,
        distinct: bool,
        over: bool,
    ) -> Result<Value, Refusal> {
        match (name, values.as_slice()) {
            ("count", [Value::Sealed(column)]) => {
                if distinct {
                    self.equality(column, "count(DISTINCT)")?;
                }
                Ok(Value::Plain)
            }
            ("count", [Value::Untyped(_) | Value::SealedArray(_)]) if !distinct => Ok(Value::Plain),
            ("grouping", _) => values.iter().try_for_each(|value| self.grouped(value, shown)).map(|()| Value::Plain),
            ("row", _) => Ok(Value::Row(values)),
            ("coalesce", [_, ..]) => self.branches(values, "COALESCE"),
            ("nullif", [_, _]) => self.nullif(values),
            ("array_agg", [Value::Sealed(column)]) => {
                if distinct {
                    self.equality(column, "array_agg(DISTINCT)")?;
                }
                Ok(Value::SealedArray(column.clone()))
            }
            ("unnest", [Value::SealedArray(column)]) => Ok(Value::Sealed(column.clone())),
            ("unnest", [Value::Pending { group, depth, ty }]) => {
                Ok(Value::Pending { group: *group, depth: depth.saturating_sub(1), ty: ty.element() })
            }
            ("first_value" | "last_value", [Value::Sealed(column)]) if over => Ok(Value::Sealed(column.clone())),
            ("nth_value" | "lag" | "lead", [Value::Sealed(column)]) if over => Ok(Value::Sealed(column.clone())),
            ("nth_value" | "lag" | "lead", [Value::Sealed(column), offset]) if over => {
                self.plain(offset, shown)?;
                Ok(Value::Sealed(column.clone()))
            }
            ("lag" | "lead", [Value::Sealed(column), offset, other]) if over => {
                self.plain(offset, shown)?;
                self.combine(Value::Sealed(column.clone()), other.clone(), shown)
            }
            _ => values.iter().try_for_each(|value| self.plain(value, shown)).map(|()| Value::Plain),
        }
    }

    /// All values in one place.
    pub(super) fn combine_all(&mut self, values: Vec<Value>, operation: &str) -> Result<Value, Refusal> {
        let mut all: Option<Value> = None;
        for value in values {
            all = Some(match all {
                None => value,
                Some(before) => self.combine(before, value, operation)?,
            });
        }
        Ok(all.unwrap_or(Value::Plain))
    }

    /// The branches of one expression: constants without a type among them are text if no branch has one.
    pub(super) fn branches(&mut self, values: Vec<Value>, operation: &str) -> Result<Value, Refusal> {
        let value = self.combine_all(values, operation)?;
        Ok(self.text_at_last(value))
    }

    /// The first value, unless it equals the second; of the type that their `=` takes on its left.
    fn nullif(&mut self, values: Vec<Value>) -> Result<Value, Refusal> {
        const NULLIF: &str = "NULLIF";
        for value in &values {
            match value {
                Value::Sealed(column) => self.equality(column, NULLIF)?,
                Value::Pending { group, .. } => self.groups.compared(*group)?,
                _ => {}
            }
        }
        match values.as_slice() {
            [Value::Sealed(column), Value::Pending { group, depth, ty }] => {
                self.search((*group, *depth, *ty), column, NULLIF)?;
                Ok(Value::Sealed(as_operand(column)))
            }
            [Value::Pending { group, depth, ty }, Value::Sealed(column)] => {
                self.search((*group, *depth, *ty), column, NULLIF)?;
                // Where the constant itself is stored, it must fit the column.
                self.groups.seal(*group, column, false, !self.storing)?;
                let kind = match ty {
                    Type::Known(oid) => Kind::of_oid(*oid).map(operand),
                    _ => Some(operand(column.ty.kind)),
                };
                let shown = kind.filter(|kind| same_cells(*kind, column.ty.kind));
                let kind = shown.ok_or_else(|| refuse::mixed(column, NULLIF))?;
                Ok(Value::Sealed(shown_as(column, SqlType { kind, typmod: -1 })))
            }
            _ => match self.branches(values, NULLIF)? {
                Value::Sealed(column) => Ok(Value::Sealed(as_operand(&column))),
                other => Ok(other),
            },
        }
    }

    /// A window: PARTITION BY tells values apart, ORDER BY sorts them.
    pub(super) fn window(&mut self, scope: &Sc<'_>, spec: &WindowSpec) -> Result<(), Refusal> {
        for expr in &spec.partition_by {
            let value = self.value(scope, expr)?;
            self.grouped(&value, "PARTITION BY")?;
        }
        for order in &spec.order_by {
            self.order_expression(scope, order, "ORDER BY")?;
        }
        if let Some(frame) = &spec.window_frame {
            for bound in std::iter::once(&frame.start_bound).chain(&frame.end_bound) {
                if let WindowFrameBound::Preceding(Some(bound)) | WindowFrameBound::Following(Some(bound)) = bound {
                    self.operands(scope, &[bound], "a window frame")?;
                }
            }
        }
        Ok(())
    }

    /// One expression of an ORDER BY that names input columns only.
    pub(super) fn order_expression(
        &mut self,
        scope: &Sc<'_>,
        order: &OrderByExpr,
        operation: &str,
    ) -> Result<(), Refusal> {
        if order.with_fill.is_some() {
            return Err(refuse::unreadable("ORDER BY"));
        }
        let value = self.value(scope, &order.expr)?;
        self.plain(&value, operation)
    }
}

/// The column's cells as `=` takes them: a varchar as text, without its length.
fn as_operand(column: &Arc<SealedColumn>) -> Arc<SealedColumn> {
    match operand(column.ty.kind) {
        kind if kind == column.ty.kind => column.clone(),
        kind => shown_as(column, SqlType { kind, typmod: -1 }),
    }
}

/// The name PostgreSQL gives an output column (`FigureColname`).
pub(super) fn output_name(expr: &Expr) -> String {
    match expr {
        Expr::Identifier(ident) => folded(ident),
        Expr::CompoundIdentifier(idents) => idents.last().map(folded).unwrap_or_default(),
        Expr::Nested(inner) | Expr::Collate { expr: inner, .. } => output_name(inner),
        Expr::CompoundFieldAccess { root, access_chain } => access_chain
            .iter()
            .rev()
            .find_map(|step| match step {
                sqlparser::ast::AccessExpr::Dot(Expr::Identifier(ident)) => Some(folded(ident)),
                _ => None,
            })
            .unwrap_or_else(|| output_name(root)),
        Expr::Function(function) => parts(&function.name).and_then(|names| names.last().cloned()).unwrap_or_default(),
        Expr::Cast { expr, data_type, .. } => match output_name(expr) {
            name if name == "?column?" => data_type.to_string().to_ascii_lowercase(),
            name => name,
        },
        Expr::Case { else_result, .. } => match else_result.as_deref().map(output_name) {
            Some(name) if name != "?column?" => name,
            _ => "case".to_owned(),
        },
        Expr::Subquery(query) => match &*query.body {
            sqlparser::ast::SetExpr::Select(select) => match select.projection.first() {
                Some(sqlparser::ast::SelectItem::UnnamedExpr(expr)) => output_name(expr),
                Some(sqlparser::ast::SelectItem::ExprWithAlias { alias, .. }) => folded(alias),
                _ => "?column?".to_owned(),
            },
            _ => "?column?".to_owned(),
        },
        Expr::Exists { .. } => "exists".to_owned(),
        Expr::Array(_) => "array".to_owned(),
        Expr::Tuple(_) => "row".to_owned(),
        _ => "?column?".to_owned(),
    }
}
