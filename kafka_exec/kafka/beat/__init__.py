"""Exclusive periodic entries on Kafka: claiming, firing, and reading the log of claims."""
