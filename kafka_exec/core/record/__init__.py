"""Records of any topic: strict reading of what comes from outside, and values as JSON holds them."""
