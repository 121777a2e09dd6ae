import pytest
from pytest_celery import CeleryBackendCluster, CeleryBrokerCluster


@pytest.fixture
def celery_broker_cluster(celery_kafka_broker):
    cluster = CeleryBrokerCluster(celery_kafka_broker)
    yield cluster
    cluster.teardown()


@pytest.fixture
def celery_backend_cluster(celery_kafka_backend):
    cluster = CeleryBackendCluster(celery_kafka_backend)
    yield cluster
    cluster.teardown()


@pytest.fixture(scope="session")
def docker_client(process_client):
    return process_client


@pytest.fixture
def default_worker_command(default_worker_container_cls):
    return default_worker_container_cls.command("--without-mingle", "--concurrency=2")
