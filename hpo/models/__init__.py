"""The retrained models of studies: where they are, what they take and return, and how they are loaded."""
