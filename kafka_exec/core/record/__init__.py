"""Records of any topic: strict reading of their fields, and any value as a JSON value."""
