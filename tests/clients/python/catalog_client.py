"""psycopg 3 and asyncpg, whose scenarios are those of `make test`, reading the catalog. Usage: … psycopg|asyncpg"""

from importlib.metadata import version

from steps import *

COLUMNS = """select table_name::text, column_name::text, ordinal_position::int, is_nullable::text
             from information_schema.columns where table_schema = 'public' order by 1, 3"""
KEYS = """select c.conname::text, c.contype::text, array_agg(a.attname::text order by k.n)
          from pg_constraint c, unnest(c.conkey) with ordinality k(attnum, n), pg_attribute a
          where c.conrelid = any($1::text[]::regclass[]) and a.attrelid = c.conrelid and a.attnum = k.attnum group by 1, 2 order by 1"""
MAIL = "select id, email as mail, born, salary, token, doc from people where id = $1 and note is distinct from $2"


def described(statement):
    """Names, and the types that clients see."""
    show([(column.name, column.type.name, column.type.kind) for column in statement.get_attributes()],
         [(given.name, given.kind) for given in statement.get_parameters()])


if ARGS[0] == "asyncpg":
    import asyncpg

    @introspect
    async def tables():
        for row in await (await connected()).fetch(COLUMNS):
            show(tuple(row))

    @introspect
    async def keys():
        show([tuple(row) for row in await (await connected()).fetch(KEYS, ["people", "orders"])])

    @introspect
    async def description():
        described(await (await connected()).prepare("select * from people"))
        described(await (await connected()).prepare(MAIL))

    @introspect
    async def types():
        """Asked for by name, as for codecs of one's own."""
        conn = await connected()
        await conn.set_type_codec("jsonb", encoder=str, decoder=str, schema="pg_catalog")
        await conn.reload_schema_state()
        show([row["doc"] for row in await conn.fetch("select doc, profile from people limit 1")])

    async def connected():
        global CONN
        CONN = globals().get("CONN") or await asyncpg.connect(URL)
        return CONN

    main_async(version("asyncpg"))
else:
    import psycopg
    from psycopg.types import TypeInfo

    conn = psycopg.connect(URL, autocommit=True)

    @introspect
    def tables():
        for row in conn.execute(COLUMNS):
            show(row)

    @introspect
    def keys():
        show(psycopg.RawCursor(conn).execute(KEYS, [["people", "orders"]]).fetchall())

    @introspect
    def description():
        for text, values in [("select * from people", None), (MAIL.replace("$1", "%s").replace("$2", "%s"), (1, "x"))]:
            for binary in (False, True):
                show([(column.name, column.type_code, column.type_display, column.null_ok) for column in conn.cursor(binary=binary).execute(text, values).description])

    @introspect
    def types():
        show([(info.name, info.oid, info.array_oid) for name in ("varchar", "json", "uuid") if (info := TypeInfo.fetch(conn, name))])

    main(version("psycopg"))
