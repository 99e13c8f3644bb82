"""The one package in which Keras' backends differ; an objective that uses only `keras` runs on each.

Importing it imports neither Keras nor a backend.
"""

from __future__ import annotations

from objectives.backend import lane
from objectives.backend.interface import (
    BACKENDS,
    before_import,
    bind,
    chosen,
    configure,
    current,
    name,
    precision,
)
from objectives.backend.lane import alone
from objectives.backend.lazy_keras import postpone_parts
from objectives.backend.memory_errors import is_disk_full, is_out_of_memory, may_be_out_of_memory

__all__ = [
    "BACKENDS",
    "alone",
    "before_import",
    "bind",
    "chosen",
    "configure",
    "current",
    "is_disk_full",
    "is_out_of_memory",
    "lane",
    "may_be_out_of_memory",
    "name",
    "postpone_parts",
    "precision",
]
