"""
The trainer process: claims jobs, runs one child (`services.finetuning.train`) at a time, and
writes down what it reports.
"""
