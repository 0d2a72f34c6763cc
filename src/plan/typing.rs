//! What type PostgreSQL gives a constant that names none: by operator, by target column, by its neighbours.
//!
//! In: kinds of columns, types of values. Out: the type that is settled, or that PostgreSQL would refuse. Source:
//! "Type Conversion" in its manual, `select_common_type` of src/backend/parser/parse_coerce.c. Never: a value.

use crate::sql::resolve::{Family, TypeText};
use crate::wire::types::{Kind, SqlType};

/// The type of a value that is not a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Type {
    /// A bare string, NULL or parameter: it takes the type of what it meets.
    Unknown,
    /// pg_type OID.
    Known(u32),
    /// Of some type that pgveil does not know.
    Foreign,
}

impl Type {
    /// A declared type of Parse: 0 and `unknown` declare nothing.
    pub(super) fn declared(oid: u32) -> Self {
        if matches!(oid, 0 | 705) { Type::Unknown } else { Type::Known(oid) }
    }

    /// The type of a cast in the text.
    pub(super) fn of_text(text: &TypeText) -> Self {
        match text.family {
            Family::Kind(kind) if text.array => Type::Known(kind.array_oid()),
            Family::Kind(kind) => Type::Known(kind.oid()),
            Family::Other => Type::Foreign,
        }
    }

    /// The type of its elements.
    pub(super) fn element(self) -> Self {
        match self {
            Type::Known(oid) => Kind::of_array_oid(oid).map_or(Type::Foreign, |kind| Type::Known(kind.oid())),
            other => other,
        }
    }

    /// The type of arrays of it.
    pub(super) fn array(self) -> Self {
        match self {
            Type::Known(oid) => Kind::of_oid(oid).map_or(Type::Foreign, |kind| Type::Known(kind.array_oid())),
            other => other,
        }
    }

    /// The type of a leaf whose value at `depth` has this type.
    pub(super) fn leaf(self, depth: i8) -> Self {
        match depth {
            0 => self,
            1 => self.element(),
            _ => self.array(),
        }
    }
}

/// The type that an operand of no type takes beside a column: there is no operator `varchar = varchar`.
pub(super) fn operand(column: Kind) -> Kind {
    if column == Kind::Varchar { Kind::Text } else { column }
}

/// `select_common_type` of two kinds: the first, unless it converts to the second and not the other way round.
pub(super) fn common(first: Kind, second: Kind) -> Option<Kind> {
    let rank = |kind| match kind {
        Kind::Text | Kind::Varchar => Some((0, 0)),
        Kind::Int2 => Some((1, 0)),
        Kind::Int4 => Some((1, 1)),
        Kind::Int8 => Some((1, 2)),
        Kind::Numeric => Some((1, 3)),
        Kind::Float4 => Some((1, 4)),
        Kind::Float8 => Some((1, 5)),
        Kind::Date => Some((2, 0)),
        Kind::Timestamp => Some((2, 1)),
        Kind::Timestamptz => Some((2, 2)),
        _ => None,
    };
    match (rank(first), rank(second)) {
        _ if first == second => Some(first),
        (Some((family, low)), Some((same, high))) if family == same => Some(if high > low { second } else { first }),
        _ => None,
    }
}

/// Whether PostgreSQL looks for a conversion between them at all (`typcategory`).
pub(super) fn same_category(left: Kind, right: Kind) -> bool {
    let category = |kind: Kind| match kind {
        Kind::Text | Kind::Varchar => 'S',
        Kind::Int2 | Kind::Int4 | Kind::Int8 | Kind::Numeric | Kind::Float4 | Kind::Float8 => 'N',
        Kind::Bool => 'B',
        Kind::Date | Kind::Time | Kind::Timestamp | Kind::Timestamptz => 'D',
        Kind::Interval => 'T',
        Kind::Uuid | Kind::Json | Kind::Jsonb | Kind::Bytea => 'U',
    };
    category(left) == category(right)
}

/// The type two values have together in one place; the first's where PostgreSQL has none.
pub(super) fn together(first: Type, second: Type) -> Type {
    match (first, second) {
        (Type::Unknown, other) | (other, Type::Unknown) => other,
        (Type::Known(left), Type::Known(right)) => {
            let kinds = Kind::of_oid(left).zip(Kind::of_oid(right));
            Type::Known(kinds.and_then(|(left, right)| common(left, right)).map_or(left, Kind::oid))
        }
        (Type::Foreign, _) | (_, Type::Foreign) => Type::Foreign,
    }
}

/// Whether cells of one kind can be shown as the other: their plaintexts are the same bytes.
pub(super) fn same_cells(left: Kind, right: Kind) -> bool {
    let integer = |kind| matches!(kind, Kind::Int2 | Kind::Int4 | Kind::Int8);
    left == right || (left.is_text() && right.is_text()) || (integer(left) && integer(right))
}

/// What a cast in the text makes of each value, or of each element; `None` for a type that sealed values have not.
pub(super) fn cast_type(text: &TypeText) -> Option<SqlType> {
    let Family::Kind(kind) = text.family else { return None };
    let typmod = match (kind, text.modifier) {
        (_, None) => -1,
        (Kind::Varchar, Some((length, None))) => length.checked_add(4)?,
        (Kind::Numeric, Some((precision, scale))) => numeric_typmod(precision, scale.unwrap_or(0)),
        (Kind::Time | Kind::Timestamp | Kind::Timestamptz, Some((precision, None))) => precision,
        // INTERVAL_TYPMOD with INTERVAL_FULL_RANGE.
        (Kind::Interval, Some((precision, None))) => (0x7fff << 16) | (precision & 0xffff),
        _ => return None,
    };
    Some(SqlType { kind, typmod })
}

/// `make_numeric_typmod` of src/backend/utils/adt/numeric.c.
pub(super) fn numeric_typmod(precision: i32, scale: i32) -> i32 {
    ((precision << 16) | (scale & 0x7ff)) + 4
}
