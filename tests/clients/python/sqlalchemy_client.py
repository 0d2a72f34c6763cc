"""SQLAlchemy 2: declared models, reflected tables, automap, Alembic. Usage: … psycopg2|psycopg|asyncpg"""

import alembic
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.operations import Operations
from sqlalchemy.dialects import postgresql as pg
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.ext.automap import automap_base
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, joinedload, mapped_column, relationship, selectinload
from sqlalchemy.util.concurrency import greenlet_spawn

from steps import *

DRIVER = ARGS[0]
address = sa.make_url(URL).set(drivername=f"postgresql+{DRIVER}")
if DRIVER == "asyncpg":
    engine = create_async_engine(address, connect_args={"server_settings": {"timezone": "UTC"}}).sync_engine
else:
    engine = sa.create_engine(address, connect_args={"options": "-c timezone=UTC"})


class Base(DeclarativeBase):
    pass


class Person(Base):
    __tablename__ = "people"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    email: Mapped[str] = mapped_column(sa.String(80), unique=True)
    name: Mapped[str | None] = mapped_column(sa.Text)
    born: Mapped[dt.date | None]
    salary: Mapped[Decimal | None] = mapped_column(sa.Numeric(10, 2))
    score: Mapped[float | None] = mapped_column(sa.Double)
    active: Mapped[bool | None]
    token: Mapped[uuid.UUID | None]
    seen: Mapped[dt.datetime | None] = mapped_column(sa.DateTime(timezone=True))
    woke: Mapped[dt.datetime | None]
    small: Mapped[int | None] = mapped_column(sa.SmallInteger)
    visits: Mapped[int | None]
    big: Mapped[int | None] = mapped_column(sa.BigInteger)
    blob: Mapped[bytes | None]
    doc: Mapped[dict | None] = mapped_column(sa.JSON)
    note: Mapped[str | None] = mapped_column(sa.Text)
    profile: Mapped[dict | None] = mapped_column(pg.JSONB)
    visited: Mapped[list["Visit"]] = relationship(back_populates="who", cascade="all, delete-orphan")


class Order(Base):
    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    email: Mapped[str] = mapped_column(sa.String(80))
    total: Mapped[int | None]


class Visit(Base):
    __tablename__ = "visit"
    id: Mapped[int] = mapped_column(primary_key=True)
    person: Mapped[int] = mapped_column(sa.ForeignKey("people.id", ondelete="CASCADE"))
    at: Mapped[dt.datetime] = mapped_column(sa.DateTime(timezone=True), server_default="2026-01-01 00:00:00+00")
    reason: Mapped[str | None] = mapped_column(sa.String(40))
    who: Mapped[Person] = relationship(back_populates="visited")


@step
def create():
    """`metadata.create_all` looks for each table first and makes only the missing one."""
    Base.metadata.create_all(engine)
    show(sorted(sa.inspect(engine).get_table_names()))


@step
def insert():
    with Session(engine) as s:
        s.add(Person(**ADA_ROW, doc={"kanarie": [1, None]}, profile={"kanarie": {"b": 1, "a": [2.50]}}, visited=[Visit(reason="check"), Visit(reason="again")]))
        s.add_all([Person(id=2, email=BOB, name="Bob\n\"kanarie\" :x %s \\"), Person(id=3, email=ZOE), Order(id=10, email=ADA, total=100)])
        s.commit()
        show(s.get(Person, 1).salary, s.get(Person, 3).name)
    with engine.begin() as c:
        same("returning", c.execute(sa.insert(Person).values(id=4, email="max.kanarie@example.org", name="").returning(Person.id, Person.email)),
             [(4, "max.kanarie@example.org")])


