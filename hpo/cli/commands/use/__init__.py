"""Commands that use, add or delete results and data, or check this machine."""
