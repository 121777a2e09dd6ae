"""The cache of results in Redis: copies of states, and the projection that keeps them up to date."""
