"""PyTorch: threads, determinism and GPU memory; Keras' own training step."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from objectives.backend.base import Backend
from objectives.device import Device

if TYPE_CHECKING:
    import keras

_ALLOCATOR = ("PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF")


class Torch(Backend):
    """Computes eagerly, as Keras does on PyTorch."""

    package = "torch"
    gpu_installation = "pip install torch, as https://pytorch.org says for CUDA"
    installation = "pip install torch"
    # Keeps cuBLAS deterministic under use_deterministic_algorithms; read when CUDA starts.
    variables = {"CUBLAS_WORKSPACE_CONFIG": ":4096:8"}

    _share: float | None = None
    """Share of the GPU's memory where several slots use it."""

    def share_gpu(self, fraction: float | None, *, grows: bool = False) -> None:  # noqa: ARG002 - it always grows
        chosen = any("per_process_memory_fraction" in os.environ.get(name, "") for name in _ALLOCATOR)
        if fraction is not None and self._share is None and not chosen:
            import wrapt

            wrapt.register_post_import_hook(self._limit, "torch.cuda")
        self._share = fraction

    def _limit(self, cuda: Any) -> None:
        """Limit PyTorch to the process's share of a GPU once it uses CUDA, which importing it does not."""

        def limit() -> None:
            if self._share is not None:
                cuda.set_per_process_memory_fraction(self._share)

        with contextlib.suppress(AttributeError):
            cuda._lazy_call(limit)

    def configure(self, device: Device) -> None:
        import torch

        torch.set_num_threads(device.threads)
        torch.use_deterministic_algorithms(device.gpu is None)

    def begin_epoch(self, seed: int) -> None:
        import torch

        # Keras' Dropout draws from PyTorch's own generator.
        torch.manual_seed(seed)

    def gpu_names(self) -> list[str]:
        import torch

        return [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]

    def compute_capability(self) -> float:
        import torch

        return (
            float("{}.{}".format(*torch.cuda.get_device_capability())) if torch.cuda.is_available() else 0.0
        )

    def gpu_bytes(self) -> int | None:
        import torch

        if not torch.cuda.is_available():
            return None
        free, total = map(int, torch.cuda.mem_get_info())
        own = total if self._share is None else int(self._share * total - torch.cuda.memory_allocated())
        return max(0, min(free, own))

    def training_forward(self, model: keras.Model) -> Callable[[Any], None]:
        import torch

        return torch.no_grad()(super().training_forward(model))  # type: ignore[no-any-return,unused-ignore]
