//! The logical SQL types a sealed column can have (DESIGN §5), and how values travel.

/// A type family, as PostgreSQL names it. The sealed domain is `pgveil.sealed_<name>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs, reason = "the names are PostgreSQL's")]
pub enum Kind {
    Text,
    Varchar,
    Int2,
    Int4,
    Int8,
    Numeric,
    Float4,
    Float8,
    Bool,
    Date,
    Time,
    Timestamp,
    Timestamptz,
    Uuid,
    Jsonb,
    Json,
    Bytea,
    Interval,
}

impl Kind {
    /// Every kind.
    pub const ALL: &'static [Kind] = &[
        Kind::Text,
        Kind::Varchar,
        Kind::Int2,
        Kind::Int4,
        Kind::Int8,
        Kind::Numeric,
        Kind::Float4,
        Kind::Float8,
        Kind::Bool,
        Kind::Date,
        Kind::Time,
        Kind::Timestamp,
        Kind::Timestamptz,
        Kind::Uuid,
        Kind::Jsonb,
        Kind::Json,
        Kind::Bytea,
        Kind::Interval,
    ];

    /// PostgreSQL's short name, the suffix of the sealed domain's name.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Text => "text",
            Kind::Varchar => "varchar",
            Kind::Int2 => "int2",
            Kind::Int4 => "int4",
            Kind::Int8 => "int8",
            Kind::Numeric => "numeric",
            Kind::Float4 => "float4",
            Kind::Float8 => "float8",
            Kind::Bool => "bool",
            Kind::Date => "date",
            Kind::Time => "time",
            Kind::Timestamp => "timestamp",
            Kind::Timestamptz => "timestamptz",
            Kind::Uuid => "uuid",
            Kind::Jsonb => "jsonb",
            Kind::Json => "json",
            Kind::Bytea => "bytea",
            Kind::Interval => "interval",
        }
    }

    /// The kind of the sealed domain `pgveil.sealed_<name>`.
    pub fn of_domain(domain: &str) -> Option<Kind> {
        let name = domain.strip_prefix("sealed_")?;
        Kind::ALL.iter().copied().find(|k| k.name() == name)
    }

    /// The pg_type OID of the logical type (src/include/catalog/pg_type.dat).
    pub fn oid(self) -> u32 {
        match self {
            Kind::Text => 25,
            Kind::Varchar => 1043,
            Kind::Int2 => 21,
            Kind::Int4 => 23,
            Kind::Int8 => 20,
            Kind::Numeric => 1700,
            Kind::Float4 => 700,
            Kind::Float8 => 701,
            Kind::Bool => 16,
            Kind::Date => 1082,
            Kind::Time => 1083,
            Kind::Timestamp => 1114,
            Kind::Timestamptz => 1184,
            Kind::Uuid => 2950,
            Kind::Jsonb => 3802,
            Kind::Json => 114,
            Kind::Bytea => 17,
            Kind::Interval => 1186,
        }
    }

    /// The OID of its array type.
    pub fn array_oid(self) -> u32 {
        match self {
            Kind::Text => 1009,
            Kind::Varchar => 1015,
            Kind::Int2 => 1005,
            Kind::Int4 => 1007,
            Kind::Int8 => 1016,
            Kind::Numeric => 1231,
            Kind::Float4 => 1021,
            Kind::Float8 => 1022,
            Kind::Bool => 1000,
            Kind::Date => 1182,
            Kind::Time => 1183,
            Kind::Timestamp => 1115,
            Kind::Timestamptz => 1185,
            Kind::Uuid => 2951,
            Kind::Jsonb => 3807,
            Kind::Json => 199,
            Kind::Bytea => 1001,
            Kind::Interval => 1187,
        }
    }

    /// The kind with that pg_type OID.
    pub fn of_oid(oid: u32) -> Option<Kind> {
        Kind::ALL.iter().copied().find(|kind| kind.oid() == oid)
    }

    /// The kind of the elements of the array type with that OID.
    pub fn of_array_oid(oid: u32) -> Option<Kind> {
        Kind::ALL.iter().copied().find(|kind| kind.array_oid() == oid)
    }

    /// Text or varchar: the same values, with and without a length.
    pub fn is_text(self) -> bool {
        matches!(self, Kind::Text | Kind::Varchar)
    }

    /// `pg_type.typlen`: the size in RowDescription, −1 for variable length.
    pub fn typlen(self) -> i16 {
        match self {
            Kind::Bool => 1,
            Kind::Int2 => 2,
            Kind::Int4 | Kind::Float4 | Kind::Date => 4,
            Kind::Int8 | Kind::Float8 | Kind::Time | Kind::Timestamp | Kind::Timestamptz => 8,
            Kind::Uuid | Kind::Interval => 16,
            _ => -1,
        }
    }

    /// The logical type code of the envelope (DESIGN §5, offset 4).
    pub fn code(self) -> u8 {
        match self {
            Kind::Bytea => 0,
            Kind::Text | Kind::Varchar => 1,
            Kind::Int2 | Kind::Int4 | Kind::Int8 => 2,
            Kind::Numeric => 3,
            Kind::Date => 4,
            Kind::Timestamptz => 5,
            Kind::Uuid => 6,
            Kind::Bool => 7,
            Kind::Float4 | Kind::Float8 => 8,
            Kind::Json | Kind::Jsonb => 9,
            Kind::Timestamp => 10,
            Kind::Time => 11,
            Kind::Interval => 12,
        }
    }
}

/// A full logical type: kind and type modifier (`varchar(320)`, `numeric(10,2)`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SqlType {
    /// The family.
    pub kind: Kind,
    /// `atttypmod` as PostgreSQL encodes it; −1 for none.
    pub typmod: i32,
}

/// Format code of one value on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Format {
    /// 0
    #[default]
    Text,
    /// 1
    Binary,
}

/// `DateStyle`'s output form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
#[allow(missing_docs, reason = "the names are PostgreSQL's")]
pub enum DateForm {
    #[default]
    Iso,
    Sql,
    Postgres,
    German,
}

/// `DateStyle`'s field order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
#[allow(missing_docs, reason = "the names are PostgreSQL's")]
pub enum DateOrder {
    #[default]
    Mdy,
    Dmy,
    Ymd,
}

/// `IntervalStyle`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
#[allow(missing_docs, reason = "the names are PostgreSQL's")]
pub enum IntervalForm {
    #[default]
    Postgres,
    PostgresVerbose,
    SqlStandard,
    Iso8601,
}

/// The session settings that decide how values look as text.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Style {
    /// `DateStyle`, first word.
    pub date_form: DateForm,
    /// `DateStyle`, second word.
    pub date_order: DateOrder,
    /// `IntervalStyle`.
    pub interval: IntervalForm,
    /// `TimeZone`, as the server reports it.
    pub time_zone: std::sync::Arc<str>,
    /// `bytea_output = hex` (else escape).
    pub bytea_hex: bool,
    /// `extra_float_digits`; ≥ 1 means shortest-exact, else so many digits more or fewer than the type always keeps.
    pub extra_float_digits: i32,
}

impl Default for Style {
    fn default() -> Self {
        Self {
            date_form: DateForm::Iso,
            date_order: DateOrder::Mdy,
            interval: IntervalForm::Postgres,
            time_zone: "GMT".into(),
            bytea_hex: true,
            extra_float_digits: 1,
        }
    }
}
