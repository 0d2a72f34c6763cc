//! The masks as SQL: functions for what needs no key, and the expression that stands in a lens for a masked column.
//!
//! In: a mask, a column and its type as `format_type` prints it. Out: SQL. Never: a session's search_path (functions,
//! operators and types are named with `pg_catalog`), an error for any stored value (it would answer a probe), a function
//! that takes a key, or a value to be keyed (it would answer guesses).
//!
//! The functions give what [`crate::mask::apply`] gives, byte for byte; `tests/masks.rs` compares. They are immutable,
//! parallel safe, and each one expression, so that PostgreSQL writes it into the query in the call's place. They are not
//! declared STRICT, because PostgreSQL keeps the call of a strict function whose body has CASE (`contain_nonstrict_functions`
//! in `inline_function`, clauses.c); NULL gives NULL all the same. Called by hand with masks' numbers that no policy
//! can hold (below 0, a size of 0) they give NULL.

mod keyed;

use crate::mask::Mask;
use crate::sql::literal::quoted as literal;
use crate::wire::types::{Format, Kind, SqlType, Style};
use crate::wire::value;

pub use keyed::{KEY_PADS, key_table};

/// One statement that makes something, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Definition {
    /// One line.
    pub why: String,
    /// Without the final semicolon.
    pub sql: String,
}

impl Definition {
    fn new(why: impl Into<String>, sql: impl Into<String>) -> Self {
        Self { why: why.into(), sql: sql.into() }
    }
}

/// Characters of Unicode's White_Space as members of a bracket expression: what `char::is_whitespace` says.
const WHITE_SPACE: &str = r"\u0009-\u000d\u0020\u0085\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000";

const TEXT: &str = "pg_catalog.text";
const DATE: &str = "pg_catalog.date";

/// A numeric from here on has no bucket and no noise: one digit more and PostgreSQL has no room for the result.
const NUMERIC_END: &str = "'1e131071'::numeric";

struct Function {
    /// Name and types.
    signature: String,
    result: &'static str,
    /// An expression whose operators stand between spaces, and where parentheses say what binds tighter.
    body: String,
}

fn function(name: &str, arguments: &str, result: &'static str, body: impl Into<String>) -> Function {
    Function { signature: format!("mask_{name}({arguments})"), result, body: body.into() }
}

/// The functions of [`functions`], as DROP FUNCTION names them.
pub fn signatures() -> Vec<String> {
    let all = text_functions().into_iter().chain(start_functions()).chain(bucket_functions());
    all.map(|function| format!("pgveil.{}", function.signature)).collect()
}

/// The SQL functions of the masks, replaced if they exist; everybody may call them.
pub fn functions() -> Vec<Definition> {
    let mut all = text_functions();
    all.extend(start_functions());
    all.extend(bucket_functions());
    let names: Vec<String> = all.iter().map(|f| format!("pgveil.{}", f.signature)).collect();
    let create = |f: &Function| {
        let head = format!("create or replace function pgveil.{} returns {}", f.signature, f.result);
        let sql = format!("{head} language sql immutable parallel safe return {}", qualified(&f.body));
        Definition::new(format!("mask: {}", f.signature), sql)
    };
    let mut statements: Vec<Definition> = all.iter().map(create).collect();
    let grant = format!("grant execute on function {} to public", names.join(", "));
    statements.push(Definition::new("a lens calls them as whoever reads it", grant));
    statements
}

/// Gives each operator between spaces its schema.
fn qualified(expression: &str) -> String {
    let word = |word: &str| match word {
        "||" | "=" | "<" | ">" | "<=" | ">=" | "+" | "-" | "*" | "/" | "%" | "~" | "|" | "&" => {
            format!("operator(pg_catalog.{word})")
        }
        _ => word.to_owned(),
    };
    expression.split(' ').map(word).collect::<Vec<_>>().join(" ")
}

