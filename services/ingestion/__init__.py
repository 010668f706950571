"""Files and datasets: upload, checks by line, token counts, leakage, sealed dataset versions."""
