"""Use cases of workloads and of their cycles."""
