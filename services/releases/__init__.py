"""The registry of models, and releases: which model answers a workload's traffic, and why."""
