//! Queries: WITH, SELECT, set operations, VALUES, their order and their output columns.

use std::collections::HashSet;
use std::sync::Arc;

use sqlparser::ast::{
    Distinct, Expr, GroupByExpr, LimitClause, NamedWindowExpr, OrderBy, OrderByKind, Query, Select, SelectFlavor,
    SelectItem, SelectItemQualifiedWildcardKind, SetExpr, SetOperator, SetQuantifier, Statement, Values,
    WildcardAdditionalOptions, With,
};

use super::How;
use super::from::within;
use super::function::output_name;
use super::reader::{Col, Cte, Output, Reader, Sc, folded};
use super::refuse;
use super::value::Value;
use crate::error::Refusal;
use crate::sql::resolve::{Column, Found, Lookup, Rel, Scope, parts};
use crate::sql::schema::{RelKind, Relation};
use crate::wire::types::Kind;

/// `MaxTupleAttributeNumber`.
const OUTPUT_MAX: usize = 1664;

const LEVEL_BYTES: usize = 128 * 1024;
const GROW_BYTES: usize = 2 * 1024 * 1024;

/// `*` without EXCLUDE, REPLACE and their like.
pub(super) fn no_options(options: &WildcardAdditionalOptions) -> bool {
    options.opt_ilike.is_none()
        && options.opt_exclude.is_none()
        && options.opt_except.is_none()
        && options.opt_replace.is_none()
        && options.opt_rename.is_none()
        && options.opt_alias.is_none()
}

