"""The project's Celery application."""

import os

from celery import Celery

import kafka_exec  # noqa: F401 - registers the URL scheme; before the app is made

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")

app = Celery("shop")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
