"""psycopg2: literals made by the driver, never a parameter."""

import io

import psycopg2
import psycopg2.extras
from psycopg2 import errors, sql

from steps import *

psycopg2.extras.register_uuid()
conn = psycopg2.connect(URL)
conn.autocommit = False
cur = conn.cursor()
cur.execute("set timezone = 'UTC'")
conn.commit()
COLUMNS = list(ADA_ROW)


@step
def create():
    cur.execute("""create table visit (id serial primary key, person int not null references people(id) on delete cascade,
                   at timestamptz not null default '2026-01-01', reason text)""")
    cur.execute("create index visit_person on visit (person)")
    cur.execute("comment on table visit is 'who came'")
    conn.commit()


@step
def insert():
    cur.execute(f"insert into people ({', '.join(COLUMNS)}) values ({', '.join(['%s'] * len(COLUMNS))})",
                [psycopg2.Binary(v) if isinstance(v, bytes) else v for v in ADA_ROW.values()])
    cur.execute("insert into people (id, email, name, doc) values (%(id)s, %(email)s, %(name)s, %(doc)s) returning id, email",
                {"id": 2, "email": BOB, "name": "Bob\n\"kanarie\" 'x' \\ 100%", "doc": psycopg2.extras.Json({"kanarie": [1, "'"]})})
    same("returning", cur.fetchall(), [(2, BOB)])
    query = sql.SQL("insert into {} ({}) values ({})").format(
        sql.Identifier("people"), sql.SQL(", ").join(map(sql.Identifier, ["id", "email", "name"])),
        sql.SQL(", ").join([sql.Placeholder()] * 3))
    cur.execute(query, (3, ZOE, None))
    cur.execute("insert into visit (person, reason) values (%s, %s) returning id", (1, "check"))
    show(cur.fetchone())
    conn.commit()


@step
def search():
    cur.execute("select id from people where email = %s", (ADA,))
    same("equal", cur.fetchall(), [(1,)])
    cur.execute("select id from people where email in %s order by id", ((ADA, ZOE),))
    same("in tuple", cur.fetchall(), [(1,), (3,)])
    cur.execute("select id from people where email = any(%s) order by id", ([ADA, BOB],))
    same("any list", cur.fetchall(), [(1,), (2,)])
    cur.execute("select id from people where token = %s and big = %s", (TOKEN, BIG))
    same("uuid, int8", cur.fetchall(), [(1,)])
    dict_cur = conn.cursor(cursor_factory=psycopg2.extras.RealDictCursor)
    dict_cur.execute(f"select {', '.join(COLUMNS)} from people where id = 1")
    row = dict(dict_cur.fetchone())
    row["blob"] = bytes(row["blob"])
    assert row == ADA_ROW, row
    show(row)
    cur.execute("select name, doc from people where id = 2")
    same("json", cur.fetchall(), [("Bob\n\"kanarie\" 'x' \\ 100%", {"kanarie": [1, "'"]})])
    cur.execute("select p.name, v.reason from visit v join people p on p.id = v.person")
    same("join", cur.fetchall(), [("Ada kanarie", "check")])
    cur.execute("select * from people where id = 1")
    show([tuple(column) for column in cur.description])
    cur.execute("select count(*), count(email), count(distinct token) from people")
    same("count", cur.fetchall(), [(3, 3, 1)])
    conn.rollback()


@step
def update():
    cur.execute("update people set name = %s, salary = %s, born = %s, active = %s where email = %s",
                ("Augusta kanarie", Decimal("99999999.99"), dt.date(1, 1, 1), None, ADA))
    show(cur.rowcount)
    cur.execute("update people set blob = %s where id = %s returning blob, name, salary, born", (psycopg2.Binary(b"\\'"), 1))
    same("returning", [[bytes(cell) if isinstance(cell, memoryview) else cell for cell in row] for row in cur.fetchall()],
         [(b"\\'", "Augusta kanarie", Decimal("99999999.99"), dt.date(1, 1, 1))])
    conn.commit()


@step
def upsert():
    text = """insert into people (id, email, name) values (%s, %s, %s)
              on conflict (email) do update set name = excluded.name returning id, name"""
    cur.execute(text, (20, ADA, "Countess kanarie"))
    same("old", cur.fetchall(), [(1, "Countess kanarie")])
    cur.execute(text, (21, "new.kanarie@example.org", "New kanarie"))
    same("new", cur.fetchall(), [(21, "New kanarie")])
    cur.execute("insert into people (id, email) values (%s, %s) on conflict do nothing", (22, ADA))
    show(cur.rowcount)
    conn.commit()


