"""Serving owns the model processes of one host: which models are resident, scoring, embeddings."""
