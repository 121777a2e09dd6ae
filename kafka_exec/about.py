"""What is running: the versions of this package and of what it stands on, and the settings in force."""

from __future__ import annotations

__version__ = "0.1.0"


def versions() -> dict[str, str]:
    """The versions of this package and of what it runs on, by name."""
    import celery
    import confluent_kafka
    import kombu

    return {
        "kafka_exec": __version__,
        "celery": celery.__version__,
        "kombu": kombu.__version__,
        "confluent-kafka": confluent_kafka.__version__,
        "librdkafka": confluent_kafka.libversion()[0],
    }