@step
def bulk():
    cur.executemany("insert into people (id, email, name) values (%s, %s, %s)", bulk_rows(100, 20))
    psycopg2.extras.execute_values(cur, "insert into people (id, email, name) values %s", bulk_rows(200, 250), page_size=100)
    psycopg2.extras.execute_batch(cur, "insert into people (id, email, name) values (%s, %s, %s)", bulk_rows(500, 120), page_size=50)
    psycopg2.extras.execute_values(cur, """update people set name = data.name from (values %s) as data (email, name)
                                           where people.id in (100, 101) and data.name is not null and false""", [(ADA, "x")])
    got = psycopg2.extras.execute_values(cur, "insert into people (id, email, name) values %s returning id, email",
                                         bulk_rows(700, 3), fetch=True)
    same("returning", got, [row[:2] for row in bulk_rows(700, 3)])
    cur.copy_expert("copy people (id, email, name) from stdin with (format csv)",
                    io.StringIO("".join(f'{i},{e},"{n}"\n' for i, e, n in bulk_rows(800, 50))))
    cur.copy_from(io.StringIO("900\tcopy.kanarie@example.org\t\\N\n"), "people", columns=("id", "email", "name"))
    out = io.StringIO()
    cur.copy_to(out, "people", columns=("id", "email", "name"))
    show(len(out.getvalue().splitlines()), [line for line in sorted(out.getvalue().splitlines()) if line.startswith("80")])
    conn.commit()


@step
def cursor():
    with conn.cursor(name="server_side") as named:
        named.itersize = 7
        named.execute("select id, email from people where id between 100 and 119 order by id")
        same("fetchmany", named.fetchmany(3), [row[:2] for row in bulk_rows(100, 3)])
        same("the rest", list(named), [row[:2] for row in bulk_rows(103, 17)])
    with conn.cursor(name="scrolling", scrollable=True, withhold=True) as named:
        named.execute("select id, name from people where email = any(%s) order by id", ([r[1] for r in bulk_rows(100, 5)],))
        named.scroll(2)
        show(named.fetchone())
        conn.commit()
        named.scroll(0, mode="absolute")
        show(named.fetchall())
    conn.commit()


@step
def transaction():
    try:
        with conn:
            with conn.cursor() as c:
                c.execute("insert into people (id, email) values (60, 'tx.kanarie@example.org')")
                c.execute("savepoint one")
                try:
                    c.execute("insert into people (id, email) values (61, 'tx.kanarie@example.org')")
                except errors.UniqueViolation as e:
                    show(e.pgcode)
                    c.execute("rollback to savepoint one")
                c.execute("select id from people where email = %s", ("tx.kanarie@example.org",))
                same("inside", c.fetchall(), [(60,)])
                raise KeyError("away")
    except KeyError:
        pass
    cur.execute("select id from people where email = %s", ("tx.kanarie@example.org",))
    same("rolled back", cur.fetchall(), [])
    conn.rollback()
    conn.set_session(isolation_level="SERIALIZABLE", readonly=True)
    try:
        cur.execute("update people set name = 'x' where id = 1")
    except errors.ReadOnlySqlTransaction as e:
        show(e.pgcode)
    conn.rollback()
    conn.set_session(isolation_level="DEFAULT", readonly=False)
    conn.tpc_begin(conn.xid(1, "gid", "branch"))
    cur.execute("insert into people (id, email) values (62, 'twophase.kanarie@example.org')")
    conn.tpc_prepare()
    conn.tpc_rollback()


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
        ("selec", ()),
        ("select 1/0", ()),
    ]:
        try:
            cur.execute(text, parameters)
            raise AssertionError(text)
        except psycopg2.Error as e:
            show(type(e).__name__, e.pgcode, e.diag.constraint_name, e.diag.column_name, e.diag.table_name)
            try:
                cur.execute("select 1")
            except errors.InFailedSqlTransaction:
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
    cur.execute("select table_name, column_name, ordinal_position, is_nullable from information_schema.columns where table_schema = 'public' order by 1, 3")
    for row in cur.fetchall():
        show(row)


@introspect
def description():
    cur.execute("select * from people limit 0")
    show([column.name for column in cur.description])


main(psycopg2.__version__.split()[0], conn.rollback)
