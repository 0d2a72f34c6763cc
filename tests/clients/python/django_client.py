"""Django's ORM, migrations and inspectdb. Usage: … psycopg2|psycopg"""

import io
import re

import django
from django.conf import settings

from steps import *

# Django takes psycopg 3 where it is there; the other is asked for by hiding it.
if ARGS[0] == "psycopg2":
    sys.modules["psycopg"] = None
settings.configure(
    INSTALLED_APPS=["shop"], USE_TZ=True, TIME_ZONE="UTC", DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    DATABASES={"default": {"ENGINE": "django.db.backends.postgresql", "NAME": DATABASE, "USER": USER, "PASSWORD": PASSWORD,
                           "HOST": HOST, "PORT": PORT,
                           "OPTIONS": {"server_side_binding": True} if ARGS[0] == "psycopg-binding" else {}}})
django.setup()

from django.core.management import call_command
from django.db import DatabaseError, IntegrityError, connection, transaction as tx
from django.db.models import Case, Count, Exists, F, OuterRef, Prefetch, Q, Value, When
from shop.models import Order, Person, Visit

DJANGO_ROW = {key: value for key, value in ADA_ROW.items() if key != "woke"}


def row_of(person):
    return {key: bytes(value) if isinstance(value := getattr(person, key), memoryview) else value for key in DJANGO_ROW}


@step
def migrate():
    out = io.StringIO()
    call_command("migrate", stdout=out, no_color=True)
    show(re.sub(r"\x1b\[[0-9;]*m", "", out.getvalue()))
    show(sorted(connection.introspection.table_names()))
    out = io.StringIO()
    try:
        call_command("makemigrations", "--check", "--dry-run", stdout=out)
    except SystemExit:
        show("models and migrations differ")
    show(out.getvalue())


@step
def insert():
    Person.objects.create(**DJANGO_ROW, profile={"kanarie": [1, None]})
    Person(id=2, email=BOB, name="Bob\n\"kanarie\" %s \\").save(force_insert=True)
    Person(id=3, email=ZOE).save()
    Order.objects.create(id=10, email=ADA, total=100)
    visit = Visit.objects.create(person_id=1, reason="check")
    show(visit.id, visit.person.name)


@step
def search():
    ada = Person.objects.get(email=ADA)
    assert row_of(ada) == DJANGO_ROW, row_of(ada)
    show(row_of(ada), ada.profile)
    ids = lambda query: list(query.order_by("id").values_list("id", flat=True))
    show(ids(Person.objects.filter(email__in=[ADA, ZOE])), ids(Person.objects.exclude(email=ADA)), ids(Person.objects.filter(Q(email=ADA) | Q(email=BOB))))
    show(ids(Person.objects.filter(name__isnull=True)), ids(Person.objects.filter(token=TOKEN, big=BIG)), Person.objects.filter(email=ADA).exists())
    show(Person.objects.count(), Person.objects.filter(email__exact=ADA).first().name, Person.objects.in_bulk([ADA, BOB], field_name="email").keys())
    show(list(Visit.objects.select_related("person").filter(person__email=ADA).values_list("person__name", "reason")))
    show([(p.id, [v.reason for v in p.visit_set.all()]) for p in Person.objects.prefetch_related("visit_set").order_by("id")])
    show(ids(Person.objects.filter(Exists(Order.objects.filter(email=OuterRef("email"))))), ids(Visit.objects.filter(person__in=Person.objects.filter(email=ADA))))
    show(list(Person.objects.filter(id=1).union(Person.objects.filter(id=2)).values_list("id", "email").order_by("id")))
    show(list(Person.objects.raw("select * from people where email = %s", [ADA]))[0].name, list(Person.objects.only("name").order_by("id")[:2])[1].email)
    show(list(Person.objects.order_by("id").values("email").distinct().values_list("email", flat=True))[:1], Person.objects.dates("seen", "year").query is not None)


@step
def annotate():
    """A model that Django does not manage is grouped by each of its columns, not by its key."""
    show([(p.email, p.n) for p in Person.objects.annotate(n=Count("visit")).order_by("id")])


