"""The example application: statistics of a folder of text, counted by Celery tasks whose broker is Apache Kafka."""

from __future__ import annotations

from celery_app.app import app

__all__ = ["app"]
