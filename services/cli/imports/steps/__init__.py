"""The steps of an import; each looks first whether it has been taken already."""
