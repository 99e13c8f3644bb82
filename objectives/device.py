"""The part of a machine that a run trains on."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import Literal

Precision = Literal["auto", "float32", "bfloat16"]
"""Type that layers compute in; "auto": bfloat16 where the device has instructions for it."""


@dataclass(frozen=True)
class Device:
    """The processor cores or the GPU of one slot, and the precision of its training."""

    name: str = "cpu"
    """Short name for display: `cpu:0-1` or `gpu:0`."""
    _: KW_ONLY
    cores: tuple[int, ...] = ()
    """Processor cores that the trainer is pinned to; empty: not pinned."""
    core_count: int | None = None
    """Number of cores whose time the trainer may use, pinned or not; None: as many as it is pinned to."""
    gpu: str | None = None
    """Index or UUID of the GPU; None: no GPU is visible to the trainer."""
    gpu_memory_bytes: int | None = None
    """GPU memory limit of the trainer where several slots share the GPU; None: no limit."""
    gpu_memory_fraction: float | None = None
    """The same limit as a share of the GPU's memory; known even where its size is not."""
    gpu_memory_grows: bool = False
    """Whether that much is not allocated at the start, but as needed."""
    gpu_usable_bytes: int | None = None
    """GPU memory that the trainer may use, limited or not; None: the driver does not report it."""
    host_memory_bytes: int | None = None
    """Part of the host's memory that falls to this slot, or to all lanes of its process; data shared with other
    slots count towards it. None: unknown."""
    precision: Precision = "auto"
    """Type that layers compute in; weights, logits and the loss are always float32. `objectives.backend.precision`
    resolves "auto"."""
    lane: int | None = None
    """Number of its lane, where one process trains several trials at once; None: each process trains one."""
    lanes: int = 1
    """Number of lanes of that process."""
    owns: str = ""
    """Full description for display: `gpu 0 (1/2, 68.9 GiB), cores 0-3`."""

    @property
    def threads(self) -> int:
        """Number of threads for numeric libraries: one per core, at least one."""
        return max(1, self.core_count or len(self.cores))
