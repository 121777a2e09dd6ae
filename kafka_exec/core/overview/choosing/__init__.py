"""The choice of tasks and messages by what is known of them."""
