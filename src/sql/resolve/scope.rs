//! What columns a name can mean at one place of a statement.
//!
//! In: relations with their columns, nested scopes. Out: the column a name means, by PostgreSQL's order: columns of
//! every level first, innermost out, then whole rows. Never: what a column means; that is the caller's `V`.

use std::sync::Arc;

/// One visible column.
#[derive(Clone, Debug)]
pub struct Column<V> {
    /// Its name here.
    pub name: Arc<str>,
    /// What it means to the caller.
    pub value: V,
    /// The stored column it shows unchanged: (relation oid, attnum).
    pub base: Option<(u32, i16)>,
    /// Which of the caller's FROM entries it belongs to, if a row there is known by its key. Not known behind a
    /// subquery's name, which may stand in FROM twice.
    pub entry: Option<u32>,
}

impl<V> Column<V> {
    /// A column that shows no stored one.
    pub fn computed(name: impl Into<Arc<str>>, value: V) -> Self {
        Self { name: name.into(), value, base: None, entry: None }
    }
}

/// One entry of a FROM list, by the name it is referred to.
#[derive(Clone, Debug)]
pub struct Rel<V> {
    /// Alias, or relation name.
    pub name: Arc<str>,
    /// Its schema, if it has no alias.
    pub schema: Option<Arc<str>>,
    /// In the order of `*`.
    pub columns: Vec<Column<V>>,
    /// It may have further columns (functions that return rows).
    pub open: bool,
    /// A whole-row reference would show a column that the caller guards.
    pub guarded: bool,
}

/// Names visible at one place.
#[derive(Debug)]
pub struct Scope<'p, V, C> {
    /// The enclosing query.
    pub parent: Option<&'p Scope<'p, V, C>>,
    /// What qualified names can mean.
    pub rels: Vec<Rel<V>>,
    /// What unqualified names and `*` can mean: USING columns once.
    pub star: Vec<Column<V>>,
    /// Queries of a WITH clause, in order.
    pub ctes: Vec<(String, C)>,
}

/// What a column name means.
#[derive(Clone, Debug)]
pub enum Lookup<'s, V> {
    /// That column. `doubt`: a nearer relation of unknown columns might have one of that name too.
    Column {
        /// Which.
        column: &'s Column<V>,
        /// See above.
        doubt: bool,
    },
    /// Two columns; PostgreSQL refuses it.
    Ambiguous(&'s Column<V>, &'s Column<V>),
    /// The row of that relation.
    Whole(&'s Rel<V>),
    /// A column of a relation whose columns are not known.
    Open,
    /// A system column (`ctid`, `xmin`, …).
    System,
    /// That relation has no such column.
    NoColumn(&'s Rel<V>),
    /// Nothing.
    Missing,
}

impl<'p, V, C> Scope<'p, V, C> {
    /// An empty scope inside another.
    pub fn within(parent: Option<&'p Scope<'p, V, C>>) -> Self {
        Self { parent, rels: Vec::new(), star: Vec::new(), ctes: Vec::new() }
    }

    fn levels<'s>(&'s self) -> impl Iterator<Item = &'s Scope<'s, V, C>>
    where
        'p: 's,
    {
        let mut next: Option<&'s Scope<'s, V, C>> = Some(self);
        std::iter::from_fn(move || {
            let scope = next?;
            next = scope.parent;
            Some(scope)
        })
    }

    /// What an unqualified name means.
    pub fn unqualified(&self, name: &str) -> Lookup<'_, V> {
        let mut doubt = false;
        for scope in self.levels() {
            let mut hits = scope.star.iter().filter(|column| &*column.name == name);
            match (hits.next(), hits.next()) {
                (Some(column), None) => return Lookup::Column { column, doubt },
                (Some(first), Some(second)) => return Lookup::Ambiguous(first, second),
                (None, _) => doubt |= scope.rels.iter().any(|rel| rel.open),
            }
        }
        if let Some(rel) = self.levels().flat_map(|scope| scope.rels.iter()).find(|rel| &*rel.name == name) {
            return Lookup::Whole(rel);
        }
        match () {
            () if doubt => Lookup::Open,
            () if is_system_column(name) => Lookup::System,
            () => Lookup::Missing,
        }
    }

    /// The relation a qualifier means.
    pub fn rel(&self, schema: Option<&str>, name: &str) -> Option<&Rel<V>> {
        self.levels()
            .flat_map(|scope| scope.rels.iter())
            .find(|rel| &*rel.name == name && (schema.is_none() || schema == rel.schema.as_deref()))
    }

    /// What `schema.relation.column` or `relation.column` means.
    pub fn qualified(&self, schema: Option<&str>, relation: &str, name: &str) -> Lookup<'_, V> {
        let Some(rel) = self.rel(schema, relation) else { return Lookup::Missing };
        let mut hits = rel.columns.iter().filter(|column| &*column.name == name);
        match (hits.next(), hits.next()) {
            (Some(column), None) => Lookup::Column { column, doubt: false },
            (Some(first), Some(second)) => Lookup::Ambiguous(first, second),
            (None, _) if is_system_column(name) => Lookup::System,
            (None, _) if rel.open => Lookup::Open,
            (None, _) => Lookup::NoColumn(rel),
        }
    }

    /// The query of a WITH clause that an unqualified relation name means.
    pub fn cte(&self, name: &str) -> Option<&C> {
        self.levels().find_map(|scope| scope.ctes.iter().rev().find(|(cte, _)| cte == name).map(|(_, cte)| cte))
    }
}

/// Columns every table has and no `*` shows.
fn is_system_column(name: &str) -> bool {
    matches!(name, "ctid" | "xmin" | "xmax" | "cmin" | "cmax" | "tableoid")
}
