//! The reading of one SQL statement: what it finds about names, columns and constants is kept here.
//!
//! In: tree and tokens of one statement, rules, the actor's class. Out: edits, parameter places, touches. Every method
//! either understands its part completely or refuses.

use std::collections::HashSet;
use std::sync::Arc;

use sqlparser::ast::{Ident, ObjectName};

use super::refuse;
use super::typing::{Type, common, operand, same_category, same_cells, together};
use super::value::{Groups, Leaf, Value};
use super::{How, Request, SubjectFrom, SubjectPlan, Touched};
use crate::error::Refusal;
use crate::policy::rules::{ActorClass, Mode, Rules, SealedColumn, Treatment};
use crate::sql::lexer::{Token, TokenKind};
use crate::sql::resolve::{Column, Found, Names, Rel, Scope};
use crate::sql::schema::{RelKind, Relation};
use crate::wire::types::{Kind, SqlType};
use crate::wire::value;

/// A visible column with its value.
pub(super) type Col = Column<Value>;
/// Names visible at one place.
pub(super) type Sc<'p> = Scope<'p, Value, Cte>;

/// A query of a WITH clause.
#[derive(Clone, Debug)]
pub(super) struct Cte {
    /// `None`: not read yet (it refers to itself or to a later one).
    pub(super) output: Option<Output>,
}

/// Columns of a query.
#[derive(Clone, Debug, Default)]
pub(super) struct Output {
    pub(super) columns: Vec<Col>,
    /// There may be more columns than these, or others.
    pub(super) open: bool,
}

