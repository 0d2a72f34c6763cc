//! INSERT, and what assigning to a column means.

use std::sync::Arc;

use sqlparser::ast::{
    ConflictTarget, Expr, Ident, Insert, ObjectName, OnConflictAction, OnInsert, Query, SetExpr, TableObject,
};

use super::reader::{Col, Output, Reader, Sc, folded, leaf_is_array};
use super::refuse;
use super::typing::Type;
use super::value::Value;
use super::{How, SubjectFrom};
use crate::error::Refusal;
use crate::policy::rules::{SealedColumn, Treatment};
use crate::sql::lexer::TokenKind;
use crate::sql::resolve::{Column, Found, Rel, Scope, parts};
use crate::wire::value::assigns;

impl Reader<'_> {
    /// INSERT; the output is what it returns.
    pub(super) fn insert(&mut self, outer: Option<&Sc<'_>>, insert: &Insert) -> Result<Output, Refusal> {
        check_foreign(insert)?;
        self.writes = true;
        let TableObject::TableName(name) = &insert.table else { return Err(refuse::unreadable("INSERT INTO")) };
        let mut target = self.target(name)?;
        if let Some(alias) = &insert.table_alias {
            target.name = folded(&alias.alias).into();
            target.schema = None;
        }
        let places = self.places(&target, &insert.columns)?;
        if let Some(source) = &insert.source {
            let output = self.using(How::Read, |reader| reader.untyped_query(outer, source))?;
            self.store_all(&target, &places, output, insert.columns.is_empty())?;
            self.subject_of_values(&places, source);
        }
        let empty = Scope::within(None);
        let mut scope: Sc<'_> = Scope::within(Some(outer.unwrap_or(&empty)));
        scope.star.clone_from(&target.columns);
        scope.rels.push(target.clone());
        if let Some(on) = &insert.on {
            self.on_conflict(&scope, &target, on)?;
        }
        match &insert.returning {
            Some(items) => self.using(How::Read, |reader| reader.projection(&scope, items)),
            None => Ok(Output::default()),
        }
    }

    /// The relation that a statement changes.
    pub(super) fn target(&mut self, name: &ObjectName) -> Result<Rel<Value>, Refusal> {
        let (names, found) = self.find(name)?;
        Ok(match found {
            Found::Relation(relation) => self.rel(relation),
            _ => Rel {
                name: names.last().map_or("", String::as_str).into(),
                schema: names.iter().rev().nth(1).map(|schema| schema.as_str().into()),
                columns: Vec::new(),
                open: true,
                guarded: false,
            },
        })
    }

    /// The columns an INSERT fills, in order; `None` where the snapshot does not know one.
    pub(super) fn places(&mut self, target: &Rel<Value>, names: &[ObjectName]) -> Result<Vec<Option<Col>>, Refusal> {
        if names.is_empty() {
            return Ok(target.columns.iter().cloned().map(Some).collect());
        }
        names.iter().map(|name| self.place(target, name)).collect()
    }

    /// One column that is written: `a`, `a.field`, `a[1]`.
    pub(super) fn place(&mut self, target: &Rel<Value>, name: &ObjectName) -> Result<Option<Col>, Refusal> {
        let names = parts(name).ok_or_else(|| refuse::unreadable("a column's name"))?;
        let first = names.first().ok_or_else(|| refuse::unreadable("a column's name"))?;
        let column = target.columns.iter().find(|column| *column.name == **first).cloned();
        match &column {
            None if !target.open => {
                if target.guarded {
                    return Err(refuse::no_column(&target.name));
                }
                self.unknown = true;
            }
            Some(column) if names.len() > 1 && column.value.guarded() => {
                self.plain(&column.value.clone(), "field assignment")?;
            }
            _ => {}
        }
        Ok(column)
    }

    fn store_all(
        &mut self,
        target: &Rel<Value>,
        places: &[Option<Col>],
        output: Output,
        unlisted: bool,
    ) -> Result<(), Refusal> {
        if output.open {
            if target.guarded || output.columns.iter().any(|column| column.value.guarded()) {
                return Err(refuse::unreadable("the number of columns that INSERT fills"));
            }
            self.written(places);
            return Ok(());
        }
        if target.guarded && output.columns.len() > places.len() {
            return Err(refuse::unreadable("INSERT has more expressions than columns"));
        }
        if target.guarded && !unlisted && output.columns.len() < places.len() {
            return Err(refuse::unreadable("INSERT has more columns than expressions"));
        }
        for (index, column) in output.columns.into_iter().enumerate() {
            match places.get(index) {
                Some(Some(place)) => self.assign(place, column.value, false)?,
                _ => self.plain(&column.value, "INSERT")?,
            }
        }
        if !unlisted {
            self.written(places);
        }
        Ok(())
    }

    /// Columns are filled with values that nobody looks at one by one.
    pub(super) fn written(&mut self, places: &[Option<Col>]) {
        for place in places.iter().flatten() {
            self.touch(place.base, How::Written);
        }
    }

    /// A value is stored in a column. `own`: it comes from the same row, so nothing is copied.
    pub(super) fn assign(&mut self, place: &Col, value: Value, own: bool) -> Result<(), Refusal> {
        match &place.value {
            Value::Hidden(name) => return Err(refuse::hidden(&[name.to_string()])),
            Value::Untyped(name) => match value {
                Value::Pending { group, .. } if self.groups.only_null(group) => {}
                _ => return Err(refuse::untyped(name, "writing it")),
            },
            Value::Sealed(column) => self.store(&column.clone(), value, false, own)?,
            Value::SealedArray(column) => self.store(&column.clone(), value, true, own)?,
            _ => self.plain(&value, &format!("storing it in column {}", place.name))?,
        }
        self.touch(place.base, How::Written);
        Ok(())
    }

    fn store(&mut self, column: &Arc<SealedColumn>, value: Value, array: bool, own: bool) -> Result<(), Refusal> {
        if !self.class.may_write.contains(&column.id) {
            return Err(refuse::may_not_write(column));
        }
        match value {
            Value::Pending { group, depth, ty } => {
                let leaf = leaf_is_array(depth, array).ok_or_else(|| refuse::computed(column, "storing"))?;
                let kind = column.ty.kind;
                let element = if array { ty.element() } else { ty };
                if matches!(element, Type::Known(oid) if !assigns(oid, kind)) {
                    return Err(refuse::other_type(column, "storing"));
                }
                let own = Type::Known(if array { kind.array_oid() } else { kind.oid() });
                self.groups.settle(group, depth, own);
                self.groups.seal(group, column, leaf, false)
            }
            Value::Sealed(other) if !array && other.id == column.id => self.copies(column, own),
            Value::SealedArray(other) if array && other.id == column.id => self.copies(column, own),
            Value::Sealed(other) | Value::SealedArray(other) => Err(refuse::other_column(column, "copying", &other)),
            Value::Untyped(name) => Err(refuse::untyped(&name, "copying it")),
            Value::Hidden(name) => Err(refuse::hidden(&[name.to_string()])),
            Value::Plain | Value::Row(_) | Value::Whole { .. } => Err(refuse::computed(column, "storing")),
        }
    }

    /// Whoever does not see a cell does not put it where somebody else, or a cleared application, shows it to him.
    fn copies(&self, column: &SealedColumn, own: bool) -> Result<(), Refusal> {
        let sees = matches!(self.class.treatment(column.id), Treatment::Clear | Treatment::Sealed);
        if own || sees { Ok(()) } else { Err(refuse::may_not_copy(column)) }
    }

    /// The column stands inside an expression or condition of ON CONFLICT, whatever the parser was fed.
    fn is_inferred_from(&self, ident: &Ident) -> bool {
        let Ok(at @ 2..) = self.token_at(ident.span.start) else { return true };
        let punct = |at: usize, byte| self.tokens.get(at).is_some_and(|token| token.is_punct(byte));
        let word = |at: usize, word| self.tokens.get(at).is_some_and(|token| token.is_word(self.request.sql, word));
        let begins = punct(at - 1, b',') || (punct(at - 1, b'(') && word(at - 2, "conflict"));
        let ends = punct(at + 1, b',') || (punct(at + 1, b')') && (word(at + 2, "do") || word(at + 2, "where")));
        !(begins && ends)
    }

    fn on_conflict(&mut self, scope: &Sc<'_>, target: &Rel<Value>, on: &OnInsert) -> Result<(), Refusal> {
        let OnInsert::OnConflict(conflict) = on else { return Err(refuse::unreadable("ON DUPLICATE KEY")) };
        if let Some(ConflictTarget::Columns(columns)) = &conflict.conflict_target {
            for ident in columns {
                let name = folded(ident);
                match target.columns.iter().find(|column| *column.name == *name) {
                    Some(column) => {
                        let value = self.using(How::Searched, |reader| reader.used(column))?;
                        if self.is_inferred_from(ident) {
                            self.plain(&value, "an expression of ON CONFLICT")?;
                        }
                        self.grouped(&value, "ON CONFLICT")?;
                    }
                    None => self.unknown |= !target.open,
                }
            }
        }
        let OnConflictAction::DoUpdate(update) = &conflict.action else { return Ok(()) };
        let mut inner: Sc<'_> = Scope::within(scope.parent);
        inner.star.clone_from(&scope.star);
        inner.rels.clone_from(&scope.rels);
        // Unqualified names mean the target: EXCLUDED is named in full.
        let columns =
            target.columns.iter().map(|column| Column::computed(column.name.clone(), column.value.clone())).collect();
        inner.rels.push(Rel {
            name: "excluded".into(),
            schema: None,
            columns,
            open: target.open,
            guarded: target.guarded,
        });
        self.assignments(&inner, target, &update.assignments)?;
        if let Some(selection) = &update.selection {
            self.condition(&inner, selection)?;
        }
        Ok(())
    }

    /// `INSERT … VALUES`: the constants that name the subject.
    fn subject_of_values(&mut self, places: &[Option<Col>], source: &Query) {
        let SetExpr::Values(values) = &*source.body else { return };
        let key = places.iter().enumerate().find_map(|(index, place)| {
            let kind = self.subject_key(place.as_ref()?.base)?;
            Some((index, kind))
        });
        let Some((index, kind)) = key else { return };
        let exprs: Option<Vec<&Expr>> = values.rows.iter().map(|row| row.content.get(index)).collect();
        if let Some(from) = exprs.and_then(|exprs| self.named_by(&exprs)) {
            self.found_subject(kind, from);
        }
    }

    /// Constants that each name one subject: all parameters, or all literals.
    pub(super) fn named_by(&self, exprs: &[&Expr]) -> Option<SubjectFrom> {
        let mut parameters = Vec::new();
        let mut literals = Vec::new();
        for expr in exprs {
            let at = self.constant_token(expr)?;
            let token = self.tokens[at];
            match token.kind {
                TokenKind::Param(number) => parameters.push(number.checked_sub(1)?),
                TokenKind::String | TokenKind::DollarString | TokenKind::Number => literals.push(token.span),
                _ => return None,
            }
        }
        match (parameters.is_empty(), literals.is_empty()) {
            (false, true) => Some(SubjectFrom::Parameters(parameters)),
            (true, false) => Some(SubjectFrom::Literals(literals)),
            _ => None,
        }
    }

    fn constant_token(&self, expr: &Expr) -> Option<usize> {
        match expr {
            Expr::Value(value) => crate::sql::parse::token_at(self.tokens, value.span.start),
            Expr::Nested(inner) | Expr::Cast { expr: inner, .. } => self.constant_token(inner),
            _ => None,
        }
    }
}

/// Clauses of other databases.
fn check_foreign(insert: &Insert) -> Result<(), Refusal> {
    let foreign = insert.or.is_some()
        || insert.ignore
        || insert.overwrite
        || !insert.into
        || !insert.assignments.is_empty()
        || insert.partitioned.is_some()
        || !insert.after_columns.is_empty()
        || insert.has_table_keyword
        || insert.output.is_some()
        || insert.replace_into
        || insert.priority.is_some()
        || insert.insert_alias.is_some()
        || insert.settings.is_some()
        || insert.format_clause.is_some()
        || insert.multi_table_insert_type.is_some()
        || !insert.multi_table_into_clauses.is_empty()
        || !insert.multi_table_when_clauses.is_empty()
        || insert.multi_table_else_clause.is_some();
    if foreign { Err(refuse::unreadable("a clause of INSERT")) } else { Ok(()) }
}
