"""Clients of librdkafka: how one is made, called from any thread, and what its errors mean."""
