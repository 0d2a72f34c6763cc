//! What an expression yields, as far as sealing must know; and constants whose place is not decided yet.
//!
//! A literal or parameter belongs to whatever column it meets first: by comparison, assignment, or as another branch of
//! the same expression. Until then it is a member of a group; a whole column of a VALUES list is one group. At the end
//! every group is plain or belongs to exactly one sealed column.

use std::sync::Arc;

use super::refuse;
use super::typing::{self, Type};
use crate::error::Refusal;
use crate::policy::rules::{Mode, SealedColumn};
use crate::sql::Span;
use crate::sql::resolve::{Family, TypeText};
use crate::wire::types::{Kind, SqlType};

/// What an expression yields.
#[derive(Clone, Debug)]
pub(super) enum Value {
    /// Not sealed.
    Plain,
    /// Constants of a group. `depth` 1: an array of them; −1: an element of them. `ty`: of the value at that depth.
    Pending { group: usize, depth: i8, ty: Type },
    /// Cells of that column, unchanged.
    Sealed(Arc<SealedColumn>),
    /// Arrays of such cells.
    SealedArray(Arc<SealedColumn>),
    /// Of a sealed domain, but no policy column is known for it.
    Untyped(Arc<str>),
    /// A plaintext column above the class's clearance.
    Hidden(Arc<str>),
    /// `ROW(…)` or `(…, …)`.
    Row(Vec<Value>),
    /// The row of a relation with guarded columns; `above`: some are above clearance.
    Whole { relation: Arc<str>, above: bool },
}

impl Value {
    /// Whether a whole-row reference must not show it.
    pub(super) fn guarded(&self) -> bool {
        !matches!(self, Value::Plain | Value::Pending { .. })
    }
}

/// One literal, parameter or NULL.
#[derive(Clone, Debug)]
pub(super) struct Leaf {
    pub(super) kind: LeafKind,
    /// Its own token.
    pub(super) literal: Span,
    /// What is replaced when it is sealed: the literal with its minus sign or type prefix.
    pub(super) cover: Span,
    /// Its own type: declared, or settled by what it met first.
    pub(super) ty: Type,
    /// The casts around it, innermost first; `None`: one of them is to a type that sealed values have not.
    pub(super) casts: Option<Vec<SqlType>>,
}

/// What kind of constant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LeafKind {
    /// NULL or DEFAULT: stays as it stands.
    Null,
    /// Zero-based.
    Parameter(u16),
    Literal {
        negative: bool,
    },
}

/// Where a group's constants belong.
#[derive(Clone, Debug)]
pub(super) enum Place {
    Undecided,
    Plain,
    /// `array`: each leaf is an array of cells.
    Sealed {
        column: Arc<SealedColumn>,
        array: bool,
        search: bool,
    },
}

/// A cast in the text.
#[derive(Clone, Copy, Debug)]
pub(super) struct Written {
    pub(super) text: TypeText,
    /// Of the value it stands around.
    pub(super) depth: i8,
    /// It stands around one constant, which has no other use.
    pub(super) alone: bool,
}

/// Constants that have one place together.
#[derive(Clone, Debug)]
pub(super) struct Group {
    pub(super) leaves: Vec<Leaf>,
    /// Casts written around them.
    pub(super) casts: Vec<Written>,
    pub(super) place: Place,
    /// Its cells are compared with each other (NULLIF), so only a deterministic column will do.
    equality: bool,
    merged_into: Option<usize>,
}

/// All groups of a text.
#[derive(Clone, Debug, Default)]
pub(super) struct Groups {
    all: Vec<Group>,
}

impl Groups {
    /// A group of one leaf, or of none (`ARRAY[]`).
    pub(super) fn add(&mut self, leaves: Vec<Leaf>) -> usize {
        self.all.push(Group { leaves, casts: Vec::new(), place: Place::Undecided, equality: false, merged_into: None });
        self.all.len() - 1
    }

    fn root(&self, mut group: usize) -> usize {
        while let Some(next) = self.all[group].merged_into {
            group = next;
        }
        group
    }

    /// Every group that was not merged into another.
    pub(super) fn decided(&self) -> impl Iterator<Item = &Group> {
        self.all.iter().filter(|group| group.merged_into.is_none())
    }

    /// Whether it holds nothing but NULL and DEFAULT.
    pub(super) fn only_null(&self, group: usize) -> bool {
        self.all[self.root(group)].leaves.iter().all(|leaf| leaf.kind == LeafKind::Null)
    }

    /// A cast written around the group's value.
    pub(super) fn cast(&mut self, group: usize, written: Written) {
        let root = self.root(group);
        let ty = Type::of_text(&written.text).leaf(written.depth);
        for leaf in &mut self.all[root].leaves {
            if leaf.ty == Type::Unknown {
                leaf.ty = ty;
            }
            if let Some(casts) = &mut leaf.casts {
                match typing::cast_type(&written.text) {
                    Some(to) => casts.push(to),
                    None => leaf.casts = None,
                }
            }
        }
        self.all[root].casts.push(written);
    }

