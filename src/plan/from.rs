//! FROM: relations, joins, derived tables, functions.

use std::sync::Arc;

use sqlparser::ast::{
    Expr, FunctionArg, FunctionArgExpr, Join, JoinConstraint, JoinOperator, ObjectName, TableAlias, TableFactor,
    TableSampleKind, TableWithJoins,
};

use super::How;
use super::query::renamed;
use super::reader::{Col, Output, Reader, Sc, folded};
use super::refuse;
use super::value::Value;
use crate::error::{Code, Refusal};
use crate::sql::resolve::{Column, Rel, Scope, parts};

/// One item of a FROM list: what its names mean, and its columns in the order of `*`.
#[derive(Clone, Debug, Default)]
pub(super) struct Item {
    pub(super) rels: Vec<Rel<Value>>,
    pub(super) star: Vec<Col>,
}

impl Item {
    fn of(rel: Rel<Value>) -> Self {
        Self { star: rel.columns.clone(), rels: vec![rel] }
    }

    fn open(&self) -> bool {
        self.rels.iter().any(|rel| rel.open)
    }
}

/// A query's output as a relation of that name.
pub(super) fn derived(name: Arc<str>, mut output: Output) -> Rel<Value> {
    for column in &mut output.columns {
        column.entry = None;
    }
    Rel {
        name,
        schema: None,
        guarded: output.columns.iter().any(|column| column.value.guarded()),
        columns: output.columns,
        open: output.open,
    }
}

/// Columns visible at one place: PostgreSQL's limit for a join.
const VISIBLE_MAX: usize = 32_767;

/// Text is bounded, what it stands for is not: each query of a WITH clause can double the one before.
pub(super) fn within(columns: usize, most: usize) -> Result<(), Refusal> {
    if columns <= most {
        return Ok(());
    }
    Err(Refusal::new(Code::Limit, format!("more than {most} columns in one place"), "Name the columns you need."))
}

fn unreadable() -> Refusal {
    refuse::unreadable("an item of FROM")
}

