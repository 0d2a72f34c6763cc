//! Type names → [`SqlType`], and back as `format_type` prints them.
//!
//! In: what stands in a policy's `as` or in the catalog. Out: kind and typmod. Never: a type whose values cannot be
//! sealed exactly.

use std::fmt;

use super::interval::range;
use crate::wire::types::{Kind, SqlType};

/// Each has its own reason; everything else is "unknown".
const UNSEALABLE: &[(&str, &str)] = &[
    ("citext", "its comparison ignores case"),
    ("char", "its blank padding is not kept; use varchar or text"),
    ("character", "its blank padding is not kept; use varchar or text"),
    ("bpchar", "its blank padding is not kept; use varchar or text"),
    ("name", "it is PostgreSQL's own type; use text"),
    ("money", "its text depends on the server's locale; use numeric"),
    ("inet", "network types are not supported"),
    ("cidr", "network types are not supported"),
    ("macaddr", "network types are not supported"),
    ("xml", "xml is not supported; use text"),
    ("timetz", "time with time zone is not supported"),
    ("time with time zone", "time with time zone is not supported"),
];

impl SqlType {
    /// Reads `varchar(320)`, `numeric(10,2)`, `timestamp(3) with time zone`, …: every spelling PostgreSQL has for the
    /// types of [`Kind`], in any case. The error says why another type cannot be sealed.
    pub fn parse(s: &str) -> Result<SqlType, String> {
        let (name, args) = split(s)?;
        let name = name.strip_prefix("pg_catalog.").unwrap_or(&name);
        if name.ends_with(']') || name.ends_with(" array") {
            return Err(format!("type \"{s}\" cannot be sealed: it is an array"));
        }
        if let Some((_, why)) = UNSEALABLE.iter().find(|(bad, _)| *bad == name) {
            return Err(format!("type \"{s}\" cannot be sealed: {why}"));
        }
        if let Some(rest) = name.strip_prefix("interval") {
            let ty = interval(rest.trim_start(), &args).ok_or_else(|| bad_modifier(s))?;
            return Ok(ty);
        }
        let kind = match name {
            "text" => Kind::Text,
            "varchar" | "character varying" | "char varying" => Kind::Varchar,
            "int2" | "smallint" => Kind::Int2,
            "int4" | "int" | "integer" => Kind::Int4,
            "int8" | "bigint" => Kind::Int8,
            "numeric" | "decimal" | "dec" => Kind::Numeric,
            "float4" | "real" => Kind::Float4,
            "float8" | "double precision" => Kind::Float8,
            "float" => return float(&args).ok_or_else(|| bad_modifier(s)),
            "bool" | "boolean" => Kind::Bool,
            "date" => Kind::Date,
            "time" | "time without time zone" => Kind::Time,
            "timestamp" | "timestamp without time zone" => Kind::Timestamp,
            "timestamptz" | "timestamp with time zone" => Kind::Timestamptz,
            "uuid" => Kind::Uuid,
            "jsonb" => Kind::Jsonb,
            "json" => Kind::Json,
            "bytea" => Kind::Bytea,
            _ => return Err(format!("type \"{s}\" is not one that can be sealed")),
        };
        let typmod = typmod(kind, &args).ok_or_else(|| bad_modifier(s))?;
        Ok(SqlType { kind, typmod })
    }
}

fn bad_modifier(s: &str) -> String {
    format!("type \"{s}\" has a modifier that PostgreSQL does not accept")
}

/// Lower-cased words with single spaces and without the parenthesised arguments, and these.
fn split(s: &str) -> Result<(String, Vec<i32>), String> {
    let lower = s.to_ascii_lowercase();
    let (name, args) = match lower.split_once('(') {
        None => (lower, Vec::new()),
        Some((before, rest)) => {
            let (inside, after) = rest.split_once(')').ok_or_else(|| format!("type \"{s}\" lacks a \")\""))?;
            let args = inside.split(',').map(|n| n.trim().parse::<i32>()).collect::<Result<Vec<_>, _>>();
            (format!("{before} {after}"), args.map_err(|_| bad_modifier(s))?)
        }
    };
    Ok((name.split_whitespace().collect::<Vec<_>>().join(" "), args))
}

fn typmod(kind: Kind, args: &[i32]) -> Option<i32> {
    match (kind, args) {
        (_, []) => Some(-1),
        (Kind::Varchar, &[length @ 1..=10_485_760]) => Some(length + 4),
        (Kind::Numeric, &[precision @ 1..=1000]) => Some((precision << 16) + 4),
        (Kind::Numeric, &[precision @ 1..=1000, scale @ -1000..=1000]) => Some((precision << 16 | (scale & 0x7ff)) + 4),
        (Kind::Time | Kind::Timestamp | Kind::Timestamptz, &[decimals @ 0..=6]) => Some(decimals),
        _ => None,
    }
}

/// `float(p)`: p binary digits.
fn float(args: &[i32]) -> Option<SqlType> {
    let kind = match args {
        [] | [25..=53] => Kind::Float8,
        [1..=24] => Kind::Float4,
        _ => return None,
    };
    Some(SqlType { kind, typmod: -1 })
}

fn interval(fields: &str, args: &[i32]) -> Option<SqlType> {
    let mask = if fields.is_empty() { range::FULL } else { range::NAMED.iter().find(|(n, _)| *n == fields)?.1 };
    let precision = match args {
        [] if mask == range::FULL => return Some(SqlType { kind: Kind::Interval, typmod: -1 }),
        [] => range::FULL_PRECISION,
        &[decimals @ 0..=6] if mask == range::FULL || mask & range::SECOND != 0 => decimals,
        _ => return None,
    };
    Some(SqlType { kind: Kind::Interval, typmod: mask << 16 | precision })
}

/// As `format_type` prints it; [`SqlType::parse`] reads it back.
impl fmt::Display for SqlType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.kind {
            Kind::Varchar => "character varying",
            Kind::Int2 => "smallint",
            Kind::Int4 => "integer",
            Kind::Int8 => "bigint",
            Kind::Float4 => "real",
            Kind::Float8 => "double precision",
            Kind::Bool => "boolean",
            Kind::Time => "time",
            Kind::Timestamp | Kind::Timestamptz => "timestamp",
            Kind::Interval => return fmt_interval(self.typmod, f),
            other => other.name(),
        };
        f.write_str(name)?;
        if self.typmod >= 0 {
            match self.kind {
                Kind::Varchar => write!(f, "({})", self.typmod - 4)?,
                Kind::Numeric => {
                    let (precision, scale) = super::numeric::precision_and_scale(self.typmod);
                    write!(f, "({precision},{scale})")?;
                }
                Kind::Time | Kind::Timestamp | Kind::Timestamptz => write!(f, "({})", self.typmod)?,
                _ => {}
            }
        }
        match self.kind {
            Kind::Time | Kind::Timestamp => f.write_str(" without time zone"),
            Kind::Timestamptz => f.write_str(" with time zone"),
            _ => Ok(()),
        }
    }
}

fn fmt_interval(typmod: i32, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    f.write_str("interval")?;
    if typmod < 0 {
        return Ok(());
    }
    let (mask, precision) = (typmod >> 16 & range::FULL, typmod & range::FULL_PRECISION);
    if let Some((name, _)) = range::NAMED.iter().find(|(_, m)| *m == mask) {
        write!(f, " {name}")?;
    }
    if precision == range::FULL_PRECISION { Ok(()) } else { write!(f, "({precision})") }
}
