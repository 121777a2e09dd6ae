"""Speed beside Redis, RabbitMQ and Celery's own ceiling: ``./dev bench``."""
