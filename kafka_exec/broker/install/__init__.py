"""Kafka on this machine: its distribution, a Java to run it, and an archive for a quick start."""
