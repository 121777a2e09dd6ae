"""Findings of ``celery kafka doctor``: judgements of a cluster, its topics, an app's settings and rights."""