impl Reader<'_> {
    /// A query's output columns.
    pub(super) fn query(&mut self, outer: Option<&Sc<'_>>, query: &Query) -> Result<Output, Refusal> {
        let before = std::mem::replace(&mut self.storing, false);
        let output = self.untyped_query(outer, query);
        self.storing = before;
        output.map(|output| self.settled(output))
    }

    /// Output columns of which nothing has given a type are text.
    fn settled(&mut self, mut output: Output) -> Output {
        for column in &mut output.columns {
            let value = std::mem::replace(&mut column.value, Value::Plain);
            column.value = self.text_at_last(value);
        }
        output
    }

    /// The same, with bare constants of no type yet: a column that INSERT fills, or another branch, settles it.
    pub(super) fn untyped_query(&mut self, outer: Option<&Sc<'_>>, query: &Query) -> Result<Output, Refusal> {
        self.nesting += 1;
        let output = stacker::maybe_grow(LEVEL_BYTES, GROW_BYTES, || self.query_here(outer, query));
        self.nesting -= 1;
        output
    }

    fn query_here(&mut self, outer: Option<&Sc<'_>>, query: &Query) -> Result<Output, Refusal> {
        let foreign = query.for_clause.is_some()
            || query.settings.is_some()
            || query.format_clause.is_some()
            || !query.pipe_operators.is_empty();
        if foreign {
            return Err(refuse::unreadable("a clause of the query"));
        }
        let mut scope = Scope::within(outer);
        if let Some(with) = &query.with {
            self.with(&mut scope, with)?;
        }
        let output = self.set_expr(&scope, &query.body, query.order_by.as_ref())?;
        self.limits(&scope, query)?;
        Ok(output)
    }

    fn limits(&mut self, scope: &Sc<'_>, query: &Query) -> Result<(), Refusal> {
        match &query.limit_clause {
            None => {}
            Some(LimitClause::LimitOffset { limit, offset, limit_by }) => {
                let offset = offset.as_ref().map(|offset| &offset.value);
                for part in limit.iter().chain(offset).chain(limit_by) {
                    self.operands(scope, &[part], "LIMIT")?;
                }
            }
            Some(LimitClause::OffsetCommaLimit { offset, limit }) => {
                self.operands(scope, &[offset, limit], "LIMIT")?;
            }
        }
        if let Some(quantity) = query.fetch.as_ref().and_then(|fetch| fetch.quantity.as_ref()) {
            self.operands(scope, &[quantity], "FETCH")?;
        }
        Ok(())
    }

    /// The queries of a WITH clause become names of `scope`.
    fn with(&mut self, scope: &mut Sc<'_>, with: &With) -> Result<(), Refusal> {
        if with.recursive {
            for cte in &with.cte_tables {
                scope.ctes.push((folded(&cte.alias.name), Cte { output: None }));
            }
        }
        for (index, cte) in with.cte_tables.iter().enumerate() {
            if cte.from.is_some() {
                return Err(refuse::unreadable("a WITH clause"));
            }
            let name = folded(&cte.alias.name);
            let columns = &cte.alias.columns;
            let output = if with.recursive {
                self.recursive(scope, index, &cte.query, columns)?
            } else {
                let output = self.using(How::Read, |reader| reader.query(Some(scope), &cte.query))?;
                renamed(output, columns)
            };
            let ready = Cte { output: Some(output) };
            if with.recursive {
                scope.ctes[index].1 = ready;
            } else {
                scope.ctes.push((name, ready));
            }
        }
        Ok(())
    }

    /// One query of WITH RECURSIVE: its first branch says what its columns are, the second may name it.
    fn recursive(
        &mut self,
        scope: &Sc<'_>,
        index: usize,
        query: &Query,
        columns: &[sqlparser::ast::TableAliasColumnDef],
    ) -> Result<Output, Refusal> {
        let mut inner: Sc<'_> = Scope::within(Some(scope));
        if !matches!(&*query.body, SetExpr::SetOperation { .. }) || query.with.is_some() {
            let output = self.using(How::Read, |reader| reader.query(Some(&inner), query))?;
            return Ok(renamed(output, columns));
        }
        let SetExpr::SetOperation { left, op, set_quantifier, right } = &*query.body else {
            return Err(refuse::unreadable("a WITH clause"));
        };
        let foreign = query.for_clause.is_some()
            || query.settings.is_some()
            || query.format_clause.is_some()
            || !query.pipe_operators.is_empty();
        if foreign {
            return Err(refuse::unreadable("a clause of the query"));
        }
        let first = self.using(How::Read, |reader| reader.set_expr(&inner, left, None))?;
        let name = scope.ctes[index].0.clone();
        inner.ctes.push((name, Cte { output: Some(renamed(first.clone(), columns)) }));
        let second = self.using(How::Read, |reader| reader.set_expr(&inner, right, None))?;
        let output = self.set_operation(first, second, *op, *set_quantifier)?;
        self.order_outputs(&output, query.order_by.as_ref())?;
        self.limits(&inner, query)?;
        Ok(renamed(output, columns))
    }

    /// The body of a query. `order`: its ORDER BY.
    fn set_expr(&mut self, scope: &Sc<'_>, body: &SetExpr, order: Option<&OrderBy>) -> Result<Output, Refusal> {
        let output = match body {
            SetExpr::Select(select) => return self.select(scope, select, order),
            SetExpr::Query(query) => self.untyped_query(Some(scope), query)?,
            SetExpr::SetOperation { left, op, set_quantifier, right } => {
                let left = stacker::maybe_grow(LEVEL_BYTES, GROW_BYTES, || self.set_expr(scope, left, None))?;
                let right = stacker::maybe_grow(LEVEL_BYTES, GROW_BYTES, || self.set_expr(scope, right, None))?;
                self.set_operation(left, right, *op, *set_quantifier)?
            }
            SetExpr::Values(values) => self.values(scope, values)?,
            // Fed to sqlparser as SELECT * FROM.
            SetExpr::Table(_) => return Err(refuse::unreadable("TABLE")),
            SetExpr::Insert(statement)
            | SetExpr::Update(statement)
            | SetExpr::Delete(statement)
            | SetExpr::Merge(statement) => match statement {
                Statement::Insert(insert) => self.insert(Some(scope), insert)?,
                Statement::Update(update) => self.update(Some(scope), update)?,
                Statement::Delete(delete) => self.delete(Some(scope), delete)?,
                Statement::Merge(merge) => self.merge(Some(scope), merge)?,
                _ => return Err(refuse::unreadable("a statement inside a statement")),
            },
        };
        self.order_outputs(&output, order)?;
        Ok(output)
    }

    fn set_operation(
        &mut self,
        left: Output,
        right: Output,
        op: SetOperator,
        quantifier: SetQuantifier,
    ) -> Result<Output, Refusal> {
        let all = match quantifier {
            SetQuantifier::All => true,
            SetQuantifier::Distinct | SetQuantifier::None => false,
            _ => return Err(refuse::unreadable("a set operation")),
        };
        let (name, compares) = match op {
            SetOperator::Union => ("UNION", !all),
            SetOperator::Except => ("EXCEPT", true),
            SetOperator::Intersect => ("INTERSECT", true),
            SetOperator::Minus => return Err(refuse::unreadable("a set operation")),
        };
        let guarded = |output: &Output| output.columns.iter().any(|column| column.value.guarded());
        if left.open || right.open || left.columns.len() != right.columns.len() {
            if guarded(&left) || guarded(&right) {
                return Err(refuse::unreadable("the number of columns of a set operation"));
            }
            return Ok(Output { columns: left.columns, open: left.open || right.open });
        }
        let mut columns = Vec::with_capacity(left.columns.len());
        for (left, right) in left.columns.into_iter().zip(right.columns) {
            let value = self.combine(left.value, right.value, name)?;
            let value = self.text_at_last(value);
            if compares {
                match &value {
                    Value::Sealed(column) => self.equality(column, name)?,
                    Value::Pending { .. } | Value::Plain => {}
                    other => self.plain(other, name)?,
                }
            }
            let base = left.base.filter(|base| right.base == Some(*base));
            columns.push(Column { base, ..Column::computed(left.name, value) });
        }
        Ok(Output { columns, open: false })
    }

    /// VALUES: every column of it is one place.
    fn values(&mut self, scope: &Sc<'_>, values: &Values) -> Result<Output, Refusal> {
        let mut columns: Vec<Value> = Vec::new();
        for (index, row) in values.rows.iter().enumerate() {
            if index > 0 && row.content.len() != columns.len() {
                return Err(refuse::unreadable("VALUES lists of different lengths"));
            }
            for (place, expr) in row.content.iter().enumerate() {
                let value = self.value(scope, expr)?;
                if index == 0 {
                    columns.push(value);
                } else {
                    let before = std::mem::replace(&mut columns[place], Value::Plain);
                    columns[place] = self.combine(before, value, "VALUES")?;
                }
            }
        }
        let columns = columns
            .into_iter()
            .enumerate()
            .map(|(index, value)| Column::computed(format!("column{}", index + 1), value))
            .collect();
        Ok(Output { columns, open: false })
    }

    fn select(&mut self, outer: &Sc<'_>, select: &Select, order: Option<&OrderBy>) -> Result<Output, Refusal> {
        check_foreign(select)?;
        let scope = self.scope_of_from(outer, &select.from)?;
        let how = self.how;
        if let Some(selection) = &select.selection {
            self.choosing(|reader| reader.condition(&scope, selection))?;
            self.subject_in(&scope, selection);
        }
        let output = self.using(how, |reader| reader.projection(&scope, &select.projection))?;
        self.group_by(&scope, &output, select)?;
        if let Some(having) = &select.having {
            self.choosing(|reader| reader.condition(&scope, having))?;
        }
        for window in &select.named_window {
            if let NamedWindowExpr::WindowSpec(spec) = &window.1 {
                self.window(&scope, spec)?;
            }
        }
        match &select.distinct {
            None | Some(Distinct::All) => {}
            Some(Distinct::Distinct) => {
                let decided = |column: &&Col| !matches!(column.value, Value::Pending { .. });
                self.told_apart(&output.columns.iter().filter(decided).cloned().collect::<Vec<_>>(), "DISTINCT")?;
            }
            Some(Distinct::On(exprs)) => {
                for expr in exprs {
                    let value = self.sort_key(&scope, &output, expr)?;
                    self.grouped(&value, "DISTINCT ON")?;
                }
            }
        }
        if let Some(order) = order {
            for order in order_expressions(order)? {
                if order.with_fill.is_some() {
                    return Err(refuse::unreadable("ORDER BY"));
                }
                let value = self.sort_key(&scope, &output, &order.expr)?;
                self.plain(&value, "ORDER BY")?;
            }
        }
        self.into |= select.into.is_some();
        if self.nesting == 1 && self.request.keys != 0 {
            self.key = self.key_beside(&scope, select);
        }
        Ok(output)
    }

    /// GROUP BY: input columns first, then ordinals and output names.
    fn group_by(&mut self, scope: &Sc<'_>, output: &Output, select: &Select) -> Result<(), Refusal> {
        let GroupByExpr::Expressions(exprs, modifiers) = &select.group_by else {
            return Err(refuse::unreadable("GROUP BY ALL"));
        };
        if !modifiers.is_empty() {
            return Err(refuse::unreadable("GROUP BY"));
        }
        let mut columns = Vec::with_capacity(exprs.len());
        let mut sets = false;
        for expr in exprs {
            sets |= self.group_expression(scope, output, expr, &mut columns)?;
        }
        if sets {
            // A set may leave the key out.
            return columns.iter().try_for_each(|column| self.grouped(&column.value, "GROUP BY"));
        }
        self.told_apart(&columns, "GROUP BY")
    }

    /// Adds the columns that an item of GROUP BY means; whether it makes several sets of them.
    fn group_expression(
        &mut self,
        scope: &Sc<'_>,
        output: &Output,
        expr: &Expr,
        columns: &mut Vec<Col>,
    ) -> Result<bool, Refusal> {
        match expr {
            Expr::GroupingSets(sets) | Expr::Cube(sets) | Expr::Rollup(sets) => {
                for expr in sets.iter().flatten() {
                    self.group_expression(scope, output, expr, columns)?;
                }
                return Ok(true);
            }
            Expr::Tuple(exprs) => {
                let mut sets = false;
                for expr in exprs {
                    sets |= self.group_expression(scope, output, expr, columns)?;
                }
                return Ok(sets);
            }
            _ => {}
        }
        let shown = match expr {
            Expr::Identifier(ident) if matches!(scope.unqualified(&folded(ident)), Lookup::Missing) => {
                named(output, &folded(ident)).cloned()
            }
            _ => self.ordinal(output, expr)?,
        };
        columns.push(match shown {
            Some(column) => column,
            None => self.column_of(scope, expr, "")?,
        });
        Ok(false)
    }

    /// Rows are told apart by all these columns together. A row is known by its primary key, so the other columns of an
    /// entry whose whole key is among them change nothing, and may be randomized: rows of one key are the same row,
    /// or none at all (an outer join's NULLs).
    pub(super) fn told_apart(&mut self, columns: &[Col], operation: &str) -> Result<(), Refusal> {
        let present: HashSet<_> = columns.iter().filter_map(|column| Some((column.entry?, column.base?))).collect();
        for column in columns {
            if !self.follows_key(column, &present) {
                self.grouped(&column.value, operation)?;
            }
        }
        Ok(())
    }

    /// A sealed column that is not of its entry's key, while the whole key is among `present`. PostgreSQL cannot tell
    /// json apart at all.
    fn follows_key(&self, column: &Col, present: &HashSet<(u32, (u32, i16))>) -> bool {
        let (Some(entry), Some((oid, attnum)), Value::Sealed(sealed)) = (column.entry, column.base, &column.value)
        else {
            return false;
        };
        let key = self.rules.schema.relation(oid).map_or(&[][..], |relation| &relation.primary_key);
        sealed.ty.kind != Kind::Json
            && !key.contains(&attnum)
            && !key.is_empty()
            && key.iter().all(|&attnum| present.contains(&(entry, (oid, attnum))))
    }

    /// What ORDER BY or DISTINCT ON means: an ordinal, an output name, else an expression over input columns.
    fn sort_key(&mut self, scope: &Sc<'_>, output: &Output, expr: &Expr) -> Result<Value, Refusal> {
        if let Some(column) = self.ordinal(output, expr)? {
            return Ok(column.value);
        }
        if let Expr::Identifier(ident) = expr
            && let Some(column) = named(output, &folded(ident))
        {
            return Ok(column.value.clone());
        }
        self.value(scope, expr)
    }

    fn ordinal(&mut self, output: &Output, expr: &Expr) -> Result<Option<Col>, Refusal> {
        let Expr::Value(literal) = expr else { return Ok(None) };
        let sqlparser::ast::Value::Number(digits, _) = &literal.value else { return Ok(None) };
        let at = self.token_at(literal.span.start)?;
        self.met.insert(at);
        let Some(index) = digits.parse::<usize>().ok().and_then(|number| number.checked_sub(1)) else {
            return Ok(Some(Column::computed("", Value::Plain)));
        };
        match output.columns.get(index) {
            // Columns that are not known shift the others.
            _ if output.open && output.columns.iter().any(|column| column.value.guarded()) => {
                Err(refuse::unreadable("an output column's number"))
            }
            Some(column) => Ok(Some(column.clone())),
            None => Ok(Some(Column::computed("", Value::Plain))),
        }
    }

    /// ORDER BY of a set operation or VALUES: output names and ordinals only.
    fn order_outputs(&mut self, output: &Output, order: Option<&OrderBy>) -> Result<(), Refusal> {
        let Some(order) = order else { return Ok(()) };
        for order in order_expressions(order)? {
            let value = match (self.ordinal(output, &order.expr)?, &order.expr) {
                (Some(column), _) => column.value,
                (None, Expr::Identifier(ident)) => {
                    named(output, &folded(ident)).map_or(Value::Plain, |column| column.value.clone())
                }
                _ => return Err(refuse::unreadable("ORDER BY of a set operation")),
            };
            self.plain(&value, "ORDER BY")?;
        }
        Ok(())
    }

    /// A SELECT list or RETURNING.
    pub(super) fn projection(&mut self, scope: &Sc<'_>, items: &[SelectItem]) -> Result<Output, Refusal> {
        let mut output = Output::default();
        for item in items {
            match item {
                SelectItem::UnnamedExpr(expr) => {
                    let column = self.output_column(scope, expr, &output_name(expr))?;
                    output.columns.push(column);
                }
                SelectItem::ExprWithAlias { expr, alias } => {
                    let column = self.output_column(scope, expr, &folded(alias))?;
                    output.columns.push(column);
                }
                SelectItem::Wildcard(options) if no_options(options) => {
                    let columns = self.used_all(&scope.star)?;
                    output.columns.extend(columns);
                    output.open |= scope.rels.iter().any(|rel| rel.open);
                }
                SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::ObjectName(name), options)
                    if no_options(options) =>
                {
                    let names = parts(name).ok_or_else(|| refuse::unreadable("a row's name"))?;
                    let rel = match names.as_slice() {
                        [relation] => scope.rel(None, relation),
                        [.., schema, relation] => scope.rel(Some(schema), relation),
                        [] => None,
                    };
                    self.expand(rel.map(|rel| (rel.columns.clone(), rel.open)), &mut output)?;
                }
                SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::Expr(expr), options)
                    if no_options(options) =>
                {
                    self.expand_expression(scope, expr, &mut output)?;
                }
                _ => return Err(refuse::unreadable("an output column")),
            }
            within(output.columns.len(), OUTPUT_MAX)?;
        }
        Ok(output)
    }

    fn expand(&mut self, rel: Option<(Vec<Col>, bool)>, output: &mut Output) -> Result<(), Refusal> {
        let Some((columns, open)) = rel else {
            self.unknown = true;
            output.open = true;
            return Ok(());
        };
        let columns = self.used_all(&columns)?;
        output.columns.extend(columns);
        output.open |= open;
        Ok(())
    }

    /// `(e).*`: the row of a relation, or a composite value of unknown fields.
    fn expand_expression(&mut self, scope: &Sc<'_>, expr: &Expr, output: &mut Output) -> Result<(), Refusal> {
        let inner = match expr {
            Expr::Nested(inner) => inner,
            other => other,
        };
        if let Expr::Identifier(ident) = inner
            && let Lookup::Whole(rel) = scope.unqualified(&folded(ident))
        {
            let rel = (rel.columns.clone(), rel.open);
            return self.expand(Some(rel), output);
        }
        self.operands(scope, &[expr], "field selection")?;
        output.open = true;
        Ok(())
    }

    fn output_column(&mut self, scope: &Sc<'_>, expr: &Expr, name: &str) -> Result<Col, Refusal> {
        let mut column = self.column_of(scope, expr, name)?;
        if let Value::Row(_) | Value::Whole { .. } = column.value {
            self.plain(&column.value, "ROW()")?;
            column.value = Value::Plain;
        }
        Ok(column)
    }

    /// An expression as a column of that name.
    pub(super) fn column_of(&mut self, scope: &Sc<'_>, expr: &Expr, name: &str) -> Result<Col, Refusal> {
        let value = self.value(scope, expr)?;
        let (base, entry) = bare(scope, expr).map_or((None, None), |column| (column.base, column.entry));
        Ok(Column { base, entry, ..Column::computed(name, value) })
    }

    /// A relation named in FROM, TABLE: a query of a WITH clause first, if unqualified.
    pub(super) fn relation(&mut self, scope: &Sc<'_>, names: &[String]) -> Result<Rel<Value>, Refusal> {
        let name: Arc<str> = names.last().map_or("", String::as_str).into();
        if let [single] = names
            && let Some(cte) = scope.cte(single)
        {
            let output = cte.output.clone().ok_or_else(|| refuse::unreadable("a WITH clause that names itself"))?;
            return Ok(super::from::derived(name, output));
        }
        match self.find_parts(names)? {
            Found::Relation(relation) => Ok(self.entry(relation)),
            _ => {
                let schema = names.iter().rev().nth(1).map(|schema| schema.as_str().into());
                let rel = Rel { name, schema, columns: Vec::new(), open: true, guarded: false };
                Ok(rel)
            }
        }
    }

    /// A relation as an entry of FROM. A parent's key says nothing about the rows of its children, which are not
    /// partitions.
    fn entry(&mut self, relation: &Relation) -> Rel<Value> {
        let mut rel = self.rel(relation);
        let whole = match relation.kind {
            RelKind::Table => relation.children.is_empty(),
            RelKind::Partitioned => true,
            _ => false,
        };
        if whole && !relation.primary_key.is_empty() {
            self.entries += 1;
            for column in &mut rel.columns {
                column.entry = Some(self.entries);
            }
        }
        rel
    }
}

