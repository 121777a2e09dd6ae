"""Third-party test suites, run unmodified against kafka_exec: ``./dev conformance SUITE [pytest arguments]``."""