@step
def search():
    with Session(engine) as s:
        ada = s.scalars(sa.select(Person).where(Person.email == ADA)).one()
        got = {key: getattr(ada, key) for key in ADA_ROW}
        assert got == ADA_ROW, got
        show(got, ada.doc, ada.profile, [v.reason for v in ada.visited])
        same("in", s.execute(sa.select(Person.id).where(Person.email.in_([ADA, ZOE])).order_by(Person.id)), [(1,), (3,)])
        same("or", s.execute(sa.select(Person.id).where(sa.or_(Person.email == ADA, Person.email == BOB)).order_by(Person.id)), [(1,), (2,)])
        same("not", s.execute(sa.select(Person.id).where(Person.email != ADA).order_by(Person.id)), [(2,), (3,), (4,)])
        same("null", s.execute(sa.select(Person.id).where(Person.name.is_(None))), [(3,)])
        same("uuid, int8", s.execute(sa.select(Person.id).where(Person.token == TOKEN, Person.big == BIG)), [(1,)])
        same("array", s.execute(sa.select(Person.id).where(Person.email == sa.any_(sa.literal([ADA, BOB], pg.ARRAY(sa.String)))).order_by(Person.id)),
             [(1,), (2,)])
        same("join", s.execute(sa.select(Person.name, Visit.reason).join(Visit.who).where(Person.email == ADA).order_by(Visit.id)),
             [("Ada kanarie", "check"), ("Ada kanarie", "again")])
        same("join on sealed", s.execute(sa.select(Person.name, Order.total).join(Order, Order.email == Person.email)), [("Ada kanarie", 100)])
        same("exists", s.execute(sa.select(sa.exists().where(Person.email == ADA))), [(True,)])
        same("count", s.execute(sa.select(sa.func.count()).select_from(Person)), [(4,)])
        same("subquery", s.execute(sa.select(Visit.id).where(Visit.person.in_(sa.select(Person.id).where(Person.email == ADA))).order_by(Visit.id)),
             [(1,), (2,)])
        same("cte", s.execute(sa.select(sa.select(Person.name, Person.email).where(Person.id == 1).cte("c"))), [("Ada kanarie", ADA)])
        same("text", s.execute(sa.text("select name from people where email = :email"), {"email": ADA}), [("Ada kanarie",)])
        show([(p.id, p.name, [v.id for v in p.visited]) for p in s.scalars(sa.select(Person).options(joinedload(Person.visited)).order_by(Person.id)).unique()])
        show([(p.id, [v.reason for v in p.visited]) for p in s.scalars(sa.select(Person).options(selectinload(Person.visited)).order_by(Person.id).limit(2))])
        show([tuple(row) for row in s.execute(sa.select(Person.email, sa.func.count()).group_by(Person.email).order_by(sa.func.count(), sa.func.min(Person.id)))])


@step
def update():
    with Session(engine) as s:
        ada = s.scalars(sa.select(Person).filter_by(email=ADA).with_for_update()).one()
        ada.name, ada.salary, ada.born, ada.active, ada.blob = "Augusta kanarie", Decimal("99999999.99"), dt.date(1, 1, 1), None, b"\\'"
        ada.doc, ada.profile = {"kanarie": "new"}, [1, "kanarie"]
        s.commit()
        s.refresh(ada)
        show(ada.name, ada.salary, ada.born, ada.active, ada.blob, ada.doc, ada.profile)
        same("returning", s.execute(sa.update(Person).where(Person.email == BOB).values(name="Robert kanarie", visits=1)
                                    .returning(Person.id, Person.name, Person.visits)), [(2, "Robert kanarie", 1)])
        s.execute(sa.update(Person), [{"id": 1, "name": "one kanarie"}, {"id": 2, "name": "two kanarie"}])
        s.commit()
        same("bulk update", s.execute(sa.select(Person.name).where(Person.id.in_([1, 2])).order_by(Person.id)), [("one kanarie",), ("two kanarie",)])


@step
def upsert():
    def statement(id, email, name):
        made = pg.insert(Person).values(id=id, email=email, name=name)
        return made.on_conflict_do_update(index_elements=[Person.email], set_={"name": made.excluded.name, "visits": 7}).returning(Person.id, Person.name)
    with engine.begin() as c:
        same("old", c.execute(statement(20, ADA, "Countess kanarie")), [(1, "Countess kanarie")])
        same("new", c.execute(statement(21, "new.kanarie@example.org", "New kanarie")), [(21, "New kanarie")])
        made = pg.insert(Person).values(id=22, email=ADA).on_conflict_do_nothing()
        show(c.execute(made).rowcount)
    with Session(engine) as s:
        merged = s.merge(Person(id=21, email="new.kanarie@example.org", name="Merged kanarie"))
        s.commit()
        show(merged.name, merged.email)


