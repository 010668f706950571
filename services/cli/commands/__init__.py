"""One module per command; each asks the API and prints what it says."""
