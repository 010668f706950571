"""Use cases: create and cancel jobs, hear about datasets, record what a trainer reports."""
