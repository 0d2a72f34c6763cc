"""Django and SQLAlchemy as a masked role, written as for any table: what they see of tests/lenses.rs' `people`.

  masked_orms.py postgresql://analyst:…@host:port/database

Fails at the first thing that is not as it should be."""

import datetime
import sys
from urllib.parse import urlsplit

import django
import sqlalchemy as sa
from django.conf import settings
from sqlalchemy import orm

URL = sys.argv[1]
parts = urlsplit(URL)


def same(what, got, expected):
    assert got == expected, f"{what}: {got!r} is not {expected!r}"
    print(what)


def masked(nick):
    return nick is not None and nick[1:] == "*" * (len(nick) - 1) and len(nick) > 4


def sqlalchemy():
    engine = sa.create_engine(URL.replace("postgresql://", "postgresql+psycopg://", 1))
    found = sa.inspect(engine)
    same("default schema", found.default_schema_name, "public")
    names = found.get_table_names() + found.get_view_names()
    same("people once", [name for name in names if name == "people"], ["people"])
    same("people is there", found.has_table("people"), True)
    people = sa.Table("people", sa.MetaData(), autoload_with=engine)
    same("columns", [column.name for column in people.columns], ["id", "email", "nick", "note", "born", "extra"])
    same("a column's type", str(people.c.nick.type), "VARCHAR(40)")

    class Person:
        pass

    orm.registry().map_imperatively(Person, people, primary_key=[people.c.id])
    with orm.Session(engine) as session:
        ids = [person.id for person in session.scalars(sa.select(Person).order_by(Person.id))]
        same("rows", ids, [1, 2])
        bob = session.get(Person, 2)
        same("masks", (masked(bob.nick), bob.email[:2], bob.note, bob.extra), (True, "b*", None, None))
        count = session.scalar(sa.select(sa.func.count()).select_from(Person).where(Person.nick.like("bob-%")))
        same("a probe", count, 0)
        bob.born = datetime.date(1991, 1, 1)
        session.flush()
        session.expire(bob)
        same("an update", bob.born.year, 1991)
        session.rollback()
    with engine.connect() as connection:
        same("a qualified name", connection.execute(sa.text("select count(*) from public.people")).scalar(), 2)
    engine.dispose()


def django_orm():
    settings.configure(
        DATABASES={"default": {"ENGINE": "django.db.backends.postgresql", "NAME": parts.path[1:], "USER": parts.username,
                               "PASSWORD": parts.password, "HOST": parts.hostname, "PORT": parts.port}},
        DEFAULT_AUTO_FIELD="django.db.models.AutoField", USE_TZ=True)
    django.setup()
    from django.db import connection, models, transaction

    class Person(models.Model):
        id = models.IntegerField(primary_key=True)
        email = models.CharField(max_length=80, null=True)
        nick = models.CharField(max_length=40, null=True)
        born = models.DateField(null=True)

        class Meta:
            app_label, db_table, managed = "clinic", "people", False

    same("rows", list(Person.objects.order_by("id").values_list("id", flat=True)), [1, 2])
    bob = Person.objects.get(pk=2)
    same("masks", (masked(bob.nick), bob.email[:2], bob.born.year), (True, "b*", 1990))
    same("a probe", Person.objects.filter(nick__startswith="bob-").exists(), False)
    years = Person.objects.values("born__year").annotate(n=models.Count("id")).order_by("born__year")
    same("group by", [(row["born__year"], row["n"]) for row in years], [(1980, 1), (1990, 1)])
    with transaction.atomic():
        Person.objects.filter(pk=2).update(born="1991-01-01")
        same("an update", Person.objects.get(pk=2).born.year, 1991)
        transaction.set_rollback(True)
    names = connection.introspection.table_names(include_views=True)
    same("people once", names.count("people"), 1)
    with connection.cursor() as cursor:
        columns = [column.name for column in connection.introspection.get_table_description(cursor, "people")]
    same("columns", columns, ["id", "email", "nick", "note", "born", "extra"])


sqlalchemy()
django_orm()
print("done")
