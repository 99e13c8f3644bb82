"""Devices of a host: worker slots, GPUs and CPU cores; provenance of results."""
