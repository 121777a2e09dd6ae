import pytest

pytest_plugins = ("celery.contrib.pytest",)


@pytest.fixture
def celery_config(kafka_config):
    return kafka_config


@pytest.fixture
def kafka_app(celery_app):
    return celery_app
