"""The tasks: made with Celery's base class for Django, with a retry policy, a version and an ordering key."""

from celery import shared_task

from kafka_exec import Phase, RetryPolicy
from orders.models import Note, Order


class Busy(Exception):
    """The bank does not answer now."""


@shared_task(
    bind=True,
    retrying=RetryPolicy((Phase(3, 0.2, factor=1.0),), on=(Busy,)),
    version=2,
    runs_versions=(1,),
    ordering_key=lambda order_id, customer: customer,
)
def charge(self, order_id, customer):
    attempt = self.request.retries + 1
    Note.objects.create(text=f"charge {order_id} attempt {attempt}")
    if customer == "nobody" or attempt == 1:
        raise Busy(f"attempt {attempt}")
    Order.objects.filter(pk=order_id).update(charged=True)
    return attempt


@shared_task
def count_stock(by):
    Note.objects.create(text=f"stock by {by}")
