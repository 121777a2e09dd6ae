"""Hypothesis for the unit tests: without its deadline, since a busy machine is no failure.

Each run tries other examples. ``--hypothesis-profile thorough`` tries twenty times as many.
"""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("thorough", deadline=None, max_examples=1000)
settings.register_profile("unit", deadline=None, max_examples=50)
settings.load_profile("unit")
