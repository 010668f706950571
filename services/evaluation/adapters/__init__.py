"""The model server, as evaluation needs it."""
