"""The cluster: settings, names and shapes of its topics, its errors, and its health."""
