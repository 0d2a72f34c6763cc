"""A wider column that may be NULL, and rows that a migration reads and writes."""

from django.db import migrations, models


def first_visits(apps, _editor):
    person, visit = apps.get_model("shop", "Person"), apps.get_model("shop", "Visit")
    visit.objects.bulk_create([visit(person_id=key, reason="migrated") for key in person.objects.values_list("id", flat=True)])


class Migration(migrations.Migration):
    dependencies = [("shop", "0001_initial")]
    operations = [
        migrations.AlterField("visit", "reason", models.CharField(max_length=40, null=True)),
        migrations.RunPython(first_visits, migrations.RunPython.noop),
        migrations.AddIndex("visit", models.Index(fields=["person", "at"], name="visit_person_at")),
    ]
