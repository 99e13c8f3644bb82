"""Everything that differs between Keras' backends: threads, seeds, precision, graphs, errors, devices.

The backend is Keras' own choice: `KERAS_BACKEND` (tensorflow, jax or torch), tensorflow by default.
Importing this module imports no backend.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import platform
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from objectives.base import Device

if TYPE_CHECKING:
    import keras

_CPUINFO = Path("/proc/cpuinfo")
_BFLOAT16_FLAGS = frozenset({"avx512_bf16", "amx_bf16"})
"""Processor flags of instructions that multiply bfloat16; without one it is emulated, and slower."""
_BFLOAT16_CAPABILITY = 8.0
"""CUDA compute capability from which GPUs multiply bfloat16 (Ampere)."""

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
    return chosen()


def chosen() -> str:
    """The backend that importing Keras would choose in this environment."""
    return os.environ.get("KERAS_BACKEND") or _configured() or "tensorflow"


def before_import() -> None:
    """Settings that a backend reads while it is imported; what the user has set stays."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    # Several trials may share a GPU: none may take all of its memory at its start.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    # Keeps cuBLAS deterministic under torch.use_deterministic_algorithms; read when CUDA starts.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


def bind(device: Device) -> None:
    """Show this process only its device, and have JAX keep to its share of the GPU's memory.

    CUDA and XLA read these variables when they start, which a freshly forked trainer has not done yet.
    """
    # A slot of processor cores must not see a GPU, or its framework would take the GPU's memory.
    os.environ["CUDA_VISIBLE_DEVICES"] = "-1" if device.gpu is None else device.gpu
    if device.gpu_memory_fraction is not None:
        # The older of the two names, which all versions read; newer ones refuse to be given both.
        os.environ.pop("XLA_CLIENT_MEM_FRACTION", None)
        os.environ["XLA_PYTHON_CLIENT_MEM_FRACTION"] = f"{device.gpu_memory_fraction:.4f}"
        # Taken at once: only then does JAX document the share, and it is there when it is needed.
        os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "true"


def configure(device: Device, seed: int) -> None:
    """Bind this process to its device and seed all random numbers; call it before the first tensor.

    On a CPU results repeat to the last digit. On a GPU they are seeded but not bitwise repeatable:
    deterministic kernels cost much there, and some operations have none.
    """
    import keras

    bind(device)
    {"tensorflow": _configure_tensorflow, "torch": _configure_torch, "jax": _configure_jax}.get(
        name(), lambda _: None
    )(device)
    keras.utils.set_random_seed(seed % 2**32)


def precision(device: Device, capability: float | None = None) -> Literal["float32", "bfloat16"]:
    """What layers compute in on this device, as asked for, or bfloat16 where that is faster.

    On processors only TensorFlow was found to be faster in it. A GPU is asked for its compute capability
    where that is not given.
    """
    if device.precision != "auto":
        return device.precision
    if device.gpu is not None:
        known = _compute_capability() if capability is None else capability
        return "bfloat16" if known >= _BFLOAT16_CAPABILITY else "float32"
    return "bfloat16" if name() == "tensorflow" and _processor_flags() & _BFLOAT16_FLAGS else "float32"


Arrays = tuple[NDArray[Any], ...]
Steps = Callable[[Arrays], dict[str, float]]
"""Trains on k batches, arrays of k each, in their order; returns the model's metrics as of its last
`reset_metrics()`."""
Batch = Callable[..., tuple[Any, Any]]
"""Makes images and labels of a batch on the device, of what stands for it in each array."""


def training_steps(model: keras.Model, batch: Batch | None = None, resident: Sequence[Any] = ()) -> Steps:
    """How a compiled model takes several steps at a time: in one call where the backend can.

    The arrays are images (k, batch, height, width, channels) and labels (k, batch), or whatever `batch` makes
    both of, with what lies on the device as its first arguments.
    """
    if name() == "tensorflow":
        return _tensorflow_steps(model, None if batch is None else partial(batch, *resident))
    if batch is not None and name() == "jax":
        import jax  # type: ignore[import-not-found,unused-ignore]

        # What lies on the device is an argument: what a compiled function closes over becomes part of it.
        batch = jax.jit(batch)

    def steps(arrays: Arrays) -> dict[str, float]:
        # Keras resets no metrics here, and returns what they say of all batches so far.
        logs: dict[str, Any] = {}
        for parts in zip(*arrays, strict=True):
            images, labels = parts if batch is None else batch(*resident, *parts)
            logs = model.train_on_batch(images, labels, return_dict=True)
        return {key: float(value) for key, value in logs.items()}

    return steps


