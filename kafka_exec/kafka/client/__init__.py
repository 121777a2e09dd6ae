"""Clients of librdkafka: making one, calling it from any thread, and the meanings of its errors."""
