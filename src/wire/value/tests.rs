//! What PostgreSQL's documentation and regression tests say, case by case.

use super::*;

fn ty(name: &str) -> SqlType {
    SqlType::parse(name).unwrap()
}

fn sealed(name: &str, text: &str, style: &Style) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    decode(ty(name), Format::Text, text.as_bytes(), style, &mut out)?;
    Ok(out)
}

fn shown(name: &str, text: &str, style: &Style) -> Result<String> {
    let plaintext = sealed(name, text, style)?;
    let mut out = Vec::new();
    encode(ty(name), &plaintext, Format::Text, style, &mut out)?;
    // Binary and back is the same plaintext.
    let (mut binary, mut again) = (Vec::new(), Vec::new());
    encode(ty(name), &plaintext, Format::Binary, style, &mut binary)?;
    decode(ty(name), Format::Binary, &binary, style, &mut again)?;
    assert_eq!(again, plaintext, "{name}");
    Ok(String::from_utf8(out).unwrap())
}

fn plain(name: &str, text: &str) -> String {
    shown(name, text, &Style::default()).unwrap_or_else(|e| format!("{:?}", e.sqlstate))
}

#[track_caller]
fn cases(name: &str, cases: &[(&str, &str)]) {
    for (input, output) in cases {
        assert_eq!(plain(name, input), *output, "{name} {input:?}");
    }
}

fn style(form: DateForm, order: DateOrder, zone: &str) -> Style {
    Style { date_form: form, date_order: order, time_zone: zone.into(), ..Style::default() }
}

use crate::wire::types::{DateForm, DateOrder, IntervalForm};

#[test]
fn strings() {
    cases("text", &[("", ""), (" é ", " é ")]);
    cases("varchar(3)", &[("abc", "abc"), ("ab  ", "ab "), ("ééé   ", "ééé"), ("abcd", "22001")]);
    let mut out = Vec::new();
    for bad in [&b"a\0"[..], b"\xff", b"\xed\xa0\x80"] {
        let e = decode(ty("text"), Format::Text, bad, &Style::default(), &mut out).unwrap_err();
        assert_eq!(e.sqlstate.as_str(), "22021");
    }
}

#[test]
fn integers() {
    cases("int2", &[(" 32767 ", "32767"), ("-32768", "-32768"), ("32768", "22003"), ("1.0", "22P02"), ("", "22P02")]);
    cases("int4", &[("+7", "7"), ("2147483648", "22003"), ("1_000", "22P02"), ("0x10", "22P02"), ("- 1", "22P02")]);
    cases("int8", &[("-9223372036854775808", "-9223372036854775808"), ("9223372036854775808", "22003")]);
}

#[test]
fn floats() {
    cases(
        "float8",
        &[
            ("1e15", "1e+15"),
            ("123456789012345", "123456789012345"),
            ("0.0001", "0.0001"),
            ("0.00001", "1e-05"),
            ("-0", "-0"),
            ("nan", "NaN"),
            ("-Infinity", "-Infinity"),
            ("inf", "Infinity"),
            ("1e400", "22003"),
            ("1e-400", "22003"),
            ("5e-324", "5e-324"),
            ("0.1", "0.1"),
            ("9007199254740993", "9.007199254740992e+15"),
            ("0x10", "22P02"),
            ("1e", "22P02"),
        ],
    );
    cases(
        "float4",
        &[("1.1", "1.1"), ("1e6", "1e+06"), ("123456", "123456"), ("3.4028235e38", "3.4028235e+38"), ("1e39", "22003")],
    );
    assert_eq!(sealed("float4", "1.1", &Style::default()).unwrap(), f64::from(1.1_f32).to_be_bytes());
    for (name, text, extra_float_digits, printed) in [
        ("float8", "0.1", 0, "0.1"),
        ("float8", "1e15", 0, "1e+15"),
        ("float8", "-1004.30000000000007", -12, "-1e+03"),
        ("float8", "2.5", -15, "2"),
        ("float4", "1.17549e-38", -3, "1.18e-38"),
        ("float4", "1234567.89", 0, "1.23457e+06"),
    ] {
        let style = Style { extra_float_digits, ..Style::default() };
        let mut shown = Vec::new();
        encode(ty(name), &sealed(name, text, &style).unwrap(), Format::Text, &style, &mut shown).unwrap();
        assert_eq!(String::from_utf8(shown).unwrap(), printed, "{name} {text}");
    }
}

