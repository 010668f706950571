"""Pure decisions of ingestion: what is wrong with a row, a file, a dataset."""
