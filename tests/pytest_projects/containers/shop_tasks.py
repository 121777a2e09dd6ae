"""The tasks that the workers of these tests have."""

import os
import signal
import time

from celery import shared_task

from kafka_exec import Phase, RetryPolicy


@shared_task
def price(items):
    return sum(items)


@shared_task
def total(prices):
    return sum(prices)


@shared_task(bind=True, max_retries=3)
def charge(self, order, fails=0):
    if self.request.retries < fails:
        raise self.retry(countdown=0.2)
    return f"order {order} is paid"


@shared_task(retrying=RetryPolicy((Phase(1, 0.1, factor=1.0),), on=(ValueError,)))
def deliver(order):
    raise ValueError(order)


@shared_task(ordering_key=lambda order, step: f"order-{order}")
def step(order, step):
    time.sleep(0.05)
    return time.time()


@shared_task
def long(seconds):
    time.sleep(seconds)
    return "done"


@shared_task(bind=True)
def dies_once(self):
    """Kills its process in the first attempt."""
    if self.request.delivery_info.get("redelivered"):
        return "lives"
    os.kill(os.getpid(), signal.SIGKILL)


@shared_task(bind=True)
def approve(self, order):
    return self.suspend(f"approval-{order}")