fn named<'o>(output: &'o Output, name: &str) -> Option<&'o Col> {
    output.columns.iter().find(|column| &*column.name == name)
}

/// The column that an expression is, if it is no more than its name.
pub(super) fn bare<'s>(scope: &'s Sc<'_>, expr: &Expr) -> Option<&'s Col> {
    let found = match expr {
        Expr::Nested(inner) => return bare(scope, inner),
        Expr::Identifier(ident) => scope.unqualified(&folded(ident)),
        Expr::CompoundIdentifier(idents) => {
            let names: Vec<String> = idents.iter().map(folded).collect();
            match names.as_slice() {
                [relation, column] => scope.qualified(None, relation, column),
                [.., schema, relation, column] => scope.qualified(Some(schema), relation, column),
                _ => return None,
            }
        }
        _ => return None,
    };
    match found {
        Lookup::Column { column, .. } => Some(column),
        _ => None,
    }
}

fn order_expressions(order: &OrderBy) -> Result<&[sqlparser::ast::OrderByExpr], Refusal> {
    match (&order.kind, &order.interpolate) {
        (OrderByKind::Expressions(exprs), None) => Ok(exprs),
        _ => Err(refuse::unreadable("ORDER BY")),
    }
}

/// The output under other names: `WITH c(a, b)`, `AS t(a, b)`.
pub(super) fn renamed(mut output: Output, columns: &[sqlparser::ast::TableAliasColumnDef]) -> Output {
    for (column, alias) in output.columns.iter_mut().zip(columns) {
        column.name = folded(&alias.name).into();
    }
    output
}

/// Clauses of other databases.
fn check_foreign(select: &Select) -> Result<(), Refusal> {
    let foreign = select.top.is_some()
        || select.exclude.is_some()
        || !select.lateral_views.is_empty()
        || select.prewhere.is_some()
        || !select.connect_by.is_empty()
        || !select.cluster_by.is_empty()
        || !select.distribute_by.is_empty()
        || !select.sort_by.is_empty()
        || select.qualify.is_some()
        || select.value_table_mode.is_some()
        || select.flavor != SelectFlavor::Standard
        || select.select_modifiers.as_ref().is_some_and(|modifiers| modifiers.is_any_set());
    if foreign { Err(refuse::unreadable("a clause of SELECT")) } else { Ok(()) }
}
