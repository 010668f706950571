"""The model server and the adapter archives, as evaluation needs them."""
