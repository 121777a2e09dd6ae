"""An application under test."""

from celery import Celery

import kafka_exec

KAFKA = "kafka-exec://127.0.0.1:1/shop"  # nobody is there: tests use another broker
app = Celery("shop", broker=KAFKA, backend=KAFKA)
app.conf.task_routes = {"shop.lonely": {"queue": "nobody"}}


class Busy(Exception):
    """The payment provider has no time."""


@app.task
def price(items):
    return sum(items)


@app.task(bind=True, max_retries=3)
def charge(self, order, fails=0):
    if self.request.retries < fails:
        raise self.retry(exc=Busy(order), countdown=60 * 2**self.request.retries)
    return f"order {order} is paid"


@app.task(retrying=kafka_exec.RetryPolicy((kafka_exec.Phase(2, 300.0, factor=1.0),), on=(Busy,)))
def deliver(order):
    raise Busy(order)


@app.task
def order(number, items):
    """Sends other tasks."""
    (price.s(items) | remind.si(number)).apply_async()


@app.task
def remind(number):
    charge.apply_async((number,), countdown=7 * 86400, ordering_key=f"order-{number}")


@app.task(bind=True)
def subscribe(self, customer):
    self.step(sum, [1, 2])
    self.sleep(30 * 86400)
    return f"{customer} pays again"


@app.task(bind=True)
def approve(self, order):
    return self.suspend(f"approval-{order}")


@app.task
def lonely():
    """Goes to a queue that no worker reads."""
