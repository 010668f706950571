"""The terminal door: `perpetune ...`, a client of the REST API, and the demonstration."""
