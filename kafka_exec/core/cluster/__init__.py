"""The cluster: settings, the names and settings of its topics, its errors, and its health."""
