"""The steps of the demonstration, one module each, in the order of STEPS in `run`."""
