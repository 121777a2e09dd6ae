"""The tasks, which have the application's context, a retry policy, a version and an ordering key."""

from celery import shared_task
from flask import current_app

from kafka_exec import Phase, RetryPolicy
from shop.database import database


class Busy(Exception):
    """The bank does not answer now."""


@shared_task(
    bind=True,
    ignore_result=False,
    retrying=RetryPolicy((Phase(2, 0.2, factor=1.0),), on=(Busy,)),
    version="b",
    runs_versions=("a",),
    ordering_key=lambda order_id, customer: customer,
)
def charge(self, order_id, customer):
    attempt = self.request.retries + 1
    with database() as connection:
        connection.execute(
            "UPDATE orders SET charged = coalesce(charged || ' ', '') || ? WHERE id = ?", (str(attempt), order_id)
        )
    if customer == "nobody" or attempt == 1:
        raise Busy(f"attempt {attempt}")
    return {"order": order_id, "application": current_app.name, "attempt": attempt}