#[test]
fn booleans() {
    cases("bool", &[(" TRU ", "t"), ("y", "t"), ("on", "t"), ("of", "f"), ("0", "f"), ("o", "22P02"), ("2", "22P02")]);
}

#[test]
fn uuids() {
    let canonical = "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11";
    for same in [
        "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11",
        "{a0eebc99-9c0b4ef8-bb6d6bb9-bd380a11}",
        "a0eebc999c0b4ef8bb6d6bb9bd380a11",
        "a0ee-bc99-9c0b-4ef8-bb6d-6bb9-bd38-0a11",
    ] {
        assert_eq!(plain("uuid", same), canonical);
    }
    cases("uuid", &[("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a1", "22P02"), ("{a0eebc999c0b4ef8bb6d6bb9bd380a11", "22P02")]);
}

#[test]
fn byteas() {
    cases("bytea", &[("\\xDE ad", "\\xdead"), ("a\\\\b\\000", "\\x615c6200"), ("\\xabc", "22023"), ("\\400", "22P02")]);
    let escape = Style { bytea_hex: false, ..Style::default() };
    assert_eq!(shown("bytea", "\\x615c00ff", &escape).unwrap(), "a\\\\\\000\\377");
}

#[test]
fn numerics() {
    cases(
        "numeric",
        &[
            ("1.10", "1.10"),
            ("-0.00", "0.00"),
            ("00012345.67890", "12345.67890"),
            ("1e3", "1000"),
            ("1.5e-7", "0.00000015"),
            ("nan", "NaN"),
            ("-inf", "-Infinity"),
            ("1e131072", "22003"),
            (".", "22P02"),
            ("1e", "22P02"),
            ("-nan", "22P02"),
        ],
    );
    cases(
        "numeric(4,2)",
        &[("1.005", "1.01"), ("99.994", "99.99"), ("99.995", "22003"), ("-0.001", "0.00"), ("inf", "22003")],
    );
    cases("numeric(3,-2)", &[("12345", "12300"), ("99950", "22003"), ("49", "0")]);
    cases("numeric(3,5)", &[("0.00123", "0.00123"), ("0.01", "22003")]);
    let canonical = [0, 2, 0, 1, 0, 0, 0, 2, 0, 1, 0x23, 0x28];
    assert_eq!(sealed("numeric(10,2)", "19000", &Style::default()).unwrap(), canonical, "1·10000 + 9000");
}

#[test]
fn dates() {
    cases(
        "date",
        &[
            ("1999-01-08", "1999-01-08"),
            ("January 8, 1999", "1999-01-08"),
            ("1/8/1999", "1999-01-08"),
            ("1/18/1999", "1999-01-18"),
            ("01/02/03", "2003-01-02"),
            ("1999-Jan-08", "1999-01-08"),
            ("08-Jan-99", "1999-01-08"),
            ("19990108", "1999-01-08"),
            ("990108", "1999-01-08"),
            ("1999.008", "1999-01-08"),
            ("J2451187", "1999-01-08"),
            ("January 8, 99 BC", "0099-01-08 BC"),
            ("1999-01-08 04:05:06+01", "1999-01-08"),
            ("epoch", "1970-01-01"),
            ("infinity", "infinity"),
            ("-infinity", "-infinity"),
            ("13/1/1999", "22008"),
            ("2023-02-29", "22008"),
            ("today", "0A000"),
            ("x", "22007"),
            ("", "22007"),
            ("4714-11-24 BC", "4714-11-24 BC"),
            ("4714-11-23 BC", "22008"),
            ("5874897-12-31", "5874897-12-31"),
            ("5874898-01-01", "22008"),
        ],
    );
    assert_eq!(sealed("date", "1985-07-23", &Style::default()).unwrap(), (-5275_i32).to_be_bytes());
}

