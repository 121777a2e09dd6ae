"""A project of a few files, as Flask's own page for Celery has it."""

import os

from celery import Celery, Task
from flask import Flask

import kafka_exec  # noqa: F401 - registers the URL scheme; before the app is made


def create_app() -> Flask:
    app = Flask(__name__)
    url = os.environ.get("BROKER_URL", "kafka-exec://127.0.0.1:9092/shop")
    app.config.from_mapping(
        DATABASE=os.environ.get("SHOP_DATABASE", "shop.sqlite3"),
        CELERY={"broker_url": url, "result_backend": url, "task_ignore_result": True, "kafka_exec_heartbeat": 2.0},
    )
    app.config.from_prefixed_env()
    celery_init_app(app)

    from shop import views

    app.register_blueprint(views.page)
    return app


def celery_init_app(app: Flask) -> Celery:
    class FlaskTask(Task):
        def __call__(self, *args: object, **kwargs: object) -> object:
            with app.app_context():
                return self.run(*args, **kwargs)

    celery_app = Celery(app.name, task_cls=FlaskTask)
    celery_app.config_from_object(app.config["CELERY"])
    celery_app.set_default()
    app.extensions["celery"] = celery_app
    return celery_app
