"""Devices of a host: worker slots, GPUs, CPU cores, hardware provenance."""
