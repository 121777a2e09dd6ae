"""Publishing: the process's producer, scopes of confirmation, transactions, partitions of keys."""
