"""As `inspectdb` on an unprotected database and some tidying make them."""

from django.db import models


class Person(models.Model):
    id = models.IntegerField(primary_key=True)
    email = models.CharField(max_length=80, unique=True)
    name = models.TextField(null=True)
    born = models.DateField(null=True)
    salary = models.DecimalField(max_digits=10, decimal_places=2, null=True)
    score = models.FloatField(null=True)
    active = models.BooleanField(null=True)
    token = models.UUIDField(null=True)
    seen = models.DateTimeField(null=True)
    small = models.SmallIntegerField(null=True)
    visits = models.IntegerField(null=True)
    big = models.BigIntegerField(null=True)
    blob = models.BinaryField(null=True)
    note = models.TextField(null=True)
    profile = models.JSONField(null=True)

    class Meta:
        managed = False
        db_table = "people"


class Order(models.Model):
    id = models.IntegerField(primary_key=True)
    email = models.CharField(max_length=80)
    total = models.IntegerField(null=True)

    class Meta:
        managed = False
        db_table = "orders"


class Visit(models.Model):
    person = models.ForeignKey(Person, models.CASCADE, db_column="person")
    reason = models.CharField(max_length=40, null=True)
    at = models.DateTimeField(auto_now_add=True)

    class Meta:
        db_table = "visit"
        indexes = [models.Index(fields=["person", "at"], name="visit_person_at")]
