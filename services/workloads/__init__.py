"""Workloads, their names and policies, and the cycles that keep their models tuned."""