fn text_functions() -> Vec<Function> {
    let domain = "pg_catalog.substr($1, (pg_catalog.strpos($1, '@') + 1))";
    let email = format!(
        "case when pg_catalog.strpos($1, '@') > 1 then pg_catalog.left($1, 1) || \
         pg_catalog.repeat('*', (pg_catalog.strpos($1, '@') - 2)) || '@' || \
         pg_catalog.repeat('*', pg_catalog.char_length(pg_catalog.split_part({domain}, '.', 1))) || \
         case when pg_catalog.strpos({domain}, '.') > 0 then '.' || pg_catalog.split_part({domain}, '.', -1) else '' end \
         when $1 is not null then 'anonymous@example.com' end"
    );
    let phone = "case when (pg_catalog.char_length($1) - \
                 pg_catalog.char_length(pg_catalog.translate($1, '0123456789', ''))) >= 10 \
                 then '+**-***-***-**' || pg_catalog.right(pg_catalog.regexp_replace($1, '[^0-9]+', '', 'g'), 2) \
                 when $1 is not null then '***-***-****' end";
    let name = format!(
        "case when $1 ~ '[^{WHITE_SPACE}]' then pg_catalog.btrim(pg_catalog.regexp_replace(\
         pg_catalog.regexp_replace($1, '(?<=[^{WHITE_SPACE}])[^{WHITE_SPACE}]', '*', 'g'), '[{WHITE_SPACE}]+', ' ', 'g'), ' ') \
         when $1 is not null then 'Anonymous User' end"
    );
    let date = format!(
        "case when $1 ~ '{}' then pg_catalog.left($1, 4) || '-**-**' when $1 is not null then '****-**-**' end",
        iso_date_or_time()
    );
    let partial = "case when $2 >= 0 and $3 >= 0 then case when pg_catalog.char_length($1) > ($2::bigint + $3) \
                   then pg_catalog.left($1, $2) || \
                   pg_catalog.repeat('*', (pg_catalog.char_length($1) - $2 - $3)) || pg_catalog.right($1, $3) \
                   else pg_catalog.repeat('*', pg_catalog.char_length($1)) end end";
    let hidden = "case when $1 is not null then '****-**-**' end".to_owned();
    vec![
        function("email", TEXT, TEXT, email),
        function("phone", TEXT, TEXT, phone),
        function("name", TEXT, TEXT, name),
        function("date", TEXT, TEXT, date),
        function("date_hidden", TEXT, TEXT, hidden),
        function("partial", "pg_catalog.text, integer, integer", TEXT, partial),
    ]
}

/// What `mask::apply` takes for a day, alone or with a time, as a regular expression.
fn iso_date_or_time() -> String {
    let days = |dash: &str| {
        let leap = "(?:[0-9]{2}(?:0[48]|[2468][048]|[13579][26])|(?:[02468][048]|[13579][26])00)";
        format!(
            "(?:[0-9]{{4}}{dash}(?:(?:0[13578]|1[02]){dash}(?:0[1-9]|[12][0-9]|3[01])|\
             (?:0[469]|11){dash}(?:0[1-9]|[12][0-9]|30)|02{dash}(?:0[1-9]|1[0-9]|2[0-8]))|{leap}{dash}02{dash}29)"
        )
    };
    let hours = "(?:[01][0-9]|2[0-3])";
    format!(
        "^(?!0000)(?:{}|{})(?:[T\\u0020]{hours}(?::[0-5][0-9](?::[0-5][0-9](?:[.][0-9]+)?)?)?\
         (?:Z|[+-]{hours}(?::[0-5][0-9](?::[0-5][0-9])?)?)?)?$",
        days("-"),
        days("")
    )
}

/// `year`, `month` and `decade`. Of timestamptz in UTC. The first decade is that of the year 10, as there is no year 0.
fn start_functions() -> Vec<Function> {
    let mut all = Vec::new();
    for (unit, first) in [("year", "0001"), ("month", "0001"), ("decade", "0010")] {
        let year = "pg_catalog.extract('year', $1)::integer";
        let start = match unit {
            "year" => format!("pg_catalog.make_date({year}, 1, 1)"),
            "month" => format!("pg_catalog.make_date({year}, pg_catalog.extract('month', $1)::integer, 1)"),
            _ => format!("pg_catalog.make_date((({year} / 10) * 10), 1, 1)"),
        };
        let within = |ty: &str, start: &str| {
            format!("case when $1 >= '{first}-01-01 00:00:00Z'::{ty} and $1 < 'infinity'::{ty} then {start} end")
        };
        let utc =
            format!("pg_catalog.timezone('UTC', pg_catalog.date_trunc('{unit}', pg_catalog.timezone('UTC', $1)))");
        let local = format!("pg_catalog.date_trunc('{unit}', $1)");
        for (ty, start) in [(DATE, start), ("timestamp", local), ("timestamp with time zone", utc)] {
            all.push(function(unit, ty, ty, within(ty, &start)));
        }
    }
    all
}