impl Reader<'_> {
    /// The scope of a FROM list.
    pub(super) fn scope_of_from<'p>(&mut self, outer: &'p Sc<'p>, list: &[TableWithJoins]) -> Result<Sc<'p>, Refusal> {
        let mut scope = Scope::within(Some(outer));
        self.add_from(outer, &mut scope, list)?;
        Ok(scope)
    }

    fn add_from(&mut self, outer: &Sc<'_>, scope: &mut Sc<'_>, list: &[TableWithJoins]) -> Result<(), Refusal> {
        for item in list {
            let item = self.joined(outer, scope, item)?;
            scope.rels.extend(item.rels);
            scope.star.extend(item.star);
            within(scope.star.len(), VISIBLE_MAX)?;
        }
        Ok(())
    }

    fn joined(&mut self, outer: &Sc<'_>, before: &Sc<'_>, item: &TableWithJoins) -> Result<Item, Refusal> {
        let mut left = self.factor(outer, before, &item.relation)?;
        for join in &item.joins {
            let mut lateral: Sc<'_> = Scope::within(Some(before));
            lateral.rels.clone_from(&left.rels);
            lateral.star.clone_from(&left.star);
            let right = self.factor(outer, &lateral, &join.relation)?;
            left = self.join(outer, left, right, join)?;
            within(left.star.len(), VISIBLE_MAX)?;
        }
        Ok(left)
    }

    fn join(&mut self, outer: &Sc<'_>, left: Item, right: Item, join: &Join) -> Result<Item, Refusal> {
        if join.global {
            return Err(unreadable());
        }
        let (constraint, keep) = match &join.join_operator {
            JoinOperator::Join(constraint)
            | JoinOperator::Inner(constraint)
            | JoinOperator::Left(constraint)
            | JoinOperator::LeftOuter(constraint)
            | JoinOperator::CrossJoin(constraint) => (constraint, Keep::Left),
            JoinOperator::Right(constraint) | JoinOperator::RightOuter(constraint) => (constraint, Keep::Right),
            JoinOperator::FullOuter(constraint) => (constraint, Keep::Neither),
            _ => return Err(unreadable()),
        };
        let names: Vec<String> = match constraint {
            JoinConstraint::Using(names) => names
                .iter()
                .map(|name| parts(name).filter(|parts| parts.len() == 1).and_then(|mut parts| parts.pop()))
                .collect::<Option<_>>()
                .ok_or_else(unreadable)?,
            JoinConstraint::Natural => {
                if left.open() || right.open() {
                    return Err(refuse::unreadable("NATURAL JOIN with a relation of unknown columns"));
                }
                let shared = |column: &&Col| right.star.iter().any(|other| other.name == column.name);
                left.star.iter().filter(shared).map(|column| column.name.to_string()).collect()
            }
            JoinConstraint::On(_) | JoinConstraint::None => Vec::new(),
        };
        let merged = self.choosing(|reader| reader.merge_columns(&left, &right, &names, keep))?;
        let rest = |star: Vec<Col>| star.into_iter().filter(|column| !names.iter().any(|name| **name == *column.name));
        let mut item = Item { rels: left.rels, star: merged };
        item.star.extend(rest(left.star));
        item.star.extend(rest(right.star));
        item.rels.extend(right.rels);
        if let JoinConstraint::On(condition) = constraint {
            let mut scope: Sc<'_> = Scope::within(Some(outer));
            scope.rels.clone_from(&item.rels);
            scope.star.clone_from(&item.star);
            self.choosing(|reader| reader.condition(&scope, condition))?;
        }
        Ok(item)
    }

    /// USING: both columns are compared and appear once.
    fn merge_columns(&mut self, left: &Item, right: &Item, names: &[String], keep: Keep) -> Result<Vec<Col>, Refusal> {
        let mut merged = Vec::with_capacity(names.len());
        for name in names {
            let column = |item: &Item| item.star.iter().find(|column| *column.name == **name).cloned();
            let (Some(left), Some(right)) = (column(left), column(right)) else {
                self.unknown |= !left.open() && !right.open();
                let seen = [column(left), column(right)].into_iter().flatten().next();
                if let Some(column) = seen {
                    let value = self.used(&column)?;
                    self.plain(&value, "USING")?;
                }
                merged.push(Column::computed(name.as_str(), Value::Plain));
                continue;
            };
            let (a, b) = (self.used(&left)?, self.used(&right)?);
            self.compare_values(a.clone(), b, "USING")?;
            let base = match keep {
                Keep::Left => left.base,
                Keep::Right => right.base,
                Keep::Neither => None,
            };
            let value = if matches!(a, Value::Sealed(_)) { a } else { Value::Plain };
            merged.push(Column { base, ..Column::computed(left.name, value) });
        }
        Ok(merged)
    }

    /// One relation of FROM. `before`: what a LATERAL one may refer to.
    pub(super) fn factor(&mut self, outer: &Sc<'_>, before: &Sc<'_>, factor: &TableFactor) -> Result<Item, Refusal> {
        match factor {
            TableFactor::Table {
                name,
                alias,
                args: None,
                with_hints,
                version: None,
                with_ordinality: false,
                partitions,
                json_path: None,
                sample,
                index_hints,
            } if with_hints.is_empty() && partitions.is_empty() && index_hints.is_empty() => {
                self.sample(outer, sample.as_ref())?;
                let names = parts(name).ok_or_else(unreadable)?;
                let rel = self.relation(outer, &names)?;
                Ok(Item::of(aliased(rel, alias.as_ref())?))
            }
            TableFactor::Table {
                name,
                alias,
                args: Some(args),
                with_hints,
                version: None,
                with_ordinality,
                partitions,
                json_path: None,
                sample: None,
                index_hints,
            } if with_hints.is_empty()
                && partitions.is_empty()
                && index_hints.is_empty()
                && args.settings.is_none() =>
            {
                self.table_function(before, name, &args.args, *with_ordinality, alias.as_ref())
            }
            TableFactor::Function { name, args, with_ordinality, alias, .. } => {
                self.table_function(before, name, args, *with_ordinality, alias.as_ref())
            }
            TableFactor::Derived { lateral, subquery, alias, sample: None } => {
                let scope = if *lateral { before } else { outer };
                let output = self.using(How::Read, |reader| reader.query(Some(scope), subquery))?;
                let name = alias.as_ref().map_or_else(String::new, |alias| folded(&alias.name));
                Ok(Item::of(aliased(derived(name.into(), output), alias.as_ref())?))
            }
            TableFactor::UNNEST {
                alias,
                array_exprs,
                with_offset: false,
                with_offset_alias: None,
                with_ordinality,
            } => self.unnest(before, array_exprs, *with_ordinality, alias.as_ref()),
            TableFactor::NestedJoin { table_with_joins, alias } => {
                let item = self.joined(outer, before, table_with_joins)?;
                let Some(alias) = alias else { return Ok(item) };
                let output = Output { open: item.open(), columns: item.star };
                let rel = derived(folded(&alias.name).into(), output);
                Ok(Item::of(aliased(rel, Some(alias))?))
            }
            _ => Err(unreadable()),
        }
    }

    fn sample(&mut self, outer: &Sc<'_>, sample: Option<&TableSampleKind>) -> Result<(), Refusal> {
        let Some(TableSampleKind::BeforeTableAlias(sample) | TableSampleKind::AfterTableAlias(sample)) = sample else {
            return Ok(());
        };
        if sample.bucket.is_some() || sample.offset.is_some() {
            return Err(refuse::unreadable("TABLESAMPLE"));
        }
        if let Some(quantity) = &sample.quantity {
            self.operands(outer, &[&quantity.value], "TABLESAMPLE")?;
        }
        if let Some(seed) = &sample.seed {
            let value = self.constant(&seed.value)?;
            self.plain(&value, "TABLESAMPLE")?;
        }
        Ok(())
    }

    /// `f(…) AS t(a, b)`.
    fn table_function(
        &mut self,
        before: &Sc<'_>,
        name: &ObjectName,
        args: &[FunctionArg],
        ordinality: bool,
        alias: Option<&TableAlias>,
    ) -> Result<Item, Refusal> {
        let names = parts(name).ok_or_else(unreadable)?;
        let last = names.last().cloned().unwrap_or_default();
        if let ([function], true) = (names.as_slice(), last == "unnest") {
            let exprs: Option<Vec<Expr>> = args
                .iter()
                .map(|arg| match arg {
                    FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr.clone()),
                    _ => None,
                })
                .collect();
            let exprs = exprs.ok_or_else(|| refuse::unreadable(&format!("{function}()")))?;
            return self.unnest(before, &exprs, ordinality, alias);
        }
        let shown = format!("{last}()");
        for arg in args {
            match arg {
                FunctionArg::Unnamed(FunctionArgExpr::Expr(expr))
                | FunctionArg::Named { arg: FunctionArgExpr::Expr(expr), .. }
                | FunctionArg::ExprNamed { name: Expr::Identifier(_), arg: FunctionArgExpr::Expr(expr), .. } => {
                    self.operands(before, &[expr], &shown)?;
                }
                _ => return Err(refuse::unreadable(&shown)),
            }
        }
        let typed = alias.is_some_and(|alias| alias.columns.iter().any(|column| column.data_type.is_some()));
        let single = names.len() == 1 && one_column(&last);
        let label = alias.map_or_else(|| last.clone(), |alias| folded(&alias.name));
        let mut columns: Vec<Col> = Vec::new();
        let plain = |name: String| Column::computed(name, Value::Plain);
        if typed || !single {
            columns.extend(alias.iter().flat_map(|alias| &alias.columns).map(|column| plain(folded(&column.name))));
        } else {
            columns.push(plain(label.clone()));
            if ordinality {
                columns.push(plain("ordinality".to_owned()));
            }
            for (column, alias) in columns.iter_mut().zip(alias.iter().flat_map(|alias| &alias.columns)) {
                column.name = folded(&alias.name).into();
            }
        }
        let open = !typed && !single;
        Ok(Item::of(Rel { name: label.into(), schema: None, columns, open, guarded: false }))
    }

    /// `unnest(a, b) AS t(x, y)`: elements of constants, or of arrays of cells.
    fn unnest(
        &mut self,
        before: &Sc<'_>,
        arrays: &[Expr],
        ordinality: bool,
        alias: Option<&TableAlias>,
    ) -> Result<Item, Refusal> {
        let mut columns: Vec<Col> = Vec::with_capacity(arrays.len() + 1);
        let label = alias.map_or_else(|| "unnest".to_owned(), |alias| folded(&alias.name));
        let single = if arrays.len() == 1 { label.clone() } else { "unnest".to_owned() };
        for array in arrays {
            let value = match self.value(before, array)? {
                Value::Pending { group, depth, ty } => {
                    Value::Pending { group, depth: depth.saturating_sub(1), ty: ty.element() }
                }
                Value::SealedArray(column) => Value::Sealed(column),
                other => {
                    self.plain(&other, "unnest()")?;
                    Value::Plain
                }
            };
            columns.push(Column::computed(single.as_str(), value));
        }
        // unnest of an array of composites has as many columns as the composite.
        let open = columns.iter().any(|column| matches!(column.value, Value::Plain));
        if ordinality {
            columns.push(Column::computed("ordinality", Value::Plain));
        }
        let output = renamed(Output { columns, open }, alias.map_or(&[], |alias| &alias.columns));
        Ok(Item::of(derived(label.into(), output)))
    }
}

/// Whose value a USING column shows.
#[derive(Clone, Copy)]
enum Keep {
    Left,
    Right,
    Neither,
}

/// The relation under its alias.
pub(super) fn aliased(mut rel: Rel<Value>, alias: Option<&TableAlias>) -> Result<Rel<Value>, Refusal> {
    let Some(alias) = alias else { return Ok(rel) };
    if alias.at.is_some() {
        return Err(unreadable());
    }
    rel.name = folded(&alias.name).into();
    rel.schema = None;
    let output = renamed(Output { columns: rel.columns, open: rel.open }, &alias.columns);
    rel.columns = output.columns;
    if rel.open && rel.columns.is_empty() {
        let plain = |name: String| Column::computed(name, Value::Plain);
        rel.columns = alias.columns.iter().map(|column| plain(folded(&column.name))).collect();
    }
    Ok(rel)
}

/// Functions of pg_catalog that return a set of one column.
fn one_column(name: &str) -> bool {
    matches!(
        name,
        "generate_series" | "generate_subscripts" | "regexp_split_to_table" | "regexp_matches" | "string_to_table"
    )
}