@step
def bulk():
    rows = [{"id": i, "email": e, "name": n} for i, e, n in bulk_rows(100, 1200)]
    with Session(engine) as s:
        s.execute(sa.insert(Person), rows[:300])
        s.add_all([Person(**row) for row in rows[300:500]])
        s.bulk_save_objects([Person(**row) for row in rows[500:600]])
        s.bulk_insert_mappings(Person, rows[600:700])
        s.commit()
        got = s.scalars(sa.insert(Person).returning(Person), rows[700:]).all()
        show(len(got), got[0].email)
        s.execute(sa.insert(Person).values([{"id": i, "email": e, "born": BORN} for i, e, _ in bulk_rows(3000, 3)]))
        s.commit()
        same("multi-row values", s.execute(sa.select(Person.id, Person.born).where(Person.id >= 3000).order_by(Person.id)),
             [(3000, BORN), (3001, BORN), (3002, BORN)])
    with engine.begin() as c:
        show(c.execute(sa.update(Person).where(Person.id == sa.bindparam("key")).values(name=sa.bindparam("to")),
                       [{"key": i, "to": f"kanarie changed {i}"} for i in range(100, 110)]).rowcount)
        show(c.execute(sa.delete(Person).where(Person.email.in_([row["email"] for row in rows[1100:]]))).rowcount)
        same("count", c.execute(sa.select(sa.func.count()).select_from(Person)), [(1108,)])


@step
def cursor():
    with engine.connect().execution_options(stream_results=True, max_row_buffer=50) as c:
        result = c.execute(sa.select(Person.id, Person.email).where(Person.id.between(200, 399)).order_by(Person.id))
        got = [tuple(row) for part in result.partitions(30) for row in part]
        assert got == [row[:2] for row in bulk_rows(200, 200)], got[:3]
        show(len(got), got[0], got[-1])
    with Session(engine) as s:
        show(sum(len(p.email) for p in s.scalars(sa.select(Person).order_by(Person.id).execution_options(yield_per=100))))


@step
def reflect():
    """A model nobody wrote: its columns are what the catalog says."""
    people = sa.Table("people", sa.MetaData(), autoload_with=engine)
    show([column.name for column in people.columns], [c.name for c in people.primary_key.columns], people.c.email.nullable)
    reflected = automap_base()
    reflected.prepare(autoload_with=engine)
    show(sorted(reflected.classes.keys()))
    row = {**ADA_ROW, "id": 5, "email": "reflected.kanarie@example.org", "token": uuid.UUID(int=5), "big": 5}
    del row["blob"]
    with Session(engine) as s:
        s.add(reflected.classes.people(**row))
        s.commit()
        found = s.scalars(sa.select(reflected.classes.people).where(reflected.classes.people.email == row["email"])).one()
        got = {key: getattr(found, key) for key in row}
        assert got == row, got
        show(got)
        found.name, found.born, found.salary = "Found kanarie", None, Decimal("1.10")
        s.commit()
        show(found.name, found.born, found.salary)
    with engine.begin() as c:
        same("in", c.execute(sa.select(people.c.id).where(people.c.email.in_([row["email"], BOB])).order_by(people.c.id)), [(2,), (5,)])
        same("uuid", c.execute(sa.select(people.c.id).where(people.c.token == uuid.UUID(int=5))), [(5,)])
        c.execute(people.update().where(people.c.email == row["email"]).values(name="core kanarie", visits=3))
        c.execute(people.insert(), [{"id": i, "email": e, "name": n, "born": BORN} for i, e, n in bulk_rows(4000, 5)])
        same("rows", c.execute(sa.select(people.c.email, people.c.name, people.c.born).where(people.c.id.between(4000, 4001)).order_by(people.c.id)),
             [(e, n, BORN) for _, e, n in bulk_rows(4000, 2)])
        c.execute(people.delete().where(people.c.email == row["email"]))


@step
def reflect_bytea():
    people = sa.Table("people", sa.MetaData(), autoload_with=engine)
    with engine.begin() as c:
        c.execute(people.insert().values(id=6, email="blob.kanarie@example.org", blob=BLOB))
        same("bytes", c.execute(sa.select(people.c.blob).where(people.c.email == "blob.kanarie@example.org")), [(BLOB,)])
        c.execute(people.delete().where(people.c.id == 6))


