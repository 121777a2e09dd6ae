"""Buys for the customers that are named, as a browser does, and prints as JSON what became of each."""

import json
import sys
import time

from make_celery import flask_app

browser = flask_app.test_client()
bought = [browser.post("/orders", data={"customer": customer}).get_json() for customer in sys.argv[1:]]
deadline = time.monotonic() + 60
while not all(order.get("ready") for order in bought) and time.monotonic() < deadline:
    for order in bought:
        order.update(browser.get(f"/results/{order['task']}").get_json())
    time.sleep(0.05)
print(json.dumps(bought))