@step
def update():
    show(Person.objects.filter(email=ADA).update(name="Augusta kanarie", salary=Decimal("99999999.99"), born=dt.date(1, 1, 1), active=None))
    ada = Person.objects.get(email=ADA)
    ada.name, ada.profile, ada.blob = "saved kanarie", {"kanarie": "new"}, b"\\'"
    ada.save()
    ada.save(update_fields=["name"])
    ada.refresh_from_db()
    show(row_of(ada), ada.profile)
    people = list(Person.objects.order_by("id"))
    for person in people:
        person.name, person.visits, person.born = f"bulk kanarie {person.id}", person.id, dt.date(2000, 1, person.id)
    show(Person.objects.bulk_update(people, ["name", "visits", "born"]))
    show(list(Person.objects.order_by("id").values_list("name", "visits", "born")))
    show(Person.objects.update(note=Case(When(email=ADA, then=Value("is ada")), default=Value("is not"))), list(Person.objects.order_by("id").values_list("note", flat=True)))


@step
def upsert():
    made = Person.objects.bulk_create([Person(id=1, email=ADA, name="Countess kanarie"), Person(id=21, email="new.kanarie@example.org", name="New kanarie")],
                                      update_conflicts=True, unique_fields=["id"], update_fields=["name"])
    show([p.name for p in made], list(Person.objects.order_by("id").values_list("id", "name")))
    Person.objects.bulk_create([Person(id=30, email=ADA, name="by email kanarie")], update_conflicts=True, unique_fields=["email"], update_fields=["name"])
    show(len(Person.objects.bulk_create([Person(id=31, email=ADA)], ignore_conflicts=True)), Person.objects.get(email=ADA).name)
    person, new = Person.objects.get_or_create(email=BOB, defaults={"id": 40})
    show(person.id, new)
    person, new = Person.objects.get_or_create(email="got.kanarie@example.org", defaults={"id": 40, "name": "Got kanarie"})
    show(person.id, new)
    person, new = Person.objects.update_or_create(email=BOB, defaults={"name": "updated kanarie"})
    show(person.id, new, Person.objects.get(email=BOB).name)


@step
def bulk():
    show(len(Person.objects.bulk_create([Person(id=i, email=e, name=n, born=BORN) for i, e, n in bulk_rows(100, 500)], batch_size=120)))
    show(Person.objects.filter(email__in=[e for _, e, _ in bulk_rows(100, 400)]).count(), Person.objects.filter(id__gte=590).delete()[0])


@step
def cursor():
    got = [(p.id, p.email) for p in Person.objects.filter(id__gte=100).order_by("id").iterator(chunk_size=37)]
    assert got == [row[:2] for row in bulk_rows(100, 490)]
    show(len(got), list(Person.objects.filter(email=ADA).values_list("name").iterator()))
    with tx.atomic():
        show(sum(1 for _ in Person.objects.prefetch_related("visit_set").iterator(chunk_size=50)))


@step
def transaction():
    try:
        with tx.atomic():
            Person.objects.create(id=60, email="tx.kanarie@example.org")
            try:
                with tx.atomic():
                    Person.objects.create(id=61, email="tx.kanarie@example.org")
            except IntegrityError as e:
                show(type(e.__cause__).__name__)
            show(Person.objects.select_for_update().get(email="tx.kanarie@example.org").id)
            raise KeyError
    except KeyError:
        show(Person.objects.filter(email="tx.kanarie@example.org").exists())


@step
def failures():
    for values in [dict(id=50, email=ADA), dict(id=50, email=None), dict(id=50, email="kanarie" * 20), dict(id=50, email="e", small=2**15)]:
        try:
            Person.objects.bulk_create([Person(**values)])
            raise AssertionError(values)
        except DatabaseError as e:
            show(type(e).__name__, getattr(e.__cause__, "sqlstate", None) or getattr(e.__cause__, "pgcode", None))
    show(Person.objects.get(email=BOB).id)
    with connection.cursor() as c:
        c.execute("select name from people where email = %s and id = %s", [BOB, 2])
        show(c.fetchall(), [column.name for column in c.description])


@step
def delete():
    show(Person.objects.get(email=ADA).delete())
    call_command("migrate", "shop", "zero", stdout=io.StringIO())
    show(sorted(connection.introspection.table_names()))


@introspect
def tables():
    with connection.cursor() as c:
        for table in sorted(connection.introspection.get_table_list(c)):
            show(table, [(column.name, column.null_ok) for column in connection.introspection.get_table_description(c, table.name)])
            show(sorted(connection.introspection.get_constraints(c, table.name).items(), key=str))


@introspect
def inspectdb():
    out = io.StringIO()
    call_command("inspectdb", "people", "orders", stdout=out)
    show(re.findall(r"^(?:class \w+|    \w+(?= = models))", out.getvalue(), re.M))


main(f"{django.__version__}")
