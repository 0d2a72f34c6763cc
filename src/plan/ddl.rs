//! Definitions and the statements that need no reading.

use std::ops::Range;
use std::sync::Arc;

use sqlparser::ast::{
    AlterColumnOperation, AlterTable, AlterTableOperation, CreateIndex, Expr, Ident, IndexType, ObjectName, Statement,
    TableConstraint,
};

use super::decide::{Text, sealed, unread_step};
use super::reader::{Reader, Sc, folded};
use super::refuse;
use super::value::Value;
use super::{How, Request, Step, StepKind, Touched};
use crate::error::Refusal;
use crate::policy::rules::{Copies, Mode};
use crate::sql::kind::{self, Kind};
use crate::sql::name::{ident, is_ident};
use crate::sql::resolve::{Found, Rel, Scope};
use crate::sql::{Token, mentions};

/// What CREATE makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Created {
    Table,
    Query,
    Index,
    Policy,
    Routine,
    /// TRIGGER, RULE: code that runs on the rows of a table.
    Hook,
    Sequence,
    Schema,
    Other,
}

impl Text<'_> {
    /// Everything but queries, data changes and COPY.
    pub(super) fn definition(
        &mut self,
        range: Range<usize>,
        named: bool,
        touches: &mut Vec<Touched>,
    ) -> Result<Step, Refusal> {
        let sql = self.request.sql;
        let mut step = unread_step(self.request, self.tokens, range.clone());
        step.far_reaching = true;
        match kind::kind(sql, self.tokens, range.clone()) {
            Kind::Create => self.create(range, named, step, touches),
            Kind::Alter if named && self.restricted => Err(refuse::function("ALTER")),
            Kind::Alter if named => self.alter(range, step, touches),
            Kind::Drop if named => Ok(protected(step, true)),
            Kind::Truncate if named => self.truncate(range, step, touches),
            _ => Ok(step),
        }
    }

    /// CREATE TABLE … AS, CREATE VIEW: a query is read.
    pub(super) fn creates_by_query(&self, range: &Range<usize>) -> bool {
        self.created(range) == Created::Query
    }

    /// TRUNCATE erases every row of the relations it names. It shows nothing, so nothing is refused; which relations
    /// CASCADE adds only the server knows.
    fn truncate(&mut self, range: Range<usize>, mut step: Step, touches: &mut Vec<Touched>) -> Result<Step, Refusal> {
        let names = truncated(self.request.sql, &self.tokens[range]);
        self.reading(touches, |reader| {
            for name in &names {
                match reader.names.find(name) {
                    Found::Relation(relation) => {
                        let columns = reader.columns(relation);
                        reader.erased(&columns);
                    }
                    Found::Unknown => reader.unknown = true,
                    Found::System | Found::Temporary | Found::OtherDatabase => {}
                }
            }
            Ok(())
        })?;
        step.touches = touches.as_slice().into();
        Ok(step)
    }

    fn created(&self, range: &Range<usize>) -> Created {
        let sql = self.request.sql;
        let own = &self.tokens[range.clone()];
        let word = |at: usize, word: &str| own.get(at).is_some_and(|token| token.is_word(sql, word));
        let mut at = 1;
        loop {
            let skipped = [
                "or",
                "replace",
                "temp",
                "temporary",
                "local",
                "global",
                "unlogged",
                "unique",
                "recursive",
                "constraint",
            ]
            .iter()
            .any(|skip| word(at, skip));
            if !skipped {
                break;
            }
            at += 1;
        }
        match () {
            () if word(at, "table") && kind::has_query(sql, own) => Created::Query,
            () if word(at, "table") => Created::Table,
            () if word(at, "view") || word(at, "materialized") => Created::Query,
            () if word(at, "index") => Created::Index,
            () if word(at, "policy") => Created::Policy,
            () if word(at, "function") || word(at, "procedure") => Created::Routine,
            () if word(at, "trigger") || word(at, "rule") || word(at, "event") => Created::Hook,
            () if word(at, "sequence") => Created::Sequence,
            () if word(at, "schema") => Created::Schema,
            () => Created::Other,
        }
    }

    fn create(
        &mut self,
        range: Range<usize>,
        named: bool,
        step: Step,
        touches: &mut Vec<Touched>,
    ) -> Result<Step, Refusal> {
        let sql = self.request.sql;
        let own = &self.tokens[range.clone()];
        let has = |word: &str| own.iter().any(|token| token.is_word(sql, word));
        let created = self.created(&range);
        if self.restricted {
            match created {
                Created::Table | Created::Sequence | Created::Index => {}
                Created::Query if !has("view") => {}
                Created::Schema if !has("view") && !has("trigger") => {}
                _ => return Err(refuse::function("this kind of CREATE")),
            }
        }
        match created {
            Created::Query => {
                let query = kind::defining_query(sql, self.tokens, range.clone())
                    .ok_or_else(|| refuse::unreadable("the query of a definition"))?;
                self.shows = None;
                let (output, _) = self.read_tree(query, touches)?;
                let mut step = protected(step, false);
                step.touches = touches.as_slice().into();
                step.fields = Some(Vec::new());
                let head = own.iter().take_while(|token| !token.is_word(sql, "as"));
                if head.into_iter().any(|token| token.is_word(sql, "table")) {
                    step.shows = self.shows.take();
                    self.copies(&mut step, range.clone())?;
                }
                if sealed(&output).is_some() {
                    self.creates_sealed(&mut step, range)?;
                }
                Ok(step)
            }
            Created::Table if self.may_copy_sealed(named, own) && ["like", "inherits", "of"].into_iter().any(has) => {
                let mut step = step;
                self.creates_sealed(&mut step, range)?;
                Ok(step)
            }
            Created::Index if named => {
                self.read_definition(range, step, touches, |reader, statement| reader.created_index(statement))
            }
            Created::Policy if named => {
                self.read_definition(range, step, touches, |reader, statement| reader.created_policy(statement))
            }
            Created::Hook if named => Err(refuse::unreadable("a trigger or rule on a protected table")),
            Created::Routine if named && (has("atomic") || has("return")) => {
                Err(refuse::unreadable("the body of a routine"))
            }
            Created::Schema if named => Err(refuse::unreadable("CREATE SCHEMA with definitions inside")),
            Created::Other if named && has("where") => Err(refuse::unreadable("a condition in a definition")),
            _ => Ok(step),
        }
    }

    /// A definition by the columns of what it names may have sealed ones. Where the policy is only observed, of a table
    /// without any nothing is kept.
    fn may_copy_sealed(&self, named: bool, own: &[Token]) -> bool {
        let rules = self.request.rules;
        let observed = rules.observed(self.request.class).is_some();
        named && (!observed || mentions(self.request.sql, own, rules.guarded_names()))
    }

    /// A table is made of what [`Step::shows`]. One that ends with the session is not a copy that stays.
    pub(super) fn copies(&self, step: &mut Step, range: Range<usize>) -> Result<(), Refusal> {
        let (sql, own) = (self.request.sql, range.clone());
        let made = match kind::kind(sql, self.tokens, own.clone()) {
            Kind::Explain => kind::inner(sql, self.tokens, own).map_or(range, |inner| inner.range),
            _ => range,
        };
        if kind::created(sql, self.tokens, made).is_some_and(|made| made.temporary) {
            step.shows = None;
        }
        let Request { rules, class, .. } = *self.request;
        let refused = rules.copies == Copies::Refuse && rules.observed(class).is_none();
        match &step.shows {
            Some(column) if refused => Err(refuse::copy(column)),
            _ => Ok(()),
        }
    }

    /// A relation with sealed columns is made. The catalog is read for everybody, so it never shows a temporary one.
    pub(super) fn creates_sealed(&self, step: &mut Step, range: Range<usize>) -> Result<(), Refusal> {
        let made = kind::created(self.request.sql, self.tokens, range)
            .ok_or_else(|| refuse::unreadable("the name of what it makes"))?;
        if made.temporary {
            return Err(refuse::temporary());
        }
        step.creates_sealed = Some(made.name.into());
        Ok(())
    }

    fn alter(&mut self, range: Range<usize>, step: Step, touches: &mut Vec<Touched>) -> Result<Step, Refusal> {
        let sql = self.request.sql;
        let own = &self.tokens[range.clone()];
        let has = |word: &str| own.iter().any(|token| token.is_word(sql, word));
        if own.get(1).is_some_and(|token| token.is_word(sql, "policy")) && (has("using") || has("check")) {
            return Err(refuse::unreadable("the condition of a policy"));
        }
        if !own.get(1).is_some_and(|token| token.is_word(sql, "table")) {
            return Ok(protected(step, true));
        }
        let judged = ["type", "default", "check", "exclude", "generated", "using", "add", "unique", "primary"];
        if !judged.iter().any(|word| has(word)) {
            return Ok(protected(step, true));
        }
        self.read_definition(range, step, touches, |reader, statement| reader.altered_table(statement))
    }

    fn read_definition(
        &mut self,
        range: Range<usize>,
        mut step: Step,
        touches: &mut Vec<Touched>,
        read: impl FnOnce(&mut Reader<'_>, &Statement) -> Result<bool, Refusal>,
    ) -> Result<Step, Refusal> {
        let changes = self.with_reader(range, touches, read)?;
        step.touches = touches.as_slice().into();
        step.fields = Some(Vec::new());
        Ok(protected(step, changes))
    }
}

