"""What every room may import: contracts, the spine, database, broker, errors, settings."""
