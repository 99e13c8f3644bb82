"""The retrained models of studies: their place, their inputs and outputs, and how they are loaded."""
