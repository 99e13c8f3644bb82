"""PyTorch: threads, determinism and GPU memory; Keras' own training step."""

from __future__ import annotations

from objectives.backend.base import Backend
from objectives.base import Device


class Torch(Backend):
    """Computes eagerly, as Keras does on PyTorch."""

    package = "torch"
    # Keeps cuBLAS deterministic under use_deterministic_algorithms; read when CUDA starts.
    variables = {"CUBLAS_WORKSPACE_CONFIG": ":4096:8"}

    def configure(self, device: Device) -> None:
        import torch  # type: ignore[import-not-found,unused-ignore]

        torch.set_num_threads(device.threads)
        torch.use_deterministic_algorithms(device.gpu is None)
        if device.gpu_memory_fraction is not None and torch.cuda.is_available():
            torch.cuda.set_per_process_memory_fraction(device.gpu_memory_fraction)

    def compute_capability(self) -> float:
        import torch  # type: ignore[import-not-found,unused-ignore]

        return (
            float("{}.{}".format(*torch.cuda.get_device_capability())) if torch.cuda.is_available() else 0.0
        )
