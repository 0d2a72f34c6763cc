"""The scenario for asyncpg: binary, prepared, described statements only. Usage: asyncpg_scenario.py URL"""

import asyncio
import datetime as dt
import io
import sys
import uuid
from decimal import Decimal

import asyncpg

URL = sys.argv[1]
TOKEN = uuid.UUID("6ba7b810-9dad-11d1-80b4-00c04fd430c8")
SEEN = dt.datetime(2026, 3, 1, 10, 30, 0, 250000, tzinfo=dt.timezone.utc)
ADA = (1, "ada.kanarie@example.org", "Ada kanarie", dt.date(1815, 12, 10), Decimal("1234.50"), 0.1, True, TOKEN, SEEN,
       dt.datetime(2026, 3, 1, 6, 15), -7, 42, 2**53 + 1, b"\x00\xff\x10\xfe\xd1", '{"kanarie": [1,  2.50]}', "first")
COLUMNS = "id, email, name, born, salary, score, active, token, seen, woke, small, visits, big, blob, doc, note"


def same(step, rows, expected):
    rows = [tuple(str(v) if isinstance(v, asyncpg.pgproto.pgproto.UUID) else v for v in row) for row in rows]
    expected = [tuple(str(v) if isinstance(v, uuid.UUID) else v for v in row) for row in expected]
    assert rows == expected, f"{step}: {rows!r} is not {expected!r}"
    print(f"== {step}")
    for row in rows:
        print("  ", row)


async def fails(conn, step, error, text, *args):
    try:
        await conn.execute(text, *args)
    except error as e:
        print(f"== {step}: {e.sqlstate}")
        return
    raise AssertionError(f"{step}: did not fail with {error.__name__}")


