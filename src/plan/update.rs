//! UPDATE, DELETE, MERGE.

use sqlparser::ast::{
    Assignment, AssignmentTarget, Delete, Expr, FromTable, Merge, MergeAction, MergeInsertKind, MergeUpdateKind,
    OutputClause, TableFactor, TableWithJoins, Update, UpdateTableFromKind,
};

use super::How;
use super::from::aliased;
use super::reader::{Col, Output, Reader, Sc, folded};
use super::refuse;
use super::value::Value;
use crate::error::Refusal;
use crate::sql::resolve::{Rel, Scope};

impl Reader<'_> {
    /// UPDATE; the output is what it returns.
    pub(super) fn update(&mut self, outer: Option<&Sc<'_>>, update: &Update) -> Result<Output, Refusal> {
        let foreign = update.output.is_some() || update.or.is_some() || !update.order_by.is_empty();
        if foreign || update.limit.is_some() {
            return Err(refuse::unreadable("a clause of UPDATE"));
        }
        self.writes = true;
        let target = self.changed(&update.table)?;
        let empty = Scope::within(None);
        let outer = outer.unwrap_or(&empty);
        let mut scope: Sc<'_> = Scope::within(Some(outer));
        scope.star.clone_from(&target.columns);
        scope.rels.push(target.clone());
        match &update.from {
            None => {}
            Some(UpdateTableFromKind::AfterSet(list)) => self.beside(outer, &mut scope, list)?,
            Some(UpdateTableFromKind::BeforeSet(_)) => return Err(refuse::unreadable("a clause of UPDATE")),
        }
        self.assignments(&scope, &target, &update.assignments)?;
        self.filtered(&scope, update.selection.as_ref())?;
        self.returned(&scope, update.returning.as_deref())
    }

    /// DELETE; the output is what it returns.
    pub(super) fn delete(&mut self, outer: Option<&Sc<'_>>, delete: &Delete) -> Result<Output, Refusal> {
        let foreign = !delete.tables.is_empty() || delete.output.is_some() || !delete.order_by.is_empty();
        if foreign || delete.limit.is_some() {
            return Err(refuse::unreadable("a clause of DELETE"));
        }
        let FromTable::WithFromKeyword(from) = &delete.from else {
            return Err(refuse::unreadable("a clause of DELETE"));
        };
        let [table] = from.as_slice() else { return Err(refuse::unreadable("a clause of DELETE")) };
        self.writes = true;
        let target = self.changed(table)?;
        self.erased(&target.columns);
        let empty = Scope::within(None);
        let outer = outer.unwrap_or(&empty);
        let mut scope: Sc<'_> = Scope::within(Some(outer));
        scope.star.clone_from(&target.columns);
        scope.rels.push(target);
        if let Some(list) = &delete.using {
            self.beside(outer, &mut scope, list)?;
        }
        self.filtered(&scope, delete.selection.as_ref())?;
        self.returned(&scope, delete.returning.as_deref())
    }

    /// Rows go with all their cells, whether the statement names them or not.
    pub(super) fn erased(&mut self, columns: &[Col]) {
        for column in columns {
            self.touch(column.base, How::Written);
        }
    }

    /// The other relations of UPDATE and DELETE do not see the target.
    fn beside(&mut self, outer: &Sc<'_>, scope: &mut Sc<'_>, list: &[TableWithJoins]) -> Result<(), Refusal> {
        let beside = self.scope_of_from(outer, list)?;
        scope.rels.extend(beside.rels);
        scope.star.extend(beside.star);
        Ok(())
    }

    fn filtered(&mut self, scope: &Sc<'_>, selection: Option<&Expr>) -> Result<(), Refusal> {
        let Some(selection) = selection else { return Ok(()) };
        self.condition(scope, selection)?;
        self.subject_in(scope, selection);
        Ok(())
    }

    fn returned(&mut self, scope: &Sc<'_>, items: Option<&[sqlparser::ast::SelectItem]>) -> Result<Output, Refusal> {
        match items {
            Some(items) => self.using(How::Read, |reader| reader.projection(scope, items)),
            None => Ok(Output::default()),
        }
    }

    /// The relation that UPDATE or DELETE changes, under its alias.
    fn changed(&mut self, table: &TableWithJoins) -> Result<Rel<Value>, Refusal> {
        if !table.joins.is_empty() {
            return Err(refuse::unreadable("a join as target"));
        }
        self.changed_factor(&table.relation)
    }

    fn changed_factor(&mut self, factor: &TableFactor) -> Result<Rel<Value>, Refusal> {
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
                sample: None,
                index_hints,
            } if with_hints.is_empty() && partitions.is_empty() && index_hints.is_empty() => {
                let target = self.target(name)?;
                aliased(target, alias.as_ref())
            }
            _ => Err(refuse::unreadable("the target of the statement")),
        }
    }

    /// SET of UPDATE, ON CONFLICT and MERGE.
    pub(super) fn assignments(
        &mut self,
        scope: &Sc<'_>,
        target: &Rel<Value>,
        assignments: &[Assignment],
    ) -> Result<(), Refusal> {
        for assignment in assignments {
            let names = match &assignment.target {
                AssignmentTarget::ColumnName(name) => std::slice::from_ref(name),
                AssignmentTarget::Tuple(names) => names.as_slice(),
            };
            let places = names.iter().map(|name| self.place(target, name)).collect::<Result<Vec<_>, _>>()?;
            let before = std::mem::replace(&mut self.storing, true);
            let value = self.using(How::Read, |reader| reader.value(scope, &assignment.value));
            self.storing = before;
            let value = value?;
            let tuple = matches!(assignment.target, AssignmentTarget::Tuple(_));
            let own = own_row(&assignment.value, target);
            let values = match value {
                Value::Row(values) if tuple && values.len() == places.len() => values,
                value if places.len() == 1 => vec![value],
                value => {
                    let guarded = places.iter().flatten().any(|place| place.value.guarded());
                    if guarded {
                        return Err(refuse::unreadable("the values of a row assignment"));
                    }
                    self.plain(&value, "SET")?;
                    self.written(&places);
                    continue;
                }
            };
            for (place, value) in places.iter().zip(values) {
                match place {
                    Some(place) => self.assign(place, value, own)?,
                    None => self.plain(&value, "SET")?,
                }
            }
        }
        Ok(())
    }

    /// MERGE.
    pub(super) fn merge(&mut self, outer: Option<&Sc<'_>>, merge: &Merge) -> Result<Output, Refusal> {
        self.writes = true;
        let target = self.changed_factor(&merge.table)?;
        let empty = Scope::within(None);
        let outer = outer.unwrap_or(&empty);
        let beside: Sc<'_> = Scope::within(Some(outer));
        let source = self.factor(outer, &beside, &merge.source)?;
        let mut source_scope: Sc<'_> = Scope::within(Some(outer));
        source_scope.rels.clone_from(&source.rels);
        source_scope.star.clone_from(&source.star);
        let mut scope: Sc<'_> = Scope::within(Some(outer));
        scope.star.clone_from(&target.columns);
        scope.rels.push(target.clone());
        scope.rels.extend(source.rels);
        scope.star.extend(source.star);
        self.condition(&scope, &merge.on)?;
        for clause in &merge.clauses {
            if let Some(predicate) = &clause.predicate {
                self.condition(&scope, predicate)?;
            }
            self.merge_action(&scope, &source_scope, &target, &clause.action)?;
        }
        match &merge.output {
            None => Ok(Output::default()),
            Some(OutputClause::Returning { select_items, .. }) => {
                // RETURNING * of MERGE begins with the source's columns.
                if select_items.iter().any(|item| matches!(item, sqlparser::ast::SelectItem::Wildcard(_))) {
                    return Err(refuse::unreadable("MERGE … RETURNING *"));
                }
                self.returned(&scope, Some(select_items))
            }
            Some(OutputClause::Output { .. }) => Err(refuse::unreadable("a clause of MERGE")),
        }
    }

    fn merge_action(
        &mut self,
        scope: &Sc<'_>,
        source: &Sc<'_>,
        target: &Rel<Value>,
        action: &MergeAction,
    ) -> Result<(), Refusal> {
        match action {
            MergeAction::Delete { .. } => {
                self.erased(&target.columns);
                Ok(())
            }
            MergeAction::DoNothing { .. } => Ok(()),
            MergeAction::Update(update) => {
                let MergeUpdateKind::Set(assignments) = &update.kind else {
                    return Err(refuse::unreadable("a clause of MERGE"));
                };
                if update.update_predicate.is_some() || update.delete_predicate.is_some() {
                    return Err(refuse::unreadable("a clause of MERGE"));
                }
                self.assignments(scope, target, assignments)
            }
            MergeAction::Insert(insert) => {
                let MergeInsertKind::Values(values) = &insert.kind else {
                    return Err(refuse::unreadable("a clause of MERGE"));
                };
                if insert.insert_predicate.is_some() {
                    return Err(refuse::unreadable("a clause of MERGE"));
                }
                let places = self.places(target, &insert.columns)?;
                for row in &values.rows {
                    if target.guarded && row.content.len() > places.len() {
                        return Err(refuse::unreadable("MERGE has more expressions than columns"));
                    }
                    for (index, expr) in row.content.iter().enumerate() {
                        let value = self.using(How::Read, |reader| reader.value(source, expr))?;
                        match places.get(index) {
                            Some(Some(place)) => self.assign(place, value, false)?,
                            _ => self.plain(&value, "MERGE")?,
                        }
                    }
                }
                if !insert.columns.is_empty() {
                    self.written(&places);
                }
                Ok(())
            }
        }
    }
}

/// `EXCLUDED.a`, or a bare column of the target: a value of the row that is being written.
fn own_row(value: &Expr, target: &Rel<Value>) -> bool {
    match value {
        Expr::Nested(inner) => own_row(inner, target),
        Expr::CompoundIdentifier(idents) => match idents.as_slice() {
            [relation, _] => folded(relation) == "excluded" || *folded(relation) == *target.name,
            _ => false,
        },
        _ => false,
    }
}
