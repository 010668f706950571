"""Evaluations: models answer held-out rows, are measured, and the gate says pass or fail."""
