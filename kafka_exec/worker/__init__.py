"""The worker's parts, as Celery finds them by name: its consumer class, and its membership as a bootstep."""

from kafka_exec.worker import commands  # noqa: F401 - registers its commands
from kafka_exec.worker.consumer import Consumer
from kafka_exec.worker.membership import Membership

__all__ = ("Consumer", "Membership")
