"""Jobs trained elsewhere, at any service that speaks OpenAI's fine-tuning API."""
