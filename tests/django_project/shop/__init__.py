"""A project of a few files, as Celery's own page for Django has it."""

from shop.celery import app as celery_app

__all__ = ["celery_app"]
