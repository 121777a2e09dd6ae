"""The pages: an order is bought, and what became of its task."""

from celery.result import AsyncResult
from flask import Blueprint, request

from shop.database import database
from shop.tasks import charge

page = Blueprint("shop", __name__)


@page.post("/orders")
def buy() -> dict[str, object]:
    customer = request.form["customer"]
    with database() as connection:  # the order is in the database before its task is sent
        order_id = connection.execute("INSERT INTO orders (customer) VALUES (?)", (customer,)).lastrowid
    return {"order": order_id, "task": charge.delay(order_id, customer).id}


@page.get("/results/<task_id>")
def result(task_id: str) -> dict[str, object]:
    found = AsyncResult(task_id)
    ready = found.ready()
    value = found.result if not ready or found.successful() else repr(found.result)
    return {"ready": ready, "state": found.state, "value": value if ready else None}