def forward(model: keras.Model) -> Callable[[NDArray[np.uint8]], NDArray[Any]]:
    """The model's inference as a compiled function of a batch."""
    if name() != "tensorflow":
        return model.predict_on_batch  # type: ignore[no-any-return,unused-ignore]
    import tensorflow as tf

    compiled = tf.function(lambda images: model(images, training=False), autograph=False)
    return lambda images: compiled(tf.constant(images)).numpy()


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
            if device.gpu_memory_bytes is None:
                tf.config.experimental.set_memory_growth(gpu, True)
            else:
                # Taken at once, and never exceeded: the slots beside this one keep theirs.
                limit = tf.config.LogicalDeviceConfiguration(memory_limit=device.gpu_memory_bytes // 2**20)
                tf.config.set_logical_device_configuration(gpu, [limit])


def _tensorflow_steps(model: keras.Model, batch: Batch | None) -> Steps:
    """A loop in one graph around the model's own `train_step`: no return to Python between batches."""
    import tensorflow as tf

    # Made here, for variables that are made inside a graph have it traced twice; metrics make theirs at first use.
    if not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)
    model.compute_metrics(None, tf.zeros([1], tf.int64), tf.zeros([1, *model.output_shape[1:]]))
    model.reset_metrics()

    def step(*parts: Any) -> None:
        model.train_step(parts if batch is None else batch(*parts))

    # XLA compiles the steps, where Keras says so, and not the loop, which would hold all batches in one program.
    compiled_step = tf.function(step, jit_compile=True, autograph=False) if model.jit_compile else step

    def loop(*arrays: Any) -> dict[str, Any]:
        def body(index: Any) -> Any:
            compiled_step(*(array[index] for array in arrays))
            return index + 1

        count = tf.shape(arrays[0])[0]
        tf.while_loop(lambda index: index < count, body, [tf.constant(0)], parallel_iterations=1)
        return dict(model.get_metrics_result())

    compiled: list[Any] = []

    def steps(arrays: Arrays) -> dict[str, float]:
        if not compiled:
            # One graph for any number of batches: traced by shape it would be made anew for the second.
            signature = [tf.TensorSpec([None, *array.shape[1:]], array.dtype) for array in arrays]
            compiled.append(tf.function(loop, input_signature=signature, autograph=False))
        logs = compiled[0](*(tf.constant(array) for array in arrays))
        return {key: float(value) for key, value in logs.items()}

    return steps


def _configure_torch(device: Device) -> None:
    import torch  # type: ignore[import-not-found,unused-ignore]

    torch.set_num_threads(device.threads)
    torch.use_deterministic_algorithms(device.gpu is None)
    if device.gpu_memory_fraction is not None and torch.cuda.is_available():
        torch.cuda.set_per_process_memory_fraction(device.gpu_memory_fraction)


def _configure_jax(device: Device) -> None:
    import jax  # type: ignore[import-not-found,unused-ignore]

    # Its threads have no setting: XLA takes one for each core that the trainer is pinned to.
    if device.gpu is None:
        jax.config.update("jax_platforms", "cpu")


def _configured() -> str | None:
    """The backend that keras.json names, where Keras looks for it."""
    with contextlib.suppress(OSError, ValueError, RuntimeError):
        home = Path.home() if os.access(Path.home(), os.W_OK) else Path("/tmp")
        folder = Path(os.environ.get("KERAS_HOME", home / ".keras")).expanduser()
        found = json.loads((folder / "keras.json").read_text(encoding="utf-8"))
        return str(found["backend"]) if isinstance(found, dict) and "backend" in found else None
    return None


def _processor_flags() -> frozenset[str]:
    """What Linux says the processor can do; empty elsewhere."""
    try:
        lines = _CPUINFO.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return frozenset()
    for line in lines:
        key, _, value = line.partition(":")
        if key.strip() == "flags":
            return frozenset(value.split())
    return frozenset()


def _compute_capability() -> float:
    """CUDA compute capability of the first GPU visible, as 8.0; 0 if there is none, or it is not CUDA's."""
    return {
        "tensorflow": _tensorflow_capability,
        "torch": _torch_capability,
        "jax": _jax_capability,
    }[name()]()


def _tensorflow_capability() -> float:
    import tensorflow as tf

    for gpu in tf.config.list_physical_devices("GPU"):
        major, minor = tf.config.experimental.get_device_details(gpu).get("compute_capability", (0, 0))
        return float(f"{major}.{minor}")
    return 0.0


def _torch_capability() -> float:
    import torch  # type: ignore[import-not-found,unused-ignore]

    return float("{}.{}".format(*torch.cuda.get_device_capability())) if torch.cuda.is_available() else 0.0


def _jax_capability() -> float:
    import jax  # type: ignore[import-not-found,unused-ignore]

    try:
        return float(jax.devices()[0].compute_capability)
    except (AttributeError, ValueError):
        return 0.0


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
