//! Keyed masks: pseudonyms and noise, inline in a lens.
//!
//! In: a column and its full name. Out: expressions over an HMAC of the column's value, and the one-row table of its key,
//! which PostgreSQL draws itself and only the owner of the lenses reads. Never: a function that whoever reads a lens could call with
//! a guess, one column's pseudonym in another column.
//!
//! HMAC-SHA-256 (RFC 2104) is sha256(opad ‖ sha256(ipad ‖ message)), where ipad and opad are the key's two pads, already
//! xored. The message is the mask's word, NUL, `schema.table.column`, NUL, and the value's bytes; names have no NUL.

use std::num::NonZeroU32;

use super::{DATE, Definition, NUMERIC_END, TEXT, largest_numeric, qualified};
use crate::wire::types::{Kind, SqlType};

/// A SHA-256 block.
const BLOCK_BYTES: usize = 64;

/// Characters of a pseudonym: `anon_` and 32 hex digits.
const PSEUDONYM_CHARS: i32 = 37;

/// Where the column comes in, after the operators have got their schema: its name may look like anything.
const COLUMN: &str = "$1";

/// What N is for dates at most, in days: from the years 1–9999 nothing then leaves the range of a timestamp.
const NOISE_DAYS_MAX: u32 = 1_000_000;

/// 0001-01-01 and 9999-12-31 in days from 2000-01-01.
const DAYS: (i32, i32) = (-730_119, 2_921_939);

/// The two pads of a key that PostgreSQL draws (`gen_random_uuid` takes its bits from the system's generator), so that it
/// never stands in a statement, and in no log: a query of one row, (ipad, opad).
pub const KEY_PADS: &str = "with key as materialized (select pg_catalog.sha256(pg_catalog.uuid_send(pg_catalog.gen_random_uuid()) \
     operator(pg_catalog.||) pg_catalog.uuid_send(pg_catalog.gen_random_uuid()) \
     operator(pg_catalog.||) pg_catalog.uuid_send(pg_catalog.gen_random_uuid()) \
     operator(pg_catalog.||) pg_catalog.uuid_send(pg_catalog.gen_random_uuid())) \
     operator(pg_catalog.||) pg_catalog.decode(pg_catalog.repeat('00', 32), 'hex') as bytes) \
     select pg_catalog.string_agg(pg_catalog.set_byte('\\x00', 0, pg_catalog.get_byte(key.bytes, i) operator(pg_catalog.#) 54), '' order by i), \
     pg_catalog.string_agg(pg_catalog.set_byte('\\x00', 0, pg_catalog.get_byte(key.bytes, i) operator(pg_catalog.#) 92), '' order by i) \
     from key, pg_catalog.generate_series(0, 63) as i";

/// `pgveil.lens_key`, with room for one row, for `pgveil_lens` to read and for nobody else.
pub fn key_table() -> Vec<Definition> {
    let length = |pad: &str| format!("check (pg_catalog.octet_length({pad}) operator(pg_catalog.=) {BLOCK_BYTES})");
    let create = format!(
        "create table pgveil.lens_key (only_row boolean primary key default true check (only_row), \
         ipad pg_catalog.bytea not null {}, opad pg_catalog.bytea not null {})",
        length("ipad"),
        length("opad")
    );
    vec![
        Definition::new("the key of pseudonyms and noise in lenses", create),
        Definition::new("… read by nobody", "revoke all on pgveil.lens_key from public"),
        Definition::new("… but the lenses", "grant select on pgveil.lens_key to pgveil_lens"),
        Definition::new("drawn once", format!("insert into pgveil.lens_key (ipad, opad) {KEY_PADS}")),
    ]
}

/// 32 bytes of `bytea`. The pads are read once per statement: their subselects depend on nothing.
fn hmac(word: &str, full_name: &str, bytes: &str) -> String {
    let prefix = hex::encode([word, "\0", full_name, "\0"].concat());
    format!(
        "pg_catalog.sha256(((select k.opad from pgveil.lens_key as k) || pg_catalog.sha256(\
         ((select k.ipad from pgveil.lens_key as k) || '\\x{prefix}'::pg_catalog.bytea || {bytes}))))"
    )
}

