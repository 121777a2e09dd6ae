"""The Celery application and its tasks: ``celery -A shop.tasks worker`` starts a worker."""

import os

from celery import Celery

import kafka_exec  # registers the URL scheme; before the app is made

KAFKA = os.environ.get("BROKER_URL", "kafka-exec://127.0.0.1:9092/shop")

app = Celery("shop", broker=KAFKA, backend=KAFKA)


class Busy(Exception):
    """The bank does not answer now."""


@app.task(bind=True, retrying=kafka_exec.RetryPolicy.fast(on=(Busy,)), ordering_key=lambda customer, amount: customer)
def charge(self, customer, amount):
    return f"{customer} has paid {amount}"


@app.task(bind=True)
def order(self, number):
    answer = self.suspend(f"approve-{number}", timeout=86400)  # waits without a slot
    return f"order {number} is {'approved' if answer['approved'] else 'refused'} by {answer['by']}"
