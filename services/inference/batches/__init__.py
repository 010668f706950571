"""The third door: files of requests, answered when nobody else needs the models."""