/// `bucket`. A numeric's largest magnitude is the third argument.
fn bucket_functions() -> Vec<Function> {
    let whole = |least: &str| {
        format!(
            "case when $2 > 0 then case when ($1 % $2) >= 0 then $1 - ($1 % $2) \
             when ($1 - ($1 % $2)) >= ('{least}'::bigint + $2) then ($1 - ($1 % $2)) - $2 end end"
        )
    };
    let narrow = |ty: &str, least: &str| format!("({})::{ty}", whole(least).replace("$1", "$1::bigint"));
    let float = "case when $2 > 0 and $1 > '-9007199254740992'::double precision and \
                 $1 < '9007199254740992'::double precision then \
                 case when $1 >= 1::double precision or $1 <= (-1)::double precision then \
                 pg_catalog.floor(($1 / $2::double precision)) * $2::double precision \
                 when $1 < 0::double precision then ( - $2)::double precision else 0::double precision end end";
    let real = format!("({})::real", float.replace("$1", "$1::double precision"));
    let low = "(pg_catalog.div((pg_catalog.floor($1) - case when $1 < 0::numeric then ($2 - 1)::numeric else 0::numeric end), \
               $2::numeric) * $2::numeric)";
    let numeric = format!(
        "case when $2 > 0 and pg_catalog.abs($1) < {NUMERIC_END} then \
         case when pg_catalog.abs({low}) <= $3 and pg_catalog.abs({low}) < {NUMERIC_END} then {low} end end"
    );
    vec![
        function("bucket", "smallint, bigint", "smallint", narrow("smallint", "-32768")),
        function("bucket", "integer, bigint", "integer", narrow("integer", "-2147483648")),
        function("bucket", "bigint, bigint", "bigint", whole("-9223372036854775808")),
        function("bucket", "numeric, bigint, numeric", "numeric", numeric),
        function("bucket", "real, bigint", "real", real),
        function("bucket", "double precision, bigint", "double precision", float),
    ]
}

/// What a column's type is to a mask.
enum Column {
    /// One of pgveil's kinds.
    Of(SqlType),
    /// `character(n)`, whose text has no trailing blanks.
    Padded,
    /// Anything else: array, enum, domain, composite, a type of the user's or of an extension.
    Other,
}

impl Column {
    fn of(type_name: &str) -> Self {
        match SqlType::parse(type_name) {
            Ok(ty) => Self::Of(ty),
            Err(_) if type_name == "bpchar" || type_name.split('(').next() == Some("character") => Self::Padded,
            Err(_) => Self::Other,
        }
    }

    fn is_text(&self) -> bool {
        matches!(self, Self::Padded) || matches!(self, Self::Of(ty) if ty.kind.is_text())
    }
}

/// The masked column as an SQL expression of the column's own type and collation.
///
/// `type_name` is what `format_type` prints under `search_path = pg_catalog`, so that a user's type is never taken for
/// one of PostgreSQL's. `column` is a column reference, quoted; `full_name` is `schema.table.column`, which separates the
/// pseudonyms and the noise of one column from those of all others.
///
/// Text, varchar and char(n) take every text mask, cut to the declared length; dates and numbers take the generalising
/// masks and noise; uuid takes `id`; a fixed text stands for any kind that has it as a value. Everything else is NULL, and
/// NULL stays NULL. Domains are always NULL: their CHECK could refuse a masked value, and their `NOT NULL` is left to the
/// base table.
///
/// `noise:N` adds up to N units either way: to integers a whole number, to numeric and floats a fraction, to dates whole
/// days, to timestamps a part of N days. It is the same for the same value of the same column, made from an HMAC of
/// it; results stay in the type's range and between the years 1 and 9999, NULL for what is outside already. N counts up to a
/// million for dates.
pub fn expression(mask: &Mask, type_name: &str, column: &str, full_name: &str) -> String {
    let shape = Column::of(type_name);
    let cast = cast_of(&shape, type_name);
    let masked = match (mask, &shape) {
        (_, Column::Other) => None,
        (Mask::Fixed(text), _) => fixed(text, &shape, column),
        (Mask::Id, Column::Of(SqlType { kind: Kind::Uuid, .. })) => Some(keyed::uuid(column, full_name)),
        (Mask::Id, _) if shape.is_text() => keyed::text(type_name, column, full_name),
        (_, Column::Of(ty)) if !ty.kind.is_text() => of_kind(mask, *ty, column, full_name),
        _ => of_text(mask, column),
    };
    match masked {
        Some(masked) => format!("({masked})::{cast}"),
        None => null(&shape, &cast, column),
    }
}

