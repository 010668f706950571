"""Use cases of evaluation: start one, take it a step further, end it."""
