"""Inference answers requests: it routes, retries, falls back, and records what it answered."""
