"""Lanes: several trials of one shape, each in a thread of its own, in one program of JAX.

`lanes.Lanes` are the lanes of a process, `shape.shape_of` tells which trials can share them, `width.best_width` how
many are worth it on a device. docs/explanation/lanes.md explains them. Importing this package imports neither Keras nor
JAX; its modules do.
"""
