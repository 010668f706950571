"""The parity report: facts, a verdict by a written rule, and two forms of it."""
