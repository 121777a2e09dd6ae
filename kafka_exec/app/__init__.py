"""An app's parts: what prepares it, what its senders say, and the base class of its tasks."""
