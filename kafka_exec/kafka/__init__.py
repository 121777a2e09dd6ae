"""All that uses librdkafka: clients, threads and transactions. Nothing here knows Celery or Kombu."""
