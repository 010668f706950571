"""Decisions about jobs: states, names, what a request may ask for, what progress looks like."""
