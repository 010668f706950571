"""THE contract: one module per aggregate with its commands and facts, and who consumes what."""
