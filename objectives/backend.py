"""Everything that differs between Keras' backends: threads, seeds, memory, errors, devices.

The backend is Keras' own choice: `KERAS_BACKEND` (tensorflow, jax or torch), tensorflow by default.
Importing this module imports no backend.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
import sys

from objectives.base import Device

_PACKAGES = ("keras", "tensorflow", "jax", "torch", "numpy", "scikit-learn", "optuna")
_OUT_OF_MEMORY_CLASSES = frozenset({"ResourceExhaustedError", "OutOfMemoryError", "MemoryError"})
_OUT_OF_MEMORY_WORDS = (
    "resource_exhausted",
    "out of memory",
    "out_of_memory",
    "oom when allocating",
    "can't allocate memory",
    "not enough memory",
)


def name() -> str:
    """The backend in use, or the one that importing Keras would choose."""
    if "keras" in sys.modules:
        import keras

        return str(keras.config.backend())
    return os.environ.get("KERAS_BACKEND", "tensorflow")


def before_import() -> None:
    """Settings that a backend reads while it is imported; what the user has set stays."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    # Several trials may share a GPU: none may take all of its memory at its start.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    # Keeps cuBLAS deterministic under torch.use_deterministic_algorithms; read when CUDA starts.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


def configure(device: Device, seed: int) -> None:
    """Bind this process to its device and seed all random numbers; call it before the first tensor.

    On a CPU results repeat to the last digit. On a GPU they are seeded but not bitwise repeatable:
    deterministic kernels cost much there, and some operations have none.
    """
    import keras

    _show_only(device)
    {"tensorflow": _configure_tensorflow, "torch": _configure_torch, "jax": _configure_jax}.get(
        name(), lambda _: None
    )(device)
    keras.utils.set_random_seed(seed % 2**32)


def is_out_of_memory(error: BaseException | None) -> bool:
    """Whether an error, or one that caused it, says that memory ran out, on the device or the host."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if _OUT_OF_MEMORY_CLASSES & {cls.__name__ for cls in type(error).__mro__}:
            return True
        text = str(error).lower()
        from_backend = isinstance(error, RuntimeError) or type(error).__module__.startswith("tensorflow")
        if from_backend and any(words in text for words in _OUT_OF_MEMORY_WORDS):
            return True
        error = error.__cause__ or error.__context__
    return False


def versions() -> dict[str, str]:
    """What a result depends on: Python, the backend's name and the versions of the packages installed."""
    found = {"python": platform.python_version(), "backend": name()}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def devices() -> list[str]:
    """What the backend can compute on, as `cpu` and `gpu:0 NVIDIA …`; it is initialised: fork before."""
    before_import()
    return {"tensorflow": _tensorflow_devices, "torch": _torch_devices, "jax": _jax_devices}[name()]()


def _show_only(device: Device) -> None:
    """CUDA reads this when it starts, which a freshly forked trainer has not done yet."""
    os.environ["CUDA_VISIBLE_DEVICES"] = "-1" if device.gpu is None else device.gpu


def _configure_tensorflow(device: Device) -> None:
    import tensorflow as tf

    # Refused once TensorFlow has computed in this process (a notebook, a test): it keeps what it has.
    with contextlib.suppress(RuntimeError):
        tf.config.threading.set_intra_op_parallelism_threads(device.threads)
        tf.config.threading.set_inter_op_parallelism_threads(1)
    if device.gpu is None:
        tf.config.experimental.enable_op_determinism()
        return
    with contextlib.suppress(RuntimeError):
        for gpu in tf.config.list_physical_devices("GPU"):
            tf.config.experimental.set_memory_growth(gpu, True)


def _configure_torch(device: Device) -> None:
    import torch  # type: ignore[import-not-found,unused-ignore]

    torch.set_num_threads(device.threads)
    torch.use_deterministic_algorithms(device.gpu is None)


def _configure_jax(device: Device) -> None:
    import jax  # type: ignore[import-not-found,unused-ignore]

    # Its threads have no setting: XLA takes one for each core that the trainer is pinned to.
    if device.gpu is None:
        jax.config.update("jax_platforms", "cpu")


def _tensorflow_devices() -> list[str]:
    import tensorflow as tf

    found = ["cpu"]
    for index, gpu in enumerate(tf.config.list_physical_devices("GPU")):
        details = tf.config.experimental.get_device_details(gpu)
        found.append(f"gpu:{index} {details.get('device_name', gpu.name)}")
    return found


def _torch_devices() -> list[str]:
    import torch  # type: ignore[import-not-found,unused-ignore]

    names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return ["cpu", *(f"gpu:{index} {gpu}" for index, gpu in enumerate(names))]


def _jax_devices() -> list[str]:
    import jax  # type: ignore[import-not-found,unused-ignore]

    return ["cpu", *(f"gpu:{d.id} {d.device_kind}" for d in jax.devices() if d.platform in ("gpu", "cuda"))]
