"""The web application: ``uvicorn shop.web:web`` serves it."""

import asyncio

from celery.result import AsyncResult
from fastapi import FastAPI, HTTPException
from fastapi.requests import Request
from fastapi.responses import JSONResponse
from kombu.exceptions import OperationalError

import kafka_exec
from kafka_exec.api import application
from shop.tasks import app, charge, order

web = FastAPI()
web.mount("/kafka", application(app, read_only=True))


@web.post("/payments", status_code=202)
def pay(customer: str, amount: int):
    return {"task": charge.delay(customer, amount).id}  # FastAPI calls a plain function in a thread of its own


@web.post("/orders", status_code=202)
async def begin(number: int):
    sent = await asyncio.to_thread(order.delay, number)  # delay() waits for Kafka: not in the event loop
    return {"task": sent.id}


@web.post("/orders/{number}/approval")
def approve(number: int, by: str, approved: bool = True):
    answer = kafka_exec.resume(app, f"approve-{number}", {"approved": approved, "by": by})
    if answer.outcome not in ("continued", "kept"):
        raise HTTPException(409, answer.outcome)
    return {"outcome": answer.outcome}


@web.get("/tasks/{task_id}")
def task(task_id: str):
    found = AsyncResult(task_id, app=app)
    return {"state": found.state, "result": found.result if found.successful() else None}


@web.exception_handler(OperationalError)
def unavailable(request: Request, error: OperationalError):
    return JSONResponse({"error": "the task was not sent: try again"}, 503)
