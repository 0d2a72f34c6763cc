"""The scenario for psycopg 3. Usage: psycopg_scenario.py URL text|binary"""

import logging
import datetime as dt
import sys
import uuid
from decimal import Decimal

import psycopg
from psycopg import errors
from psycopg.types.json import Jsonb, JsonbBinaryDumper, JsonbDumper

# psycopg warns on stderr when a pipeline ends after an error, sooner or later as the bytes arrive: not an answer.
logging.getLogger("psycopg").setLevel(logging.CRITICAL)

URL, FORMAT = sys.argv[1], sys.argv[2]
BINARY = FORMAT == "binary"
P = "%b" if BINARY else "%s"  # how parameters travel
TOKEN = uuid.UUID("6ba7b810-9dad-11d1-80b4-00c04fd430c8")
SEEN = dt.datetime(2026, 3, 1, 10, 30, 0, 250000, tzinfo=dt.timezone.utc)
ADA = (1, "ada.kanarie@example.org", "Ada kanarie", dt.date(1815, 12, 10), Decimal("1234.50"), 0.1, True, TOKEN, SEEN,
       dt.datetime(2026, 3, 1, 6, 15), -7, 42, 2**53 + 1, b"\x00\xff\x10\xfe\xd1", "first")
COLUMNS = "id, email, name, born, salary, score, active, token, seen, woke, small, visits, big, blob, note"


def show(step, rows):
    print(f"== {step}")
    for row in rows:
        print("  ", tuple(row))


def same(step, rows, expected):
    rows = [tuple(row) for row in rows]
    assert rows == expected, f"{step}: {rows!r} is not {expected!r}"
    show(step, rows)


def sql(text):
    return text.replace("%p", P)


def fails(conn, step, error, text, params=()):
    try:
        conn.execute(sql(text), params)
    except error as e:
        print(f"== {step}: {e.sqlstate}")
        return
    raise AssertionError(f"{step}: did not fail with {error.__name__}")


