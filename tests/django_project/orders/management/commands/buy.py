"""Buys as customers do, and prints as JSON what became of it."""

import json

from celery.signals import before_task_publish
from django.core.management.base import BaseCommand
from django.db import transaction

from orders.models import Order
from orders.tasks import charge
from orders.views import buy


class Command(BaseCommand):
    def handle(self, **options):
        sent = []
        before_task_publish.connect(lambda headers, **_: sent.append(headers["id"]), weak=False)
        told = {}
        try:
            with transaction.atomic():
                lost = Order.objects.create(customer="alice")
                charge.delay_on_commit(lost.pk, "alice")
                charge.apply_async_on_commit((lost.pk, "alice"), countdown=0.1)
                raise RuntimeError("the request fails")
        except RuntimeError:
            told["sent_when_rolled_back"] = len(sent)
        with transaction.atomic():
            buy("alice")
            told["sent_within_a_transaction"] = len(sent)
        buy("nobody")
        told["sent"] = len(sent)
        for customer, task in zip(("alice", "nobody"), sent, strict=True):
            told[customer] = {"order": Order.objects.get(customer=customer).pk, "task": task}
        self.stdout.write(json.dumps(told))
