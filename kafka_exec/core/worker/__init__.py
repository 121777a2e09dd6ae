"""A worker's decisions: which task begins next, which goes to another worker, which is tried again."""