def main():
    conn = psycopg.connect(URL, autocommit=True)
    conn.execute("set timezone = 'UTC'")
    run = lambda text, params=(): conn.cursor(binary=BINARY).execute(sql(text), params)

    run(f"insert into people ({COLUMNS}) values ({', '.join(['%p'] * 15)})", ADA)
    with conn.cursor() as cur:
        cur.executemany(sql("insert into people (id, email, name, born) values (%p, %p, %p, %p)"), [
            (2, "bob.kanarie@example.org", "Bob\n\"kanarie\" \\", dt.date(1999, 2, 28)),
            (3, "zoë.kanarie@example.org", "Zoë kanarie 李", None),
            (4, "max.kanarie@example.org", "", dt.date(9999, 12, 31)),
        ])
    run("insert into orders values (%p, %p, %p)", (10, ADA[1], 100))

    by_email = "select id from people where email = %p"
    same("search", run(by_email, (ADA[1],)), [(1,)])
    same("search again, prepared", [conn.execute(sql(by_email), (ADA[1],), prepare=True).fetchone() for _ in range(3)],
         [(1,)] * 3)
    same("nobody", run(by_email, ("nobody.kanarie@example.org",)), [])
    same("reversed", run("select id from people where %p = email", ("bob.kanarie@example.org",)), [(2,)])
    same("in", run("select id from people where email in (%p, %p) order by id", (ADA[1], "zoë.kanarie@example.org")),
         [(1,), (3,)])
    same("any", run("select id from people where email = any(%p) order by id",
                    ([ADA[1], "max.kanarie@example.org"],)), [(1,), (4,)])
    same("cast", run("select id from people where email = %p::varchar", (ADA[1],)), [(1,)])
    same("uuid", run("select id from people where token = %p", (TOKEN,)), [(1,)])
    same("int8", run("select id from people where big = %p", (2**53 + 1,)), [(1,)])
    same("not distinct", run("select id from people where token is not distinct from %p", (TOKEN,)), [(1,)])
    same("null", run("select id from people where born is null"), [(3,)])

    same("read", run(f"select {COLUMNS} from people where id = %p", (1,)), [ADA])
    # Ordinary code: a str is sent without a type (text form) or as text (binary form), and the statement casts it.
    doc = '{"kanarie": [1,  2.50]}'
    same("json as str", run("update people set doc = %p::json where id = 1 returning doc, doc", (doc,)),
         [({"kanarie": [1, 2.5]}, {"kanarie": [1, 2.5]})])
    conn.adapters.register_dumper(dict, JsonbBinaryDumper)
    conn.adapters.register_dumper(dict, JsonbDumper)
    same("json as dict", run("update people set doc = %p::json where id = 1 returning doc", ({"kanarie": [1, 2.5]},)),
         [({"kanarie": [1, 2.5]},)])
    same("jsonb into json", run("update people set doc = %p where id = 1 returning doc", (Jsonb({"kanarie": 7}),)),
         [({"kanarie": 7},)])
    same("values as str", run("""update people set born = %p::date, salary = cast(%p as numeric), score = %p::float8, active = %p::bool,
                                 seen = %p::timestamptz, woke = %p::timestamp, small = %p::int2, visits = %p::int, big = %p::bigint,
                                 token = %p::uuid, blob = %p::bytea, name = %p::text where email = %p::varchar returning """ + COLUMNS,
                              ("1815-12-10", "1234.5", "0.1", "yes", "2026-03-01 10:30:00.25+00", "2026-03-01 06:15", "-7", "42",
                               str(2**53 + 1), str(TOKEN).upper(), "\\x00ff10fed1", "Ada kanarie", ADA[1])), [ADA])
    same("found by str", run("select id from people where token = %p::uuid and big = %p::bigint and email = %p::text",
                             (str(TOKEN), str(2**53 + 1), ADA[1])), [(1,)])
    same("found by another number", run("select id from people where big = %p and big = %p and big <> %p",
                                        (Decimal(2**53 + 1), 2**53 + 1, 7)), [(1,)])
    fails(conn, "not a date, cast", errors.InvalidDatetimeFormat, "update people set born = %p::date where id = 1", ("kanarie",))
    fails(conn, "not json, cast", errors.InvalidTextRepresentation, "update people set doc = %p::json where id = 1", ("kanarie",))
    fails(conn, "no such cast", errors.CannotCoerce, "update people set born = %p::date where id = 1", (7,))
    fails(conn, "no such operator", errors.UndefinedFunction, "select id from people where token = %p", (7,))
    if BINARY:
        fails(conn, "text into date", errors.DatatypeMismatch, "update people set born = %p where id = 1", ("1815-12-10",))
        fails(conn, "text and uuid", errors.UndefinedFunction, "select id from people where token = %p", (str(TOKEN),))
    else:
        same("untyped str", run("update people set born = %p where token = %p returning born", ("1815-12-10", str(TOKEN))),
             [(dt.date(1815, 12, 10),)])
    same("text", run("select name, born from people order by id"), [
        ("Ada kanarie", dt.date(1815, 12, 10)), ("Bob\n\"kanarie\" \\", dt.date(1999, 2, 28)),
        ("Zoë kanarie 李", None), ("", dt.date(9999, 12, 31))])
    same("join", run("select p.name, o.total from people p join orders o on o.email = p.email"), [("Ada kanarie", 100)])
    cur = run("select name, born, email, salary from people limit 0")
    show("types", [(c.name, c.type_code, c.display_size, c.internal_size, c.precision, c.scale) for c in cur.description])

    same("update", run("update people set name = %p, salary = %p, visits = %p where email = %p returning name, salary, visits",
                       ("Augusta kanarie", Decimal("99999999.99"), None, ADA[1])),
         [("Augusta kanarie", Decimal("99999999.99"), None)])
    upsert = """insert into people (id, email, name) values (%p, %p, %p)
                on conflict (email) do update set name = excluded.name, note = 'upserted' returning id, name, note"""
    same("upsert", run(upsert, (20, ADA[1], "Countess kanarie")), [(1, "Countess kanarie", "upserted")])
    same("upsert new", run(upsert, (21, "new.kanarie@example.org", "New kanarie")), [(21, "New kanarie", None)])

    cur = conn.cursor()
    with cur.copy("copy people (id, email, name, born) from stdin") as copy:
        copy.write_row((30, "copy.kanarie@example.org", "tab\there kanarie\\", dt.date(2001, 1, 1)))
        copy.write_row((31, "copy2.kanarie@example.org", None, None))
        for i in range(100, 400):
            copy.write_row((i, f"bulk{i}.kanarie@example.org", "kanarie " * (i % 50), None))
    with cur.copy("copy (select id, name, born from people where id between 30 and 102 order by id) to stdout") as copy:
        copy.set_types(["int4", "text", "date"])
        same("copy out", copy.rows(), [(30, "tab\there kanarie\\", dt.date(2001, 1, 1)), (31, None, None),
                                       (100, "", None), (101, "kanarie ", None), (102, "kanarie " * 2, None)])

    with conn.transaction(), conn.cursor(name="server_side", binary=BINARY) as cur:
        cur.itersize = 7
        cur.execute("select id, email from people where id >= 100 order by id")
        same("cursor", [cur.fetchone(), *cur.fetchmany(3)], [(i, f"bulk{i}.kanarie@example.org") for i in range(100, 104)])
        assert len(cur.fetchall()) == 296

    with conn.pipeline():
        cursors = [conn.cursor(binary=BINARY).execute(sql("select id, name from people where email = %p"),
                                                      (f"bulk{i}.kanarie@example.org",)) for i in range(100, 150)]
        writes = [conn.execute(sql("update people set name = %p where id = %p"), (f"pipe{i} kanarie", i)) for i in range(100, 110)]
        same("pipeline", [c.fetchone() for c in cursors[:5]], [(i, "kanarie " * (i % 50)) for i in range(100, 105)])
        assert [c.fetchone()[0] for c in cursors[5:]] == list(range(105, 150))
    same("pipelined writes", run("select name from people where id in (100, 109) order by id"),
         [("pipe100 kanarie",), ("pipe109 kanarie",)])
    try:
        with conn.pipeline() as pipeline:
            conn.execute(sql("select name from people where email = %p"), (ADA[1],))
            conn.execute("select 1/0")
            conn.execute(sql("select name from people where email = %p"), (ADA[1],))
            pipeline.sync()
    except errors.DivisionByZero as e:
        print("== pipeline error:", e.sqlstate)
    same("after it", run("select name from people where id = 1"), [("Countess kanarie",)])

    insert = "insert into people (id, email) values (%p, %p)"
    fails(conn, "duplicate", errors.UniqueViolation, insert, (50, ADA[1]))
    fails(conn, "null", errors.NotNullViolation, insert, (50, None))
    fails(conn, "too long", errors.StringDataRightTruncation, insert, (50, "kanarie" * 20))
    fails(conn, "too big", errors.NumericValueOutOfRange, "update people set salary = %p where id = 1", (Decimal("1e8"),))
    fails(conn, "not a date", errors.InvalidDatetimeFormat, "update people set born = 'kanarie' where id = 1")

    try:
        with conn.transaction():
            run(insert, (60, "tx.kanarie@example.org"))
            try:
                with conn.transaction():
                    run(insert, (61, "tx.kanarie@example.org"))
            except errors.UniqueViolation:
                pass
            same("in transaction", run(by_email, ("tx.kanarie@example.org",)), [(60,)])
            raise psycopg.Rollback
    finally:
        same("rolled back", run("select count(*) from people where id = 60"), [(0,)])

    same("delete", run("delete from people where email = %p returning name", ("bob.kanarie@example.org",)),
         [("Bob\n\"kanarie\" \\",)])
    same("left", run("select count(*) from people"), [(306,)])
    conn.close()


main()
