"""Settings: the places where a user writes them, the checks of them, and the test if an app's broker is kafka-exec."""