    /// Constants of no type yet have that one; `ty` is the type of the value at `depth`.
    pub(super) fn settle(&mut self, group: usize, depth: i8, ty: Type) {
        let root = self.root(group);
        for leaf in &mut self.all[root].leaves {
            if leaf.ty == Type::Unknown {
                leaf.ty = ty.leaf(depth);
            }
        }
    }

    /// The group's cells are compared with each other.
    pub(super) fn compared(&mut self, group: usize) -> Result<(), Refusal> {
        let root = self.root(group);
        self.all[root].equality = true;
        match &self.all[root].place {
            Place::Sealed { column, .. } if column.mode != Mode::Deterministic => {
                Err(refuse::sealed_use(column, "NULLIF"))
            }
            _ => Ok(()),
        }
    }

    /// Makes two groups one.
    pub(super) fn merge(&mut self, left: usize, right: usize) -> Result<usize, Refusal> {
        let (left, right) = (self.root(left), self.root(right));
        if left == right {
            return Ok(left);
        }
        let place = std::mem::replace(&mut self.all[right].place, Place::Undecided);
        let leaves = std::mem::take(&mut self.all[right].leaves);
        let casts = std::mem::take(&mut self.all[right].casts);
        let equality = self.all[right].equality;
        self.all[right].merged_into = Some(left);
        self.all[left].leaves.extend(leaves);
        self.all[left].casts.extend(casts);
        self.all[left].equality |= equality;
        match place {
            Place::Undecided => {}
            Place::Plain => self.plain(left)?,
            Place::Sealed { column, array, search } => self.place(left, &column, array, search)?,
        }
        Ok(left)
    }

    /// The group's constants stand in a plain place.
    pub(super) fn plain(&mut self, group: usize) -> Result<(), Refusal> {
        let root = self.root(group);
        match &self.all[root].place {
            Place::Sealed { column, .. } if !self.only_null(root) => Err(refuse::two_roles(column)),
            Place::Sealed { .. } => Ok(()),
            _ => {
                self.all[root].place = Place::Plain;
                Ok(())
            }
        }
    }

    /// The group's constants belong to that column. `array`: each leaf is an array of its cells.
    pub(super) fn seal(
        &mut self,
        group: usize,
        column: &Arc<SealedColumn>,
        array: bool,
        search: bool,
    ) -> Result<(), Refusal> {
        let root = self.root(group);
        self.place(root, column, array, search)
    }

    fn place(&mut self, root: usize, column: &Arc<SealedColumn>, array: bool, search: bool) -> Result<(), Refusal> {
        if self.all[root].equality && column.mode != Mode::Deterministic {
            return Err(refuse::sealed_use(column, "NULLIF"));
        }
        let only_null = self.only_null(root);
        match &mut self.all[root].place {
            place @ Place::Undecided => *place = Place::Sealed { column: column.clone(), array, search },
            place @ Place::Plain if only_null => *place = Place::Sealed { column: column.clone(), array, search },
            Place::Plain => return Err(refuse::two_roles(column)),
            Place::Sealed { column: other, array: other_array, search: other_search } => {
                if other.id != column.id || *other_array != array {
                    return Err(refuse::two_roles(column));
                }
                *other_search &= search;
            }
        }
        Ok(())
    }
}

/// Whether a cast leaves every value of the column as it is, so that the cast can become one to bytea.
pub(super) fn cast_fits(column: &SealedColumn, text: &TypeText) -> bool {
    let Family::Kind(cast) = text.family else { return false };
    let typmod = column.ty.typmod;
    match (column.ty.kind, cast) {
        (Kind::Text | Kind::Varchar, Kind::Text | Kind::Varchar) => match text.modifier {
            None => true,
            Some((length, None)) => typmod >= 4 && length >= typmod - 4,
            Some(_) => false,
        },
        (Kind::Int2 | Kind::Int4 | Kind::Int8, Kind::Int2 | Kind::Int4 | Kind::Int8) => text.modifier.is_none(),
        (Kind::Numeric, Kind::Int2 | Kind::Int4 | Kind::Int8) => text.modifier.is_none(),
        (Kind::Numeric, Kind::Numeric) => match text.modifier {
            None => true,
            Some((precision, scale)) => typmod >= 4 && typing::numeric_typmod(precision, scale.unwrap_or(0)) == typmod,
        },
        (Kind::Float8, Kind::Int2 | Kind::Int4 | Kind::Float8) => text.modifier.is_none(),
        (Kind::Time, Kind::Time) | (Kind::Timestamp, Kind::Timestamp) | (Kind::Timestamptz, Kind::Timestamptz) => {
            match text.modifier {
                None => true,
                Some((precision, None)) => precision == 6 || precision == typmod,
                Some(_) => false,
            }
        }
        (column, cast) => column == cast && text.modifier.is_none(),
    }
}

impl Groups {
    /// The group's only leaf, if it has exactly one and its place is open.
    pub(super) fn lone(&mut self, group: usize) -> Option<&mut Leaf> {
        let root = self.root(group);
        let group = &mut self.all[root];
        match (&group.place, group.leaves.as_mut_slice()) {
            (Place::Undecided, [leaf]) => Some(leaf),
            _ => None,
        }
    }
}
