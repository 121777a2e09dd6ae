"""The rules by which workers share a queue, in a simulated world: ``./dev simulate``."""
