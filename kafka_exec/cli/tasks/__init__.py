"""The commands that look at single tasks, and continue them."""