#[test]
fn date_styles() {
    let at = "1997-12-17 07:37:16.5-08";
    for (form, order, date, stamp) in [
        (DateForm::Iso, DateOrder::Mdy, "1997-12-17", "1997-12-17 07:37:16.5-08"),
        (DateForm::Sql, DateOrder::Mdy, "12/17/1997", "12/17/1997 07:37:16.5 PST"),
        (DateForm::Sql, DateOrder::Dmy, "17/12/1997", "17/12/1997 07:37:16.5 PST"),
        (DateForm::Postgres, DateOrder::Mdy, "12-17-1997", "Wed Dec 17 07:37:16.5 1997 PST"),
        (DateForm::Postgres, DateOrder::Dmy, "17-12-1997", "Wed 17 Dec 07:37:16.5 1997 PST"),
        (DateForm::German, DateOrder::Ymd, "17.12.1997", "17.12.1997 07:37:16.5 PST"),
    ] {
        let style = style(form, order, "PST8PDT");
        assert_eq!(shown("timestamptz", at, &style).unwrap(), stamp);
        assert_eq!(shown("date", "1997-12-17", &style).unwrap(), date);
    }
}

#[test]
fn times() {
    cases(
        "time",
        &[
            ("04:05:06.789", "04:05:06.789"),
            ("040506", "04:05:06"),
            ("04:05 AM", "04:05:00"),
            ("04:05 PM", "16:05:00"),
            ("12:00 AM", "00:00:00"),
            ("04:05:06-08:00", "04:05:06"),
            ("2003-04-12 04:05:06 America/New_York", "04:05:06"),
            ("24:00", "24:00:00"),
            ("24:00:01", "22008"),
            ("25:00", "22008"),
            ("now", "0A000"),
        ],
    );
    cases("time(2)", &[("04:05:06.789", "04:05:06.79"), ("23:59:59.999", "24:00:00")]);
}

#[test]
fn timestamps() {
    cases("timestamp(0)", &[("2004-10-19 10:23:54.5+02", "2004-10-19 10:23:55"), ("epoch", "1970-01-01 00:00:00")]);
    cases(
        "timestamp",
        &[("20011225T040506.789", "2001-12-25 04:05:06.789"), ("294277-01-01", "22008"), ("10:23", "22007")],
    );
    let berlin = style(DateForm::Iso, DateOrder::Mdy, "Europe/Berlin");
    for (input, output) in [
        ("2021-03-28 02:30", "2021-03-28 03:30:00+02"),
        ("2021-10-31 02:30", "2021-10-31 02:30:00+01"),
        ("1850-01-01", "1850-01-01 00:00:00+00:53:28"),
        ("2021-07-01 12:00 America/New_York", "2021-07-01 18:00:00+02"),
        ("2021-07-01 12:00 PST", "2021-07-01 22:00:00+02"),
        ("2021-07-01T12:00Z", "2021-07-01 14:00:00+02"),
        ("10321-07-01 12:00", "10321-07-01 12:00:00+02"),
    ] {
        assert_eq!(shown("timestamptz", input, &berlin).unwrap(), output, "{input}");
    }
    let fixed = style(DateForm::Sql, DateOrder::Mdy, "<+05:30>-05:30");
    assert_eq!(shown("timestamptz", "2021-07-01 12:00Z", &fixed).unwrap(), "07/01/2021 17:30:00 +05:30");
}

#[test]
fn intervals() {
    let all = |text: &str| {
        [IntervalForm::Postgres, IntervalForm::PostgresVerbose, IntervalForm::SqlStandard, IntervalForm::Iso8601]
            .map(|interval| shown("interval", text, &Style { interval, ..Style::default() }).unwrap())
    };
    assert_eq!(all("1 year 2 mons"), ["1 year 2 mons", "@ 1 year 2 mons", "1-2", "P1Y2M"]);
    assert_eq!(all("3 4:05:06"), ["3 days 04:05:06", "@ 3 days 4 hours 5 mins 6 secs", "3 4:05:06", "P3DT4H5M6S"]);
    assert_eq!(
        all("-1-2 +3 -4:05:06"),
        [
            "-1 years -2 mons +3 days -04:05:06",
            "@ 1 year 2 mons -3 days 4 hours 5 mins 6 secs ago",
            "-1-2 +3 -4:05:06",
            "P-1Y-2M3DT-4H-5M-6S"
        ]
    );
    cases(
        "interval",
        &[
            ("P1Y2M3DT4H5M6S", "1 year 2 mons 3 days 04:05:06"),
            ("P0001-02-03T04:05:06", "1 year 2 mons 3 days 04:05:06"),
            ("1.5 weeks", "10 days 12:00:00"),
            ("1 day ago", "-1 days"),
            ("infinity", "22007"),
            ("3000000000 years", "22015"),
        ],
    );
    let sql = Style { interval: IntervalForm::SqlStandard, ..Style::default() };
    assert_eq!(shown("interval", "-1 2:00", &sql).unwrap(), "-1 2:00:00");
    assert!(shown("interval", "-9223372036854775808 us", &sql).is_ok());
    assert_eq!(plain("interval", "-9223372036854775808 us"), "-2562047788:00:54.775808");
    cases("interval day to minute", &[("1 2:03:04", "1 day 02:03:00")]);
    cases("interval(2)", &[("1.239 secs", "00:00:01.24")]);
}

