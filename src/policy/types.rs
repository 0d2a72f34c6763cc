//! Which logical types can be sealed, and which of them deterministically.

use super::rules::Mode;
use crate::wire::types::{Kind, SqlType};

/// Spellings offered when a type is misspelt.
pub(super) const NAMES: &[&str] = &[
    "text",
    "varchar(255)",
    "int2",
    "int4",
    "int8",
    "integer",
    "bigint",
    "smallint",
    "numeric(10,2)",
    "float4",
    "float8",
    "boolean",
    "date",
    "time",
    "timestamp",
    "timestamptz",
    "uuid",
    "jsonb",
    "json",
    "bytea",
    "interval",
];

pub(super) const SEALABLE: &str = "sealable: text varchar(n) int2 int4 int8 numeric(p,s) float4 float8 bool date time \
     timestamp timestamptz uuid json jsonb bytea interval";

/// PostgreSQL's offset of typmods that hold a length (VARHDRSZ).
const VARHDRSZ: i32 = 4;

/// A btree entry must fit a third of a page; longer values could not be indexed (DESIGN §5).
const DETERMINISTIC_BYTES_MAX: i32 = 2_600;

/// Bytes of one character in UTF-8, at most.
const CHARACTER_BYTES_MAX: i32 = 4;

/// Why a type cannot be sealed in that mode, and the way out; `None` = it can.
pub(super) fn unfit(ty: SqlType, mode: Mode, accepts_equality: bool) -> Option<(&'static str, &'static str)> {
    if mode == Mode::Randomized {
        return None;
    }
    match ty.kind {
        Kind::Float4 | Kind::Float8 => {
            Some(("floats have no reliable equality", "encrypt = \"randomized\", or as = \"numeric(p,s)\""))
        }
        Kind::Json | Kind::Jsonb | Kind::Interval => {
            Some(("equal values of this type have different spellings", "encrypt = \"randomized\""))
        }
        Kind::Text | Kind::Bytea => {
            Some(("deterministic needs a declared length", "as = \"varchar(320)\", or encrypt = \"randomized\""))
        }
        Kind::Varchar if ty.typmod < VARHDRSZ => {
            Some(("deterministic needs a declared length", "as = \"varchar(320)\", or encrypt = \"randomized\""))
        }
        Kind::Varchar if (ty.typmod - VARHDRSZ).saturating_mul(CHARACTER_BYTES_MAX) > DETERMINISTIC_BYTES_MAX => {
            Some(("deterministic values must fit 2600 bytes", "at most varchar(650), or encrypt = \"randomized\""))
        }
        Kind::Numeric if ty.typmod < VARHDRSZ => {
            Some(("deterministic needs a declared scale", "as = \"numeric(10,2)\", or encrypt = \"randomized\""))
        }
        _ if few_values(ty) && !accepts_equality => Some((
            "so few values are possible that equality reveals them",
            "encrypt = \"randomized\", or accept_leakage = [\"equality\"]",
        )),
        _ => None,
    }
}

/// Fewer than 2^16 values: declared, or for dates the 100-odd years that people's dates fall in.
fn few_values(ty: SqlType) -> bool {
    match ty.kind {
        Kind::Bool | Kind::Date => true,
        Kind::Numeric => (ty.typmod - VARHDRSZ) >> 16 <= 4,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ty(kind: Kind, typmod: i32) -> SqlType {
        SqlType { kind, typmod }
    }

    #[test]
    fn what_deterministic_needs() {
        let unfit = |kind, typmod| unfit(ty(kind, typmod), Mode::Deterministic, false).map(|(why, _)| why);
        assert_eq!(unfit(Kind::Varchar, 320 + 4), None);
        assert_eq!(unfit(Kind::Varchar, 650 + 4), None);
        assert_eq!(unfit(Kind::Varchar, 651 + 4), Some("deterministic values must fit 2600 bytes"));
        assert_eq!(unfit(Kind::Varchar, -1), Some("deterministic needs a declared length"));
        assert_eq!(unfit(Kind::Text, -1), Some("deterministic needs a declared length"));
        assert_eq!(unfit(Kind::Numeric, -1), Some("deterministic needs a declared scale"));
        assert_eq!(unfit(Kind::Numeric, ((10 << 16) | 2) + 4), None);
        assert!(unfit(Kind::Numeric, (4 << 16) + 4).is_some());
        assert_eq!(unfit(Kind::Int2, -1), None);
        assert_eq!(unfit(Kind::Float8, -1), Some("floats have no reliable equality"));
        assert!(unfit(Kind::Bool, -1).is_some());
        assert_eq!(super::unfit(ty(Kind::Bool, -1), Mode::Deterministic, true), None);
        assert_eq!(super::unfit(ty(Kind::Jsonb, -1), Mode::Randomized, false), None);
    }
}
