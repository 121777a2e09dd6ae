"""Settings: where a user writes them, what is refused, and whether an app's broker is ours."""