#[test]
fn json_documents() {
    cases(
        "json",
        &[(" {\"a\":1 , \"a\":2}", " {\"a\":1 , \"a\":2}"), ("{a:1}", "22P02"), ("\"\\u0000\"", "\"\\u0000\"")],
    );
    cases(
        "jsonb",
        &[
            ("{\"bb\":1,\"a\":[1.0,2e3,true],\"bb\":null}", "{\"a\": [1.0, 2000, true], \"bb\": null}"),
            ("\"\\u00e9\\n\\u001f\\ud83d\\ude00\"", "\"é\\n\\u001f😀\""),
            ("[-0, -0.0]", "[0, 0.0]"),
            ("\"\\u0000\"", "22P05"),
            ("\"\\ud83d\"", "22P02"),
            ("01", "22P02"),
            ("{}", "{}"),
            ("[]", "[]"),
        ],
    );
    assert_eq!(plain("jsonb", &"[".repeat(100_000)), "54001");
}

#[test]
fn type_names() {
    for (name, printed) in [
        ("varchar(320)", "character varying(320)"),
        ("Character  Varying ( 320 )", "character varying(320)"),
        ("numeric(10, 2)", "numeric(10,2)"),
        ("numeric(3,-2)", "numeric(3,-2)"),
        ("decimal(5)", "numeric(5,0)"),
        ("int", "integer"),
        ("bigint", "bigint"),
        ("double precision", "double precision"),
        ("float(24)", "real"),
        ("timestamp(3)", "timestamp(3) without time zone"),
        ("timestamp (3) with time zone", "timestamp(3) with time zone"),
        ("timestamptz", "timestamp with time zone"),
        ("interval day to second(3)", "interval day to second(3)"),
        ("interval(3)", "interval(3)"),
        ("pg_catalog.int4", "integer"),
    ] {
        assert_eq!(ty(name).to_string(), printed);
        assert_eq!(SqlType::parse(printed).unwrap(), ty(name), "{printed}");
    }
    for bad in
        ["citext", "char(3)", "text[]", "varchar(0)", "numeric(1001)", "int(3)", "mood", "timestamp(7)", "varchar(3"]
    {
        assert!(SqlType::parse(bad).is_err(), "{bad}");
    }
    assert_eq!(ty("varchar(320)").typmod, 324);
    assert_eq!(ty("numeric(10,2)").typmod, 655_366);
}

#[test]
fn declared_types_convert_as_in_an_assignment() {
    let declared = |oid: u32, text: &str, to: &str| {
        let mut out = Vec::new();
        let style = Style::default();
        decode_declared(oid, ty(to), Format::Text, text.as_bytes(), &style, &mut out)
            .map_err(|e| e.sqlstate.as_str().to_owned())?;
        let mut shown = Vec::new();
        encode(ty(to), &out, Format::Text, &style, &mut shown).map_err(|e| e.sqlstate.as_str().to_owned())?;
        Ok::<_, String>(String::from_utf8(shown).unwrap())
    };
    for (oid, text, to, result) in [
        (0, "7", "int4", Ok("7")),
        (705, "2020-01-01", "date", Ok("2020-01-01")),
        (25, "abc", "varchar(3)", Ok("abc")),
        (1043, "2020-01-01", "date", Err("42804")),
        (25, "1", "int4", Err("42804")),
        (23, "7", "int8", Ok("7")),
        (20, "40000", "int2", Err("22003")),
        (20, "7", "numeric(5,2)", Ok("7.00")),
        (1700, "2.5", "int4", Ok("3")),
        (1700, "NaN", "int4", Err("0A000")),
        (701, "2.5", "int4", Ok("2")),
        (701, "0.1", "float4", Ok("0.1")),
        (700, "0.1", "float8", Ok("0.10000000149011612")),
        (701, "0.1", "numeric", Ok("0.1")),
        (701, "1e300", "float4", Err("22003")),
        (1082, "2020-01-01", "timestamp", Ok("2020-01-01 00:00:00")),
        (1114, "2020-01-01 10:00", "date", Ok("2020-01-01")),
        (1184, "2020-01-01 10:00+02", "timestamp", Ok("2020-01-01 08:00:00")),
        (23, "7", "text", Ok("7")),
        (16, "t", "text", Ok("true")),
        (16, "t", "int4", Err("42804")),
        (1042, "ab  ", "text", Ok("ab")),
        (869, "1.2.3.4", "text", Err("42804")),
    ] {
        assert_eq!(declared(oid, text, to), result.map(str::to_owned).map_err(str::to_owned), "{oid} {text} {to}");
    }
}

