"""Imports: a fine-tune of another service is made anew here and compared with what it answered."""
