"""The demonstration: the whole loop once, by a user's own means."""
