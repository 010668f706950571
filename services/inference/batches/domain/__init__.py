"""Decisions about batches."""