@step
def migrate():
    """Alembic: a table with a foreign key to a protected one, columns and indexes that come and go, and nothing left to do."""
    with engine.begin() as c:
        op = Operations(MigrationContext.configure(c))
        op.create_table("badge", sa.Column("id", sa.Integer, primary_key=True), sa.Column("person", sa.Integer, sa.ForeignKey("people.id")),
                        sa.Column("label", sa.String(20), nullable=False))
        op.create_index("badge_person", "badge", ["person"])
        op.add_column("badge", sa.Column("colour", sa.Text, server_default="red"))
        op.create_check_constraint("badge_label", "badge", "label <> ''")
        op.bulk_insert(sa.table("badge", sa.column("person", sa.Integer), sa.column("label", sa.String)), [{"person": 1, "label": "a"}, {"person": 2, "label": "b"}])
        op.alter_column("badge", "label", existing_type=sa.String(20), type_=sa.String(60), new_column_name="caption")
    with engine.begin() as c:
        same("migrated", c.execute(sa.text("select p.name, b.caption, b.colour from badge b join people p on p.id = b.person order by b.id")),
             [("Countess kanarie", "a", "red"), ("two kanarie", "b", "red")])
        Operations(MigrationContext.configure(c)).drop_table("badge")


@step
def autogenerate():
    """Alembic compares the models' tables, columns, keys and indexes with the catalog."""
    with engine.connect() as c:
        show(compare_metadata(MigrationContext.configure(c, opts={"compare_type": False}), Base.metadata))


@step
def autogenerate_types():
    """… and their columns' types."""
    with engine.connect() as c:
        show(compare_metadata(MigrationContext.configure(c), Base.metadata))


@step
def transaction():
    with Session(engine) as s:
        s.add(Person(id=60, email="tx.kanarie@example.org"))
        s.flush()
        try:
            with s.begin_nested():
                s.add(Person(id=61, email="tx.kanarie@example.org"))
                s.flush()
        except IntegrityError as e:
            show(type(e.orig).__name__)
        same("inside", s.execute(sa.select(Person.id).where(Person.email == "tx.kanarie@example.org")), [(60,)])
        s.rollback()
        same("rolled back", s.execute(sa.select(Person.id).where(Person.email == "tx.kanarie@example.org")), [])
    with engine.connect().execution_options(isolation_level="SERIALIZABLE") as c, c.begin():
        show(c.execute(sa.text("show transaction_isolation")).scalar(), c.execute(sa.select(Person.name).where(Person.email == ADA)).scalar())
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as c:
        c.execute(sa.update(Person).where(Person.email == ADA).values(name="auto kanarie"))
        show(c.execute(sa.select(Person.name).where(Person.email == ADA)).scalar())


@step
def failures():
    for values in [dict(id=50, email=ADA), dict(id=50, email=None), dict(id=50, email="kanarie" * 20),
                   dict(id=50, email="e", salary=Decimal("1e8")), dict(id=50, email="e", small=2**15)]:
        with Session(engine) as s:
            try:
                s.execute(sa.insert(Person).values(**values))
                raise AssertionError(values)
            except DBAPIError as e:
                show(type(e).__name__, getattr(e.orig, "sqlstate", None) or getattr(e.orig, "pgcode", None))
            s.rollback()
            same("after", s.execute(sa.select(Person.id).where(Person.email == BOB)), [(2,)])


@step
def delete():
    with Session(engine) as s:
        s.delete(s.scalars(sa.select(Person).where(Person.email == ADA)).one())
        s.commit()
        same("cascade", s.execute(sa.select(sa.func.count()).select_from(Visit)), [(0,)])
    Visit.__table__.drop(engine)


@introspect
def inspector():
    inspect = sa.inspect(engine)
    show(sorted(inspect.get_table_names()), inspect.get_view_names())
    for table in sorted(inspect.get_table_names()):
        show(table, [(column["name"], column["nullable"]) for column in inspect.get_columns(table)], inspect.get_pk_constraint(table),
             inspect.get_foreign_keys(table), inspect.get_unique_constraints(table), inspect.get_indexes(table))


@introspect
def reflected():
    metadata = sa.MetaData()
    metadata.reflect(engine)
    show({name: [column.name for column in table.columns] for name, table in sorted(metadata.tables.items())})


async def through_greenlet():
    await greenlet_spawn(main, f"{sa.__version__}, alembic {alembic.__version__}")

if DRIVER == "asyncpg":
    asyncio.run(through_greenlet())
else:
    main(f"{sa.__version__}, alembic {alembic.__version__}")
