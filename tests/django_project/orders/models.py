"""The orders of customers, and the notes of tasks."""

from django.db import models


class Order(models.Model):
    customer = models.CharField(max_length=100)
    charged = models.BooleanField(default=False)


class Note(models.Model):
    """A line that a task writes, whatever becomes of it."""

    text = models.CharField(max_length=200)
