"""An order that waits for a person, and for its parcels: as a durable function, and the same as a job of steps."""

from __future__ import annotations

from typing import Any

import kafka_exec
from celery_app.app import app

#: An order that nobody approves in this time has failed, seconds.
APPROVAL_TIMEOUT = 3600.0

#: The customer is reminded so long after the parcels are packed, seconds.
REMIND_AFTER = 1.0


def reserve(number: int) -> list[str]:
    """Reserves the parts of an order."""
    return [f"part {part} of order {number}" for part in (1, 2, 3)]


def remind(number: int) -> str:
    """Reminds the customer."""
    return f"reminder of order {number}"


def send_invoice(number: int, parcels: list[str]) -> str:
    """Sends the invoice."""
    return f"invoice of order {number} for {len(parcels)} parcels"


@app.task
def pack(part: str) -> str:
    """Packs a part into a parcel."""
    return f"parcel with {part}"


@app.task(bind=True)
def order(self: Any, number: int) -> str:
    """An order as a function: it runs again from its top when it goes on, and what it has done returns at once."""
    parts = self.step(reserve, number)
    answer = self.suspend(f"approve-{number}", timeout=APPROVAL_TIMEOUT)
    if not answer["approved"]:
        return f"order {number} is refused by {answer['by']}"
    parcels = self.wait_for(*(pack.s(part) for part in parts))
    self.sleep(REMIND_AFTER)
    self.step(remind, number)
    invoice: str = self.step(send_invoice, number, parcels)
    return invoice


class OrderJob(kafka_exec.Job):
    """The same as a job; it packs in a step of its own."""

    name = "celery_app.orders.job"
    steps = ("reserve", "ship", "remind", "invoice")

    def reserve(self, context: dict[str, Any]) -> kafka_exec.Suspend:
        """Reserves the parts, and waits for the approval."""
        context["parts"] = reserve(context["number"])
        return kafka_exec.Suspend(f"approve-{context['number']}", APPROVAL_TIMEOUT)

    def ship(self, context: dict[str, Any], answer: Any) -> kafka_exec.Stop | kafka_exec.Wait:
        """Packs the parts if the order is approved."""
        if not answer["approved"]:
            context["result"] = f"order {context['number']} is refused by {answer['by']}"
            return kafka_exec.Stop()
        context["parcels"] = [f"parcel with {part}" for part in context["parts"]]
        return kafka_exec.Wait(REMIND_AFTER)

    def remind(self, context: dict[str, Any]) -> None:
        """Reminds the customer."""
        remind(context["number"])

    def invoice(self, context: dict[str, Any]) -> None:
        """Sends the invoice."""
        context["result"] = send_invoice(context["number"], context["parcels"])


job = app.register_task(OrderJob())
