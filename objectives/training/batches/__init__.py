"""Batches of training examples, made in the host's memory or on a GPU."""

from objectives.training.batches.device import resident, streamed, upload
from objectives.training.batches.host import Advance, Variation, host_steps, hosted, types
from objectives.training.batches.placement import advancing

__all__ = [
    "Advance",
    "Variation",
    "advancing",
    "host_steps",
    "hosted",
    "resident",
    "streamed",
    "types",
    "upload",
]
