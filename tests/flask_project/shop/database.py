"""The project's database: one connection for each request, or each run of a task, which is closed with its context."""

import sqlite3

from flask import current_app, g


def database() -> sqlite3.Connection:
    if "database" not in g:
        g.database = sqlite3.connect(current_app.config["DATABASE"], timeout=30)
        g.database.execute("CREATE TABLE IF NOT EXISTS orders (id INTEGER PRIMARY KEY, customer TEXT, charged TEXT)")
    return g.database
