"""Prompt log-probabilities by one torch forward pass, in a process of its own."""
