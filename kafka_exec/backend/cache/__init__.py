"""The cache of results in Redis: copies of states, and what keeps them up to date."""