/// A text's bytes. `convert_to` would fail for what a database without an encoding can hold, and `replace` under a
/// collation that is not deterministic.
fn bytes_of(text: &str) -> String {
    format!(
        "pg_catalog.decode(pg_catalog.replace(({text} collate pg_catalog.\"C\"), pg_catalog.chr(92), \
         pg_catalog.repeat(pg_catalog.chr(92), 2)), 'escape')"
    )
}

/// `anon_` and 32 hex digits, where they fit: half a pseudonym is none.
pub(super) fn text(type_name: &str, column: &str, full_name: &str) -> Option<String> {
    let length = type_name.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')')?.parse::<i32>().ok());
    if length.is_some_and(|length| length < PSEUDONYM_CHARS) {
        return None;
    }
    let hmac = hmac("id", full_name, &bytes_of(&format!("{COLUMN}::{TEXT}")));
    let pseudonym = format!("('anon_' || pg_catalog.left(pg_catalog.encode({hmac}, 'hex'), 32))");
    // The first branch brings the column's collation.
    Some(of_column(&format!("case when {COLUMN} is null then {COLUMN}::{TEXT} else {pseudonym} end"), column))
}

/// A UUID of version 8 (RFC 9562), as `mask::apply_id` makes it.
///
/// The column stands in the innermost subselect, which has no FROM: nothing there could be taken for it.
pub(super) fn uuid(column: &str, full_name: &str) -> String {
    let hmac = hmac("id", full_name, &format!("pg_catalog.uuid_send({COLUMN})"));
    let bits = |at: u8, keep: u8, set: u8| format!("((pg_catalog.get_byte(s.h, {at}) & {keep}) | {set})");
    let bits = [bits(6, 0x0f, 0x80), bits(8, 0x3f, 0x80)];
    let sql = format!(
        "select pg_catalog.encode(pg_catalog.set_byte(pg_catalog.set_byte(s.h, 6, {}), 8, {}), 'hex') \
         from (select pg_catalog.substr({hmac}, 1, 16) as h offset 0) as s",
        bits[0], bits[1]
    );
    of_column(&sql, column)
}

fn of_column(sql: &str, column: &str) -> String {
    qualified(sql).replace(COLUMN, column)
}

/// The value and up to `size` units; `None` for types that have none.
pub(super) fn noise(size: NonZeroU32, ty: SqlType, column: &str, full_name: &str) -> Option<String> {
    Some(of_column(&noisy(size, ty, full_name)?, column))
}

fn noisy(size: NonZeroU32, ty: SqlType, full_name: &str) -> Option<String> {
    let bytes = match ty.kind {
        Kind::Int2 | Kind::Int4 | Kind::Int8 => format!("pg_catalog.int8send({COLUMN}::bigint)"),
        // Equal numbers are equal bytes: 1.0 and 1.00, 0 and −0.
        Kind::Numeric => bytes_of(&format!("pg_catalog.trim_scale({COLUMN})::{TEXT}")),
        Kind::Float4 | Kind::Float8 => {
            format!("pg_catalog.float8send(({COLUMN}::double precision + '0'::double precision))")
        }
        Kind::Date => format!("pg_catalog.date_send({COLUMN})"),
        Kind::Timestamp => format!("pg_catalog.timestamp_send({COLUMN})"),
        Kind::Timestamptz => format!("pg_catalog.timestamptz_send({COLUMN})"),
        _ => return None,
    };
    let hmac = hmac("noise", full_name, &bytes);
    let drawn = format!("('x' || pg_catalog.left(pg_catalog.encode({hmac}, 'hex'), 16))::bit(64)::bigint");
    let days = size.get().min(NOISE_DAYS_MAX);
    let (moved, least, most) = match ty.kind {
        Kind::Int2 => (integer(size.get(), &drawn), "-32768", "32767"),
        Kind::Int4 => (integer(size.get(), &drawn), "-2147483648", "2147483647"),
        Kind::Int8 => (integer(size.get(), &drawn), "-9223372036854775808", "9223372036854775807"),
        Kind::Numeric => return Some(numeric(size.get(), &drawn, ty)),
        Kind::Float4 | Kind::Float8 => return Some(float(size.get(), &drawn)),
        Kind::Date => return Some(date(days, &drawn)),
        _ => return Some(timestamp(days, &drawn, ty.kind)),
    };
    Some(clamped("s.x", &moved, &format!("'{least}'::numeric"), &format!("'{most}'::numeric")))
}

