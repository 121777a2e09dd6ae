"""The work of a request, without the request."""

from django.db import transaction

from orders.models import Order
from orders.tasks import charge


def buy(customer):
    with transaction.atomic():
        order = Order.objects.create(customer=customer)
        charge.delay_on_commit(order.pk, customer)  # sent when the order is in the database, and only then
    return order
