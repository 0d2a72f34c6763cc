"""Made by `makemigrations` (Django 5.2), but for the columns of the tables that are not managed."""

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True
    dependencies = []
    operations = [
        migrations.CreateModel("Order", [("id", models.IntegerField(primary_key=True, serialize=False))],
                               options={"db_table": "orders", "managed": False}),
        migrations.CreateModel("Person", [("id", models.IntegerField(primary_key=True, serialize=False))],
                               options={"db_table": "people", "managed": False}),
        migrations.CreateModel("Visit", [
            ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
            ("reason", models.CharField(max_length=20)),
            ("at", models.DateTimeField(auto_now_add=True)),
            ("person", models.ForeignKey(db_column="person", on_delete=django.db.models.deletion.CASCADE, to="shop.person")),
        ], options={"db_table": "visit"}),
    ]
