"""Enters a periodic task into the database, as the admin pages do."""

from django.core.management.base import BaseCommand
from django_celery_beat.models import IntervalSchedule, PeriodicTask


class Command(BaseCommand):
    def handle(self, **options):
        second, _ = IntervalSchedule.objects.get_or_create(every=1, period=IntervalSchedule.SECONDS)
        PeriodicTask.objects.create(
            name="stock by admin", task="orders.tasks.count_stock", interval=second, args='["admin"]'
        )
