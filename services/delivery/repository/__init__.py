"""Every SQL statement of delivery, by table."""
