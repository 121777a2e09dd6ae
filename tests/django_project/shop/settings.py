"""The project's settings: Celery's begin with CELERY_, those of kafka_exec with CELERY_KAFKA_EXEC_."""

import os

INSTALLED_APPS = [
    "django_celery_results",
    "django_celery_beat",
    "orders",
]

CELERY_BROKER_URL = os.environ.get("BROKER_URL", "kafka-exec://127.0.0.1:9092/shop")
CELERY_RESULT_BACKEND = "django-db"
CELERY_RESULT_EXTENDED = True
CELERY_KAFKA_EXEC_HEARTBEAT = 2.0

CELERY_BEAT_SCHEDULE = {
    "stock-by-settings": {"task": "orders.tasks.count_stock", "schedule": 1.0, "args": ["settings"]},
}

SECRET_KEY = "not a secret: this project is run by tests"
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.environ.get("SHOP_DATABASE", "shop.sqlite3"),
        "OPTIONS": {"timeout": 30},
    }
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
