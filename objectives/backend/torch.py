"""PyTorch: threads, determinism and GPU memory; Keras' own training step."""

from __future__ import annotations

from objectives.backend.keras_loop import forward, training_steps
from objectives.base import Device

__all__ = ["compute_capability", "configure", "forward", "training_steps"]


def configure(device: Device) -> None:
    """Set threads, determinism and memory limits of this process."""
    import torch  # type: ignore[import-not-found,unused-ignore]

    torch.set_num_threads(device.threads)
    torch.use_deterministic_algorithms(device.gpu is None)
    if device.gpu_memory_fraction is not None and torch.cuda.is_available():
        torch.cuda.set_per_process_memory_fraction(device.gpu_memory_fraction)


def compute_capability() -> float:
    """Return the CUDA compute capability of the current GPU, e.g. 8.0; 0 without a CUDA GPU."""
    import torch  # type: ignore[import-not-found,unused-ignore]

    return float("{}.{}".format(*torch.cuda.get_device_capability())) if torch.cuda.is_available() else 0.0