/// `shown` of `s.x`, brought between two bounds; NULL where `moved` is.
fn clamped(shown: &str, moved: &str, least: &str, most: &str) -> String {
    let within = shown.replace("s.x", &format!("least(greatest(s.x, {least}), {most})"));
    format!("select {within} from (select {moved} as x offset 0) as s where s.x is not null")
}

/// A whole number from −size to size, each as likely as the others (to one part in 2^31).
fn whole(size: u32, drawn: &str) -> String {
    let count = 2 * u64::from(size) + 1;
    format!("((((({drawn} % '{count}'::bigint) + '{count}'::bigint) % '{count}'::bigint)) - '{size}'::bigint)")
}

/// A number from −size to size.
fn fraction(size: f64, drawn: &str) -> String {
    format!("(({drawn}::double precision / '9223372036854775808'::double precision) * '{size}'::double precision)")
}

fn integer(size: u32, drawn: &str) -> String {
    format!("({COLUMN}::numeric + {}::numeric)", whole(size, drawn))
}

fn numeric(size: u32, drawn: &str, ty: SqlType) -> String {
    let sum = format!("({COLUMN} + {}::numeric)", fraction(size.into(), drawn));
    let moved = format!(
        "case when pg_catalog.abs({COLUMN}) < {NUMERIC_END} then pg_catalog.round({sum}, pg_catalog.scale({COLUMN})) end"
    );
    let most = largest_numeric(ty);
    clamped("s.x", &moved, &most.replacen('\'', "'-", 1), &most)
}

/// No bound is needed: from the largest float, four billion more is the same float.
fn float(size: u32, drawn: &str) -> String {
    let sum = format!("({COLUMN}::double precision + {})", fraction(size.into(), drawn));
    format!(
        "case when {COLUMN}::double precision > '-Infinity'::double precision and \
         {COLUMN}::double precision < 'Infinity'::double precision then {sum} end"
    )
}

fn date(days: u32, drawn: &str) -> String {
    let epoch = format!("'2000-01-01'::{DATE}");
    let moved = format!(
        "case when {COLUMN} >= '0001-01-01'::{DATE} and {COLUMN} <= '9999-12-31'::{DATE} \
         then ({COLUMN} - {epoch})::bigint + {} end",
        whole(days, drawn)
    );
    let shown = format!("({epoch} + (s.x)::integer)");
    clamped(&shown, &moved, &format!("'{}'::bigint", DAYS.0), &format!("'{}'::bigint", DAYS.1))
}

fn timestamp(days: u32, drawn: &str, kind: Kind) -> String {
    let ty = if kind == Kind::Timestamp { "timestamp" } else { "timestamp with time zone" };
    let (first, last) = (format!("'0001-01-01 00:00:00Z'::{ty}"), format!("'9999-12-31 23:59:59Z'::{ty}"));
    // Seconds only: days of a timestamptz would depend on the session's time zone.
    let seconds = fraction(f64::from(days) * 86_400.0, drawn);
    let moved = format!(
        "case when {COLUMN} >= {first} and {COLUMN} <= {last} \
         then {COLUMN} + pg_catalog.make_interval(0, 0, 0, 0, 0, 0, {seconds}) end"
    );
    clamped("s.x", &moved, &first, &last)
}