/// The type for a cast, whatever the search_path.
fn cast_of(shape: &Column, type_name: &str) -> String {
    match shape {
        Column::Of(SqlType { kind, .. })
            if matches!(kind, Kind::Text | Kind::Date | Kind::Uuid | Kind::Json | Kind::Jsonb | Kind::Bytea) =>
        {
            format!("pg_catalog.{}", kind.name())
        }
        Column::Of(ty) => ty.to_string(),
        // The bare word would be character(1).
        Column::Padded if type_name == "character" || type_name == "bpchar" => "pg_catalog.bpchar".to_owned(),
        Column::Padded | Column::Other => type_name.to_owned(),
    }
}

/// NULL of the column's type. A subselect has a domain's type and yet no value that the domain could refuse; a CASE takes
/// the column's collation over.
fn null(shape: &Column, cast: &str, column: &str) -> String {
    match shape {
        Column::Other => format!("(select {column} where false)"),
        _ if shape.is_text() => format!("(case when false then {column}::{TEXT} end)::{cast}"),
        _ => format!("null::{cast}"),
    }
}

fn of_text(mask: &Mask, column: &str) -> Option<String> {
    let call = |name: &str| Some(format!("pgveil.mask_{name}({column}::{TEXT})"));
    let partial = |start: u16, end: u16| Some(format!("pgveil.mask_partial({column}::{TEXT}, {start}, {end})"));
    match mask {
        Mask::Email => call("email"),
        Mask::Phone => call("phone"),
        Mask::Name => call("name"),
        Mask::Date => call("date"),
        Mask::DateHidden => call("date_hidden"),
        Mask::Partial { keep_start, keep_end } => partial(*keep_start, *keep_end),
        Mask::Last4 => partial(0, 4),
        _ => None,
    }
}

fn of_kind(mask: &Mask, ty: SqlType, column: &str, full_name: &str) -> Option<String> {
    let dated = matches!(ty.kind, Kind::Date | Kind::Timestamp | Kind::Timestamptz);
    match mask {
        Mask::Year if dated => Some(format!("pgveil.mask_year({column})")),
        Mask::Month if dated => Some(format!("pgveil.mask_month({column})")),
        Mask::Decade if dated => Some(format!("pgveil.mask_decade({column})")),
        Mask::Bucket(size) => match ty.kind {
            Kind::Int2 | Kind::Int4 | Kind::Int8 | Kind::Float4 | Kind::Float8 => {
                Some(format!("pgveil.mask_bucket({column}, '{size}'::bigint)"))
            }
            Kind::Numeric => Some(format!("pgveil.mask_bucket({column}, '{size}'::bigint, {})", largest_numeric(ty))),
            _ => None,
        },
        Mask::Noise(size) => keyed::noise(*size, ty, column, full_name),
        _ => None,
    }
}

/// A fixed text where the column is not NULL, if it is one of the type's values: as PostgreSQL prints it in ISO style,
/// which reads the same under any settings.
fn fixed(text: &str, shape: &Column, column: &str) -> Option<String> {
    match shape {
        _ if shape.is_text() => {
            crate::mask::apply(&Mask::Fixed(text.into()), Kind::Text, "")?;
            Some(format!("case when {column} is null then {column}::{TEXT} else {} end", literal(text)))
        }
        Column::Of(ty) => {
            let (mut plain, mut shown) = (Vec::new(), Vec::new());
            value::decode(*ty, Format::Text, text.as_bytes(), &Style::default(), &mut plain).ok()?;
            value::encode(*ty, &plain, Format::Text, &Style::default(), &mut shown).ok()?;
            let shown = String::from_utf8(shown).ok()?;
            let cast = cast_of(shape, "");
            Some(format!("case when {column} is not null then {}::{cast} end", literal(&shown)))
        }
        _ => None,
    }
}

/// The largest value of `numeric(p,s)`: p nines, s of them behind the point.
fn largest_numeric(ty: SqlType) -> String {
    match ty.to_string().strip_prefix("numeric(").and_then(|rest| rest.strip_suffix(')')?.split_once(',')) {
        Some((precision, scale)) => {
            let digits = "9".repeat(precision.parse().unwrap_or(0));
            let exponent = -scale.parse::<i32>().unwrap_or(0);
            format!("'{digits}e{exponent}'::numeric")
        }
        None => NUMERIC_END.to_owned(),
    }
}
