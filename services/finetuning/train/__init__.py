"""
The trainer: a process of its own that turns a plan and rows into a LoRA adapter.

It knows folders and standard output, no databases: `python -m services.finetuning.train <folder>`.
"""
