"""All SQL of inference, by table."""
