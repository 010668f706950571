"""Feedback on answers: labels become outcomes, corrections become training rows."""