mod properties {
    use super::*;
    use proptest::prelude::*;

    fn any_type() -> impl Strategy<Value = SqlType> {
        let names = [
            "text",
            "varchar(5)",
            "int2",
            "int4",
            "int8",
            "numeric",
            "numeric(8,3)",
            "float4",
            "float8",
            "bool",
            "date",
            "time(3)",
            "timestamp",
            "timestamptz(2)",
            "uuid",
            "jsonb",
            "json",
            "bytea",
            "interval",
            "interval day to minute",
        ];
        prop::sample::select(names.map(ty).to_vec())
    }

    fn any_style() -> impl Strategy<Value = Style> {
        let forms = [DateForm::Iso, DateForm::Sql, DateForm::Postgres, DateForm::German];
        let orders = [DateOrder::Mdy, DateOrder::Dmy, DateOrder::Ymd];
        let intervals =
            [IntervalForm::Postgres, IntervalForm::PostgresVerbose, IntervalForm::SqlStandard, IntervalForm::Iso8601];
        let zones = ["UTC", "America/New_York", "<-03>+03", "Asia/Kathmandu", "no/such/zone"];
        (0..4_usize, 0..3_usize, 0..4_usize, 0..5_usize, any::<bool>(), -15..=3_i32).prop_map(
            move |(form, order, interval, zone, hex, digits)| Style {
                date_form: forms[form],
                date_order: orders[order],
                interval: intervals[interval],
                time_zone: zones[zone].into(),
                bytea_hex: hex,
                extra_float_digits: digits,
            },
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn hostile_bytes_are_an_error_or_a_value_that_prints(
            ty in any_type(), style in any_style(), binary in any::<bool>(), bytes in prop::collection::vec(any::<u8>(), 0..40),
        ) {
            let format = if binary { Format::Binary } else { Format::Text };
            let mut plaintext = Vec::new();
            if decode(ty, format, &bytes, &style, &mut plaintext).is_ok() {
                encode(ty, &plaintext, Format::Binary, &style, &mut Vec::new()).unwrap();
                encode(ty, &plaintext, Format::Text, &Style::default(), &mut Vec::new()).unwrap();
            }
            // Neither does a plaintext of another type, or none.
            let _ = encode(ty, &bytes, format, &style, &mut Vec::new());
            let _ = decode_declared(u32::from(binary), ty, format, &bytes, &style, &mut Vec::new());
        }

        #[test]
        fn hostile_text_is_an_error_or_a_value_that_reads_back(
            ty in any_type(), text in "[-+0-9:.,/ TZPYMDHSaeginfptyxBCj\"{}\\[\\]\\\\]{0,24}",
        ) {
            let mut plaintext = Vec::new();
            let style = Style::default();
            if decode(ty, Format::Text, text.as_bytes(), &style, &mut plaintext).is_ok() {
                for format in [Format::Text, Format::Binary] {
                    let (mut shown, mut again) = (Vec::new(), Vec::new());
                    encode(ty, &plaintext, format, &style, &mut shown).unwrap();
                    decode(ty, format, &shown, &style, &mut again).unwrap();
                    prop_assert_eq!(&again, &plaintext);
                }
            }
        }
    }
}
