"""The facts that ``celery kafka doctor`` finds in a cluster, and its trials there."""
