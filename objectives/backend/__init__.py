"""The one package in which Keras' backends differ; an objective that uses only `keras` runs on each.

Importing it imports neither Keras nor a backend.
"""

from __future__ import annotations

from objectives.backend.environment import before_import, bind, chosen
from objectives.backend.interface import configure, forward, name, precision, training_steps
from objectives.backend.memory_errors import is_out_of_memory

__all__ = [
    "before_import",
    "bind",
    "chosen",
    "configure",
    "forward",
    "is_out_of_memory",
    "name",
    "precision",
    "training_steps",
]
