"""The run of an objective: what it may report, save, record and measure."""
