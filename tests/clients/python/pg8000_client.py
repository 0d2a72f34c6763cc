"""pg8000: extended protocol with text parameters of declared types; native and DB-API faces."""

import io
from importlib.metadata import version

import pg8000.dbapi
import pg8000.native

from steps import *

conn = pg8000.dbapi.connect(user=USER, password=PASSWORD, host=HOST, port=PORT, database=DATABASE)
cur = conn.cursor()
cur.execute("set timezone = 'UTC'")
conn.commit()
COLUMNS = list(ADA_ROW)


@step
def create():
    cur.execute("create table visit (id serial primary key, person int not null references people(id), reason text)")
    conn.commit()


@step
def insert():
    cur.execute(f"insert into people ({', '.join(COLUMNS)}) values ({', '.join(['%s'] * len(COLUMNS))})", tuple(ADA_ROW.values()))
    cur.execute("insert into people (id, email, name, doc) values (%s, %s, %s, %s) returning id, email",
                (2, BOB, "Bob\n\"kanarie\" \\", '{"kanarie": 1}'))
    same("returning", cur.fetchall(), [(2, BOB)])
    cur.execute("insert into people (id, email, name) values (%s, %s, %s)", (3, ZOE, None))
    cur.execute("insert into visit (person, reason) values (%s, %s) returning id", (1, "check"))
    show(cur.fetchone())
    conn.commit()


@step
def search():
    cur.execute("select id from people where email = %s", (ADA,))
    same("equal", cur.fetchall(), [(1,)])
    cur.execute("select id from people where email = any(%s) order by id", ([ADA, BOB],))
    same("any list", cur.fetchall(), [(1,), (2,)])
    cur.execute("select id from people where email in (%s, %s) order by id", (ADA, ZOE))
    same("in", cur.fetchall(), [(1,), (3,)])
    cur.execute("select id from people where token = %s and big = %s", (TOKEN, BIG))
    same("uuid, int8", cur.fetchall(), [(1,)])
    cur.execute(f"select {', '.join(COLUMNS)} from people where id = %s", (1,))
    same("all", cur.fetchall(), [tuple(ADA_ROW.values())])
    show([column[:2] for column in cur.description])
    cur.execute("select doc from people where id = %s", (2,))
    same("json", cur.fetchall(), [({"kanarie": 1},)])
    cur.execute("select p.name, v.reason from visit v join people p on p.id = v.person where p.email = %s", (ADA,))
    same("join", cur.fetchall(), [("Ada kanarie", "check")])
    conn.rollback()


@step
def native():
    with pg8000.native.Connection(USER, password=PASSWORD, host=HOST, port=PORT, database=DATABASE) as native_conn:
        same("named", native_conn.run("select id, name from people where email = :email", email=ADA), [(1, "Ada kanarie")])
        prepared = native_conn.prepare("select name from people where email = :email")
        same("prepared", [prepared.run(email=ADA)[0] for _ in range(7)], [("Ada kanarie",)] * 7)
        same("typed", native_conn.run("select id from people where email = :email", email=ADA,
                                      types={"email": pg8000.native.VARCHAR} if hasattr(pg8000.native, "VARCHAR") else {}), [(1,)])
        prepared.close()


@step
def update():
    cur.execute("update people set name = %s, salary = %s, born = %s, active = %s where email = %s returning name, salary, born, active",
                ("Augusta kanarie", Decimal("99999999.99"), dt.date(1, 1, 1), None, ADA))
    same("returning", cur.fetchall(), [("Augusta kanarie", Decimal("99999999.99"), dt.date(1, 1, 1), None)])
    conn.commit()


@step
def upsert():
    text = """insert into people (id, email, name) values (%s, %s, %s)
              on conflict (email) do update set name = excluded.name returning id, name"""
    cur.execute(text, (20, ADA, "Countess kanarie"))
    same("old", cur.fetchall(), [(1, "Countess kanarie")])
    cur.execute(text, (21, "new.kanarie@example.org", "New kanarie"))
    same("new", cur.fetchall(), [(21, "New kanarie")])
    conn.commit()


@step
def bulk():
    cur.executemany("insert into people (id, email, name) values (%s, %s, %s)", bulk_rows(100, 30))
    cur.execute("copy people (id, email, name) from stdin with (format csv)",
                stream=io.StringIO("".join(f'{i},{e},"{n}"\n' for i, e, n in bulk_rows(800, 50))))
    out = io.BytesIO()
    cur.execute("copy (select id, email, name from people where id between 800 and 803 order by id) to stdout", stream=out)
    show(out.getvalue())
    cur.execute("insert into people (id, email) select * from unnest(%s::int[], %s::text[])",
                ([r[0] for r in bulk_rows(900, 5)], [r[1] for r in bulk_rows(900, 5)]))
    cur.execute("select id, email from people where id >= 900 order by id")
    same("unnest", cur.fetchall(), [row[:2] for row in bulk_rows(900, 5)])
    conn.commit()


@step
def transaction():
    cur.execute("insert into people (id, email) values (%s, %s)", (60, "tx.kanarie@example.org"))
    cur.execute("savepoint one")
    try:
        cur.execute("insert into people (id, email) values (%s, %s)", (61, "tx.kanarie@example.org"))
    except pg8000.dbapi.DatabaseError as e:
        show(e.args[0]["C"])
        cur.execute("rollback to savepoint one")
    cur.execute("select id from people where email = %s", ("tx.kanarie@example.org",))
    same("inside", cur.fetchall(), [(60,)])
    conn.rollback()
    cur.execute("select id from people where email = %s", ("tx.kanarie@example.org",))
    same("rolled back", cur.fetchall(), [])
    conn.rollback()


@step
def failures():
    for text, parameters in [
        ("insert into people (id, email) values (%s, %s)", (50, ADA)),
        ("insert into people (id, email) values (%s, %s)", (50, None)),
        ("insert into people (id, email) values (%s, %s)", (50, "kanarie" * 20)),
        ("update people set salary = %s where id = 1", (Decimal("1e8"),)),
        ("update people set born = %s where id = 1", ("kanarie",)),
        ("update people set visits = %s where id = 1", (2**40,)),
        ("select nonsense from people where email = %s", (ADA,)),
        ("select 1/0", ()),
    ]:
        try:
            cur.execute(text, parameters)
            raise AssertionError(text)
        except pg8000.dbapi.DatabaseError as e:
            show({key: e.args[0].get(key) for key in "SCnct"})
            conn.rollback()
    cur.execute("select id from people where email = %s", (BOB,))
    same("after", cur.fetchall(), [(2,)])
    conn.rollback()


@step
def delete():
    cur.execute("delete from people where email = %s returning name", (ZOE,))
    same("returning", cur.fetchall(), [(None,)])
    cur.execute("drop table visit")
    conn.commit()


@introspect
def information_schema():
    cur.execute("select table_name, column_name, ordinal_position, is_nullable from information_schema.columns where table_schema = %s order by 1, 3", ("public",))
    for row in cur.fetchall():
        show(row)


@introspect
def description():
    cur.execute("select * from people limit 0")
    show([column[0] for column in cur.description])


main(version("pg8000"), conn.rollback)