async def main():
    conn = await asyncpg.connect(URL)
    values = ", ".join(f"${i}" for i in range(1, 17))
    await conn.execute(f"insert into people ({COLUMNS}) values ({values})", *ADA)
    await conn.executemany("insert into people (id, email, name, born) values ($1, $2, $3, $4)", [
        (2, "bob.kanarie@example.org", "Bob\n\"kanarie\" \\", dt.date(1999, 2, 28)),
        (3, "zoë.kanarie@example.org", "Zoë kanarie 李", None),
        (4, "max.kanarie@example.org", "", dt.date(44, 3, 15)),
    ])
    await conn.execute("insert into orders values ($1, $2, $3)", 10, ADA[1], 100)

    by_email = await conn.prepare("select id from people where email = $1")
    same("search", [await by_email.fetchrow(ADA[1]) for _ in range(3)], [(1,)] * 3)
    same("nobody", await by_email.fetch("nobody.kanarie@example.org"), [])
    same("reversed", await conn.fetch("select id from people where $1 = email", "bob.kanarie@example.org"), [(2,)])
    same("in", await conn.fetch("select id from people where email in ($1, $2) order by id", ADA[1], "zoë.kanarie@example.org"),
         [(1,), (3,)])
    same("any", await conn.fetch("select id from people where email = any($1) order by id", [ADA[1], "max.kanarie@example.org"]),
         [(1,), (4,)])
    same("any of none", await conn.fetch("select id from people where email = any($1)", []), [])
    same("uuids", await conn.fetch("select id from people where token = any($1::uuid[])", [TOKEN]), [(1,)])
    same("cast", await conn.fetch("select id from people where email = $1::varchar", ADA[1]), [(1,)])
    same("not distinct", await conn.fetch("select id from people where token is not distinct from $1", TOKEN), [(1,)])
    same("int8", await conn.fetch("select id from people where big = $1", 2**53 + 1), [(1,)])
    same("twice", await conn.fetch("select id from people where email = $1 or email = $2 or id = $3 order by id",
                                   ADA[1], "bob.kanarie@example.org", 3), [(1,), (2,), (3,)])

    read = await conn.prepare(f"select {COLUMNS} from people where id = $1")
    print("== types", [(a.name, a.type.oid, a.type.name) for a in read.get_attributes()])
    same("read", await read.fetch(1), [ADA])
    for text in (f"insert into people ({COLUMNS}) values ({values})",
                 "select id from people where email = $1 and token = $2 and big = $3",
                 "select id from people where email in ($1, $2) and big in ($3) and token = any($4)",
                 "select coalesce(email, $1), nullif(email, $2), case when id > $3 then name else $4 end from people",
                 "update people set name = $1, salary = $2, born = $3, seen = $4, doc = $5 where email = $6 returning *",
                 "select id from people where email = $1::varchar or token = $2::text::uuid limit $3 offset $4",
                 "insert into people (id, email) select i, e from unnest($1::int[], $2::text[]) as u(i, e)",
                 "select email from people union select $1"):
        statement = await conn.prepare(text)
        print("== parameters", [(p.oid, p.name) for p in statement.get_parameters()],
              [(a.name, a.type.name) for a in statement.get_attributes()])
    same("text cast by the server", await conn.fetch(
        "update people set born = $1::text::date, doc = $2::text::json where email = $3::text returning born, doc",
        "1815-12-10", ADA[14], ADA[1]), [(dt.date(1815, 12, 10), ADA[14])])
    same("text", await conn.fetch("select name, born from people order by id"), [
        ("Ada kanarie", dt.date(1815, 12, 10)), ("Bob\n\"kanarie\" \\", dt.date(1999, 2, 28)),
        ("Zoë kanarie 李", None), ("", dt.date(44, 3, 15))])
    same("join", await conn.fetch("select p.name, o.total from people p join orders o using (email)"), [("Ada kanarie", 100)])
    same("array", await conn.fetch("select array_agg(name order by id) from people where id < 3"),
         [(["Ada kanarie", "Bob\n\"kanarie\" \\"],)])

    same("update", await conn.fetch(
        "update people set name = $1, salary = $2, visits = $3 where email = $4 returning name, salary, visits",
        "Augusta kanarie", Decimal("99999999.99"), None, ADA[1]), [("Augusta kanarie", Decimal("99999999.99"), None)])
    upsert = """insert into people (id, email, name) values ($1, $2, $3)
                on conflict (email) do update set name = excluded.name, note = 'upserted' returning id, name, note"""
    same("upsert", await conn.fetch(upsert, 20, ADA[1], "Countess kanarie"), [(1, "Countess kanarie", "upserted")])
    same("upsert new", await conn.fetch(upsert, 21, "new.kanarie@example.org", "New kanarie"), [(21, "New kanarie", None)])

    text = "30\tcopy.kanarie@example.org\ttab\\there kanarie\t2001-01-01\n31\tcopy2.kanarie@example.org\t\\N\t\\N\n"
    text += "".join(f"{i}\tbulk{i}.kanarie@example.org\tkanarie {i}\t\\N\n" for i in range(100, 400))
    columns = ["id", "email", "name", "born"]
    print("== copy in", await conn.copy_to_table("people", source=io.BytesIO(text.encode()), columns=columns, format="text"))
    out = io.BytesIO()
    await conn.copy_from_query("select id, name, born from people where id between 30 and 101 order by id", output=out, format="csv")
    assert out.getvalue().decode() == "30,tab\there kanarie,2001-01-01\n31,,\n100,kanarie 100,\n101,kanarie 101,\n", out.getvalue()
    print("== copy out", out.getvalue())

    async with conn.transaction():
        cursor = await conn.cursor("select id, email from people where id >= $1 order by id", 100)
        rows = await cursor.fetch(2)
        await cursor.forward(10)
        same("cursor", rows + await cursor.fetch(2), [(i, f"bulk{i}.kanarie@example.org") for i in (100, 101, 112, 113)])
        rest = [row async for row in conn.cursor("select name from people where id >= $1", 100, prefetch=50)]
        assert len(rest) == 300 and all(row[0].startswith("kanarie ") for row in rest)

    await conn.executemany("update people set name = $1 where email = $2",
                           [(f"pipe{i} kanarie", f"bulk{i}.kanarie@example.org") for i in range(100, 200)])
    same("pipelined writes", await conn.fetch("select name from people where id in (100, 199) order by id"),
         [("pipe100 kanarie",), ("pipe199 kanarie",)])

    insert = "insert into people (id, email) values ($1, $2)"
    await fails(conn, "duplicate", asyncpg.UniqueViolationError, insert, 50, ADA[1])
    await fails(conn, "null", asyncpg.NotNullViolationError, insert, 50, None)
    await fails(conn, "too long", asyncpg.StringDataRightTruncationError, insert, 50, "kanarie" * 20)
    await fails(conn, "too big", asyncpg.NumericValueOutOfRangeError, "update people set salary = $1 where id = 1", Decimal("1e8"))
    await fails(conn, "syntax", asyncpg.PostgresSyntaxError, "select from where")
    same("after errors", await by_email.fetch(ADA[1]), [(1,)])

    transaction = conn.transaction()
    await transaction.start()
    await conn.execute(insert, 60, "tx.kanarie@example.org")
    try:
        async with conn.transaction():
            await conn.execute(insert, 61, "tx.kanarie@example.org")
    except asyncpg.UniqueViolationError:
        pass
    same("in transaction", await by_email.fetch("tx.kanarie@example.org"), [(60,)])
    await transaction.rollback()
    same("rolled back", await by_email.fetch("tx.kanarie@example.org"), [])

    same("delete", await conn.fetch("delete from people where email = $1 returning name", "bob.kanarie@example.org"),
         [("Bob\n\"kanarie\" \\",)])
    same("left", await conn.fetch("select count(*) from people"), [(306,)])
    await conn.close()


asyncio.run(main())