/// What a reading needs and finds.
pub(super) struct Reader<'a> {
    pub(super) request: &'a Request<'a>,
    pub(super) rules: &'a Rules,
    pub(super) class: &'a ActorClass,
    pub(super) names: Names<'a>,
    pub(super) tokens: &'a [Token],
    pub(super) groups: Groups,
    pub(super) touches: Vec<Touched>,
    touched: HashSet<Touched>,
    /// Tokens of literals and parameters that the reading has met.
    pub(super) met: HashSet<usize>,
    /// How columns met now are used.
    pub(super) how: How,
    /// A relation or column is not in the snapshot.
    pub(super) unknown: bool,
    /// A relation is not in the snapshot.
    pub(super) unknown_relation: bool,
    /// A protected relation was met.
    pub(super) protected: bool,
    /// A plaintext column that some class may not see was read, other than to choose rows.
    pub(super) shows: Option<Arc<str>>,
    /// Clauses around the expression being read that choose rows.
    choosing: u32,
    /// INSERT, UPDATE, DELETE or MERGE was met.
    pub(super) writes: bool,
    /// SELECT … INTO was met.
    pub(super) into: bool,
    /// The value being read is assigned to a column.
    pub(super) storing: bool,
    /// Entries of FROM met whose rows are known by their key.
    pub(super) entries: u32,
    /// Queries around the one being read; the statement's own is 1.
    pub(super) nesting: u32,
    /// Subject candidates from WHERE and INSERT.
    pub(super) subject: Option<SubjectPlan>,
    /// Where the key stands that the statement's own SELECT does not return.
    pub(super) key: Option<super::key::Key>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(request: &'a Request<'a>, temporary: &'a HashSet<String>, tokens: &'a [Token]) -> Self {
        let rules = request.rules;
        Self {
            request,
            rules,
            class: rules.class(request.class),
            names: Names { schema: &rules.schema, path: request.search_path, temporary },
            tokens,
            groups: Groups::default(),
            touches: Vec::new(),
            touched: HashSet::new(),
            met: HashSet::new(),
            how: How::Read,
            unknown: false,
            unknown_relation: false,
            protected: false,
            shows: None,
            choosing: 0,
            writes: false,
            into: false,
            storing: false,
            entries: 0,
            nesting: 0,
            subject: None,
            key: None,
        }
    }

    /// Runs `f` with columns counted as used in that way.
    pub(super) fn using<T>(&mut self, how: How, f: impl FnOnce(&mut Self) -> T) -> T {
        let before = std::mem::replace(&mut self.how, how);
        let result = f(self);
        self.how = before;
        result
    }

    /// Reads WHERE, ON, USING or HAVING: what chooses rows is searched, and not in them.
    pub(super) fn choosing<T>(&mut self, f: impl FnOnce(&mut Self) -> T) -> T {
        self.choosing += 1;
        let result = self.using(How::Searched, f);
        self.choosing -= 1;
        result
    }

    /// Index of the token at a position of the tree.
    pub(super) fn token_at(&self, location: sqlparser::tokenizer::Location) -> Result<usize, Refusal> {
        crate::sql::parse::token_at(self.tokens, location)
            .ok_or_else(|| refuse::unreadable("a position is not certain"))
    }

    /// Every string and parameter of the statement must have been met, else something was skipped.
    pub(super) fn complete(&self, range: std::ops::Range<usize>) -> Result<(), Refusal> {
        let constant = |kind| matches!(kind, TokenKind::Param(_) | TokenKind::String | TokenKind::DollarString);
        let skipped = range.into_iter().any(|at| constant(self.tokens[at].kind) && !self.met.contains(&at));
        if skipped { Err(refuse::unreadable("the place of a literal or parameter is not certain")) } else { Ok(()) }
    }

    /// A group for a lone constant.
    pub(super) fn pending(&mut self, leaf: Leaf) -> Value {
        let ty = leaf.ty;
        Value::Pending { group: self.groups.add(vec![leaf]), depth: 0, ty }
    }

    /// Records a touch.
    pub(super) fn touch(&mut self, base: Option<(u32, i16)>, how: How) {
        let Some((oid, attnum)) = base else { return };
        let Some(relation) = self.rules.schema.relation(oid) else { return };
        let behind = self.behind_view(oid).map(|table| table.oid);
        // Columns that a lens passes are the table's own.
        let how = if behind.is_some() && how == How::Read { How::Masked } else { how };
        let table = self.rules.tables.get(&behind.unwrap_or(oid));
        if table.is_none() && !self.reads_protected(relation) {
            return;
        }
        let Some(column) = relation.column_at(attnum) else { return };
        let touched = Touched {
            relation: table.map_or_else(|| relation.qualified().into(), |table| table.name.clone()),
            column: column.name.clone(),
            id: self.rules.sealed_at(oid, attnum).map_or(0, |column| column.id),
            how,
        };
        let reads = self.choosing == 0 && matches!(how, How::Read | How::Searched) && touched.id == 0;
        if reads && self.shows.is_none() && self.rules.hidden_from_some((oid, attnum)) {
            self.shows = Some(format!("{}.{}", touched.relation, touched.column).into());
        }
        if self.touched.insert(touched.clone()) {
            self.touches.push(touched);
        }
    }

    /// Records a touch of a sealed column.
    pub(super) fn touch_sealed(&mut self, column: &SealedColumn, how: How) {
        self.touch(Some((column.relation_oid, column.attnum)), how);
    }

    /// A view over protected tables.
    pub(super) fn reads_protected(&self, relation: &Relation) -> bool {
        relation.reads.iter().any(|oid| self.rules.tables.contains_key(oid))
    }

    /// The value of a column that is used; refused if the class may not see it.
    pub(super) fn used(&mut self, column: &Col) -> Result<Value, Refusal> {
        match &column.value {
            Value::Hidden(name) => return Err(refuse::hidden(&[name.to_string()])),
            Value::Sealed(sealed) | Value::SealedArray(sealed)
                if self.class.treatment(sealed.id) == Treatment::Deny =>
            {
                return Err(refuse::denied(sealed));
            }
            _ => {}
        }
        let how = self.how;
        self.touch(column.base, how);
        Ok(column.value.clone())
    }

    /// All columns of a `*`; refused naming every column above clearance.
    pub(super) fn used_all(&mut self, columns: &[Col]) -> Result<Vec<Col>, Refusal> {
        let hidden: Vec<String> = columns
            .iter()
            .filter_map(|column| match &column.value {
                Value::Hidden(name) => Some(name.to_string()),
                _ => None,
            })
            .collect();
        if !hidden.is_empty() {
            return Err(refuse::hidden(&hidden));
        }
        for column in columns {
            self.used(column)?;
        }
        Ok(columns.to_vec())
    }

    /// The value stands where only plain values may: sealed ones are refused, constants stay as they are.
    pub(super) fn plain(&mut self, value: &Value, operation: &str) -> Result<(), Refusal> {
        match value {
            Value::Plain => Ok(()),
            Value::Pending { group, .. } => self.groups.plain(*group),
            Value::Sealed(column) | Value::SealedArray(column) => Err(refuse::sealed_use(column, operation)),
            Value::Untyped(name) => Err(refuse::untyped(name, operation)),
            Value::Hidden(name) => Err(refuse::hidden(&[name.to_string()])),
            Value::Row(values) => values.iter().try_for_each(|value| self.plain(value, operation)),
            Value::Whole { relation, above } => Err(refuse::whole_row(relation, *above)),
        }
    }

    /// Cells of one column are compared with each other.
    pub(super) fn equality(&mut self, column: &SealedColumn, operation: &str) -> Result<(), Refusal> {
        if column.mode != Mode::Deterministic {
            return Err(refuse::sealed_use(column, operation));
        }
        let visible = matches!(self.class.treatment(column.id), Treatment::Clear | Treatment::Mask | Treatment::Sealed);
        if visible || self.class.may_search.contains(&column.id) { Ok(()) } else { Err(refuse::may_not_search(column)) }
    }

    /// A constant is compared with cells of the column.
    pub(super) fn search(
        &mut self,
        (group, depth, ty): (usize, i8, Type),
        column: &Arc<SealedColumn>,
        operation: &str,
    ) -> Result<(), Refusal> {
        let array = leaf_is_array(depth, false).ok_or_else(|| refuse::sealed_use(column, operation))?;
        if column.mode != Mode::Deterministic {
            return Err(refuse::sealed_use(column, operation));
        }
        if !self.groups.only_null(group) && !self.class.may_search.contains(&column.id) {
            return Err(refuse::may_not_search(column));
        }
        match ty {
            Type::Unknown => {
                self.groups.settle(group, depth, Type::Known(operand(column.ty.kind).oid()));
            }
            Type::Known(oid) if !value::compares(column.ty.kind, oid) => {
                return Err(refuse::no_operator(column, operation));
            }
            Type::Known(_) | Type::Foreign => {}
        }
        self.touch_sealed(column, How::Searched);
        self.groups.seal(group, column, array, true)
    }

    /// The value goes where cells of one value are told apart (GROUP BY, DISTINCT, UNION, …).
    pub(super) fn grouped(&mut self, value: &Value, operation: &str) -> Result<(), Refusal> {
        match value {
            Value::Sealed(column) => self.equality(column, operation),
            Value::Row(values) => values.iter().try_for_each(|value| self.grouped(value, operation)),
            other => self.plain(other, operation),
        }
    }

    /// Two values in one column or branch.
    pub(super) fn combine(&mut self, left: Value, right: Value, operation: &str) -> Result<Value, Refusal> {
        match (left, right) {
            (Value::Pending { group, depth, ty }, Value::Pending { group: other, depth: same, ty: right })
                if depth == same =>
            {
                Ok(Value::Pending { group: self.groups.merge(group, other)?, depth, ty: together(ty, right) })
            }
            (Value::Sealed(column), Value::Pending { group, depth, ty }) => {
                let shown = self.fill((group, depth, ty), &column, true, operation)?;
                Ok(Value::Sealed(shown))
            }
            (Value::Pending { group, depth, ty }, Value::Sealed(column)) => {
                let shown = self.fill((group, depth, ty), &column, false, operation)?;
                Ok(Value::Sealed(shown))
            }
            (Value::SealedArray(column), Value::Pending { group, depth, ty })
            | (Value::Pending { group, depth, ty }, Value::SealedArray(column)) => {
                let array = leaf_is_array(depth, true).ok_or_else(|| refuse::mixed(&column, operation))?;
                if !matches!(ty.element(), Type::Unknown) && ty.element() != Type::Known(column.ty.kind.oid()) {
                    return Err(refuse::other_type(&column, operation));
                }
                self.groups.settle(group, depth, Type::Known(column.ty.kind.array_oid()));
                self.fill_group(group, &column, array)?;
                Ok(Value::SealedArray(column))
            }
            (Value::Sealed(column), Value::Sealed(other)) if column.id == other.id => {
                let kind = common(column.ty.kind, other.ty.kind).unwrap_or(column.ty.kind);
                let typmod = if column.ty.typmod == other.ty.typmod { column.ty.typmod } else { -1 };
                Ok(Value::Sealed(shown_as(&column, SqlType { kind, typmod })))
            }
            (Value::SealedArray(column), Value::SealedArray(other)) if column.id == other.id => {
                Ok(Value::SealedArray(column))
            }
            (Value::Sealed(column), Value::Sealed(other)) => Err(refuse::other_column(&column, operation, &other)),
            (Value::Sealed(column) | Value::SealedArray(column), _)
            | (_, Value::Sealed(column) | Value::SealedArray(column)) => Err(refuse::mixed(&column, operation)),
            (Value::Untyped(name), Value::Untyped(other)) if name == other => Ok(Value::Untyped(name)),
            (Value::Untyped(name), Value::Pending { group, .. })
            | (Value::Pending { group, .. }, Value::Untyped(name))
                if self.groups.only_null(group) =>
            {
                Ok(Value::Untyped(name))
            }
            (left, right) => {
                self.plain(&left, operation)?;
                self.plain(&right, operation)?;
                Ok(Value::Plain)
            }
        }
    }

    /// A constant stands beside cells of the column in COALESCE, CASE, UNION: it becomes a cell too. What the place
    /// shows: those cells, of the type that both have together.
    fn fill(
        &mut self,
        (group, depth, ty): (usize, i8, Type),
        column: &Arc<SealedColumn>,
        column_first: bool,
        operation: &str,
    ) -> Result<Arc<SealedColumn>, Refusal> {
        let array = leaf_is_array(depth, false).ok_or_else(|| refuse::mixed(column, operation))?;
        let own = column.ty.kind;
        let kind = match ty {
            Type::Unknown => own,
            Type::Known(oid) => {
                let other = Kind::of_oid(oid).ok_or_else(|| refuse::other_type(column, operation))?;
                let (first, second) = if column_first { (own, other) } else { (other, own) };
                match common(first, second) {
                    Some(kind) => kind,
                    None if same_category(own, other) => return Err(refuse::no_cast(column)),
                    None => return Err(refuse::other_type(column, operation)),
                }
            }
            Type::Foreign => return Err(refuse::cast(column)),
        };
        if !same_cells(own, kind) {
            return Err(refuse::mixed(column, operation));
        }
        self.groups.settle(group, depth, Type::Known(kind.oid()));
        self.fill_group(group, column, array)?;
        Ok(shown_as(column, SqlType { kind, typmod: -1 }))
    }

    fn fill_group(&mut self, group: usize, column: &Arc<SealedColumn>, array: bool) -> Result<(), Refusal> {
        if !self.groups.only_null(group) && !self.class.may_search.contains(&column.id) {
            return Err(refuse::may_not_search(column));
        }
        // What is stored must fit the column; what is only shown need not.
        self.groups.seal(group, column, array, !self.storing)
    }

    /// Nothing else gives the value a type: it is text.
    pub(super) fn text_at_last(&mut self, value: Value) -> Value {
        match value {
            Value::Pending { group, depth, ty: Type::Unknown } => {
                let ty = Type::Known(Kind::Text.oid());
                self.groups.settle(group, depth, ty);
                Value::Pending { group, depth, ty }
            }
            other => other,
        }
    }

    /// The relation of a dotted name that is written to, or whose columns are wanted.
    pub(super) fn find(&mut self, name: &ObjectName) -> Result<(Vec<String>, Found<'a>), Refusal> {
        let parts = crate::sql::resolve::parts(name).ok_or_else(|| refuse::unreadable("a relation's name"))?;
        let found = self.find_parts(&parts)?;
        Ok((parts, found))
    }

    /// The same, of names already folded.
    pub(super) fn find_parts(&mut self, parts: &[String]) -> Result<Found<'a>, Refusal> {
        let found = self.through_lens(self.names.find(parts));
        self.certain(parts, &found)?;
        match &found {
            Found::Relation(relation) => self.meet(relation)?,
            Found::Unknown => {
                self.unknown = true;
                self.unknown_relation = true;
            }
            Found::System => self.system(parts)?,
            Found::Temporary | Found::OtherDatabase => {}
        }
        Ok(found)
    }

    /// A bare name must not come to mean another relation, with hidden columns, when the server resolves it: it skips
    /// schemas the role has no USAGE on, and resolves a prepared text anew after the search path or the catalog changed.
    fn certain(&self, parts: &[String], found: &Found<'_>) -> Result<(), Refusal> {
        let ([name], true) = (parts, self.class.restricted()) else { return Ok(()) };
        let own = match found {
            Found::Relation(relation) => Some(*relation),
            _ => None,
        };
        let oids = self.class.hidden.iter().filter(|(oid, _)| own.is_none_or(|own| own.oid != *oid));
        let others = oids.filter_map(|(oid, _)| self.rules.schema.relation(*oid)).filter(|other| *other.name == **name);
        match others.into_iter().find(|other| own.is_none_or(|own| self.shows_more(other, own))) {
            Some(other) => Err(refuse::uncertain(name, &other.qualified())),
            None => Ok(()),
        }
    }

    /// Whether a statement that may be made on `own` would show a hidden column if its names meant `other`.
    fn shows_more(&self, other: &Relation, own: &Relation) -> bool {
        let hidden = |of: &Relation, attnum: i16| self.class.hidden.contains(&(of.oid, attnum));
        let whole_row = !own.columns.iter().any(|column| hidden(own, column.attnum));
        let visible = own.columns.iter().filter(|column| !hidden(own, column.attnum));
        let same = |name: &str| other.column(name).is_some_and(|column| hidden(other, column.attnum));
        whole_row || visible.into_iter().any(|column| same(&column.name))
    }

    /// Statistics and activity show values and texts of others.
    fn system(&self, parts: &[String]) -> Result<(), Refusal> {
        let name = parts.last().map_or("", String::as_str);
        if self.class.restricted() && super::guard::relation_denied(name) {
            return Err(refuse::function(&format!("relation {name}")));
        }
        Ok(())
    }

    /// A relation of the snapshot was met.
    fn meet(&mut self, relation: &Arc<Relation>) -> Result<(), Refusal> {
        if self.class.restricted() && &*relation.schema == "pg_catalog" && super::guard::relation_denied(&relation.name)
        {
            return Err(refuse::function(&format!("relation {}", relation.name)));
        }
        if self.class.filtered.contains(&relation.oid) {
            return Err(refuse::filtered(&relation.qualified()));
        }
        for oid in std::iter::once(&relation.oid).chain(&relation.reads) {
            let Some(table) = self.rules.tables.get(oid) else { continue };
            self.protected = true;
            if !table.pending.is_empty() && self.rules.observed(self.request.class).is_none() {
                return Err(refuse::pending(&table.name, &table.pending));
            }
        }
        self.protected |= relation.columns.iter().any(|column| column.sealed.is_some());
        Ok(())
    }

    /// The columns of a relation of the snapshot.
    pub(super) fn columns(&self, relation: &Relation) -> Vec<Col> {
        let view = matches!(relation.kind, RelKind::View | RelKind::MatView);
        let reads_hidden = view
            && self.behind_view(relation.oid).is_none()
            && relation.reads.iter().any(|oid| self.class.hidden.iter().any(|(hidden, _)| hidden == oid));
        relation
            .columns
            .iter()
            .map(|column| {
                let full = || -> Arc<str> { format!("{}.{}", relation.qualified(), column.name).into() };
                let own = (relation.oid, column.attnum);
                let hidden = self.class.hidden.contains(&own)
                    || match column.source {
                        Some(source) => self.class.hidden.contains(&source),
                        None => reads_hidden && column.sealed.is_none(),
                    };
                let value = match self.rules.sealed_at(relation.oid, column.attnum) {
                    _ if hidden => Value::Hidden(full()),
                    Some(sealed) if column.sealed_array => Value::SealedArray(sealed.clone()),
                    Some(sealed) => Value::Sealed(sealed.clone()),
                    None if column.sealed.is_some() => Value::Untyped(full()),
                    None => Value::Plain,
                };
                let base = Some(column.source.filter(|_| view).unwrap_or(own));
                Column { base, ..Column::computed(column.name.clone(), value) }
            })
            .collect()
    }

    /// A relation of the snapshot as an entry of FROM.
    pub(super) fn rel(&self, relation: &Relation) -> Rel<Value> {
        let columns = self.columns(relation);
        // As the statement names it.
        let named = self.behind_view(relation.oid).map_or(relation, |table| table);
        Rel {
            name: relation.name.clone(),
            schema: Some(named.schema.clone()),
            guarded: columns.iter().any(|column| column.value.guarded()),
            columns,
            open: false,
        }
    }

    /// The subject's key column of that table.
    pub(super) fn subject_key(&self, base: Option<(u32, i16)>) -> Option<Arc<str>> {
        let (oid, attnum) = base?;
        let key = self.rules.tables.get(&oid)?.subject.as_ref()?;
        (key.attnum == attnum).then(|| key.kind.clone())
    }

    /// Keeps the first place where the subject's key is fixed.
    pub(super) fn found_subject(&mut self, kind: Arc<str>, from: SubjectFrom) {
        if self.subject.is_none() {
            self.subject = Some(SubjectPlan { kind, from });
        }
    }
}

/// Whether a group's leaves are arrays when its value at `depth` is an array (or is not); `None` if that cannot be.
pub(super) fn leaf_is_array(depth: i8, value_is_array: bool) -> Option<bool> {
    match i8::from(value_is_array).saturating_sub(depth) {
        0 => Some(false),
        1 => Some(true),
        _ => None,
    }
}

/// The column's cells under another type.
pub(super) fn shown_as(column: &Arc<SealedColumn>, ty: SqlType) -> Arc<SealedColumn> {
    if column.ty == ty { column.clone() } else { Arc::new(SealedColumn { ty, ..SealedColumn::clone(column) }) }
}

/// The column's cells without its type modifier: PostgreSQL keeps one only where every branch has it.
pub(super) fn without_modifier(column: &Arc<SealedColumn>) -> Arc<SealedColumn> {
    shown_as(column, SqlType { typmod: -1, ..column.ty })
}

/// The name of an identifier.
pub(super) fn folded(ident: &Ident) -> String {
    crate::sql::resolve::folded(ident)
}