/// TRUNCATE [TABLE] { [ONLY] name [*] }, … and options, which are words that no comma or dot introduces.
fn truncated(sql: &str, own: &[Token]) -> Vec<Vec<String>> {
    let mut names: Vec<Vec<String>> = vec![Vec::new()];
    let mut wanted = true;
    for token in own.iter().skip(1) {
        if token.is_punct(b',') {
            names.push(Vec::new());
            wanted = true;
        } else if token.is_punct(b'.') {
            wanted = true;
        } else if is_ident(token) {
            let noise = token.is_word(sql, "table") || token.is_word(sql, "only");
            if !wanted {
                break;
            }
            if !noise && let Some(name) = names.last_mut() {
                name.push(ident(sql, token).into_owned());
                wanted = false;
            }
        }
    }
    names
}

/// The step's `protected` flag, where it has one.
fn protected(mut step: Step, changes: bool) -> Step {
    if let StepKind::Ddl { protected, .. } = &mut step.kind {
        *protected = changes;
    }
    step
}

impl Reader<'_> {
    fn table_scope(&mut self, name: &ObjectName) -> Result<(Rel<Value>, bool), Refusal> {
        let (_, found) = self.find(name)?;
        match found {
            Found::Relation(relation) => {
                let changes = self.rules.tables.contains_key(&relation.oid)
                    || relation.columns.iter().any(|column| column.sealed.is_some());
                Ok((self.rel(relation), changes))
            }
            _ => {
                Ok((Rel { name: Arc::from(""), schema: None, columns: Vec::new(), open: true, guarded: false }, false))
            }
        }
    }

    fn scope_of(rel: Rel<Value>) -> Sc<'static> {
        let mut scope: Sc<'static> = Scope::within(None);
        scope.star.clone_from(&rel.columns);
        scope.rels.push(rel);
        scope
    }

    fn created_index(&mut self, statement: &Statement) -> Result<bool, Refusal> {
        let Statement::CreateIndex(index) = statement else { return Err(refuse::unreadable("CREATE INDEX")) };
        let CreateIndex { table_name, using, columns, predicate, index_options, alter_options, .. } = index;
        if !index_options.is_empty() || !alter_options.is_empty() {
            return Err(refuse::unreadable("CREATE INDEX"));
        }
        let (rel, _) = self.table_scope(table_name)?;
        let scope = Self::scope_of(rel);
        for column in columns {
            let value = self.value(&scope, &column.column.expr)?;
            let Value::Sealed(sealed) = &value else {
                self.plain(&value, "an index expression")?;
                continue;
            };
            let plain = matches!(column.column.expr, Expr::Identifier(_))
                && matches!(using, None | Some(IndexType::BTree | IndexType::Hash))
                && column.operator_class.is_none();
            if sealed.mode != Mode::Deterministic || !plain {
                return Err(refuse::sealed_use(sealed, "this index"));
            }
        }
        if let Some(predicate) = predicate {
            self.condition(&scope, predicate)?;
        }
        Ok(false)
    }

    fn created_policy(&mut self, statement: &Statement) -> Result<bool, Refusal> {
        let Statement::CreatePolicy(policy) = statement else { return Err(refuse::unreadable("CREATE POLICY")) };
        let (rel, _) = self.table_scope(&policy.table_name)?;
        let scope = Self::scope_of(rel);
        for condition in [&policy.using, &policy.with_check].into_iter().flatten() {
            self.condition(&scope, condition)?;
        }
        Ok(true)
    }

    fn altered_table(&mut self, statement: &Statement) -> Result<bool, Refusal> {
        let Statement::AlterTable(AlterTable { name, operations, .. }) = statement else {
            return Err(refuse::unreadable("ALTER TABLE"));
        };
        let (rel, changes) = self.table_scope(name)?;
        let scope = Self::scope_of(rel.clone());
        for operation in operations {
            self.altered(&scope, &rel, operation)?;
        }
        Ok(changes)
    }

    fn altered(&mut self, scope: &Sc<'_>, rel: &Rel<Value>, operation: &AlterTableOperation) -> Result<(), Refusal> {
        match operation {
            AlterTableOperation::AlterColumn { column_name, op } => {
                let column = rel.columns.iter().find(|column| *column.name == *folded(column_name)).cloned();
                let Some(column) = column.filter(|column| column.value.guarded()) else {
                    return match op {
                        AlterColumnOperation::SetDataType { using: Some(using), .. } => {
                            self.operands(scope, &[using], "USING").map(|_| ())
                        }
                        AlterColumnOperation::SetDefault { value } => {
                            self.operands(scope, &[value], "DEFAULT").map(|_| ())
                        }
                        _ => Ok(()),
                    };
                };
                match op {
                    AlterColumnOperation::SetNotNull
                    | AlterColumnOperation::DropNotNull
                    | AlterColumnOperation::DropDefault => Ok(()),
                    AlterColumnOperation::SetDefault { value } => {
                        let value = self.value(scope, value)?;
                        self.assign(&column, value, false)
                    }
                    AlterColumnOperation::SetDataType { .. } | AlterColumnOperation::AddGenerated { .. } => {
                        self.plain(&column.value, "ALTER COLUMN TYPE")
                    }
                }
            }
            AlterTableOperation::AddConstraint { constraint, .. } => self.constraint(scope, rel, constraint),
            AlterTableOperation::AddColumn { column_def, .. } => {
                use sqlparser::ast::ColumnOption;
                for option in &column_def.options {
                    match &option.option {
                        ColumnOption::Default(value) => self.operands(scope, &[value], "DEFAULT").map(|_| ())?,
                        ColumnOption::Check(check) => self.check(scope, &check.expr)?,
                        ColumnOption::Generated { generation_expr: Some(expr), .. } => {
                            self.operands(scope, &[expr], "GENERATED").map(|_| ())?;
                        }
                        _ => {}
                    }
                }
                Ok(())
            }
            AlterTableOperation::DropColumn { .. }
            | AlterTableOperation::DropConstraint { .. }
            | AlterTableOperation::RenameColumn { .. }
            | AlterTableOperation::RenameTable { .. }
            | AlterTableOperation::RenameConstraint { .. }
            | AlterTableOperation::OwnerTo { .. }
            | AlterTableOperation::ValidateConstraint { .. }
            | AlterTableOperation::ReplicaIdentity { .. } => Ok(()),
            _ => Err(refuse::unreadable("a part of ALTER TABLE")),
        }
    }

    fn constraint(&mut self, scope: &Sc<'_>, rel: &Rel<Value>, constraint: &TableConstraint) -> Result<(), Refusal> {
        let mut names: Vec<&Ident> = Vec::new();
        match constraint {
            TableConstraint::Check(check) => return self.check(scope, &check.expr),
            TableConstraint::ForeignKey(key) => names.extend(&key.columns),
            TableConstraint::Unique(key) => {
                for column in &key.columns {
                    let value = self.value(scope, &column.column.expr)?;
                    self.grouped(&value, "UNIQUE")?;
                }
            }
            TableConstraint::PrimaryKey(key) => {
                for column in &key.columns {
                    let value = self.value(scope, &column.column.expr)?;
                    self.grouped(&value, "PRIMARY KEY")?;
                }
            }
            TableConstraint::PrimaryKeyUsingIndex(_) | TableConstraint::UniqueUsingIndex(_) => {}
            _ => return Err(refuse::unreadable("a constraint")),
        }
        for name in names {
            let column = rel.columns.iter().find(|column| *column.name == *folded(name)).cloned();
            if let Some(column) = column {
                self.grouped(&column.value, "FOREIGN KEY")?;
            }
        }
        Ok(())
    }

    /// CHECK: only over plain columns.
    fn check(&mut self, scope: &Sc<'_>, expr: &Expr) -> Result<(), Refusal> {
        let before = self.touches.len();
        self.using(How::Searched, |reader| reader.operands(scope, &[expr], "CHECK").map(|_| ()))?;
        let sealed = self.touches[before..].iter().find(|touched| touched.id != 0);
        match sealed.and_then(|touched| self.rules.by_id.get(&touched.id)) {
            Some(column) => Err(refuse::sealed_use(column, "CHECK")),
            None => Ok(()),
        }
    }
}
