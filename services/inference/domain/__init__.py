"""Decisions of inference: who answers, when to try again, and what an answer looks like."""
