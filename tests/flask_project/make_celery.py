"""``celery -A make_celery worker`` starts a worker."""

from shop import create_app

flask_app = create_app()
celery_app = flask_app.extensions["celery"]
