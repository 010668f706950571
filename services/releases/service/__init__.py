"""Use cases of the registry and of releases."""
