"""TensorFlow: threads, GPU memory, and training steps in one graph."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from objectives.backend.base import Arrays, Backend, Batch, Steps
from objectives.device import Device

if TYPE_CHECKING:
    import keras


_CONTEXT = "tensorflow.python.eager.context"
_GROWTH = "TF_FORCE_GPU_ALLOW_GROWTH"
_INTRAOP = "TF_NUM_INTRAOP_THREADS"


class TensorFlow(Backend):
    """Trains a chunk of batches in one graph."""

    package = "tensorflow"
    gpu_installation = "pip install 'hpo-service[gpu]'"
    installation = "pip install tensorflow"
    variables = {"TF_CPP_MIN_LOG_LEVEL": "2"}
    bfloat16_on_cpu = True

    _share: float | None = None
    """Share of the GPU's memory where several slots use it."""
    _random_operations = 0
    """Number of random operations with a state of their own that were made since the first `seed(…, again=True)`."""

    @property
    def keeps_functions(self) -> bool:
        """Whether this version has the private parts that `seed(…, again=True)` uses."""
        with contextlib.suppress(ImportError, AttributeError):
            from tensorflow.python.eager import context
            from tensorflow.python.framework import random_seed

            return callable(random_seed.get_seed) and hasattr(context.context(), "_context_handle")
        return False

    def share_gpu(self, fraction: float | None, *, grows: bool = False) -> None:  # noqa: ARG002 - lanes need JAX
        self._set(_GROWTH, "true")
        if fraction is not None and self._share is None:
            import wrapt

            wrapt.register_post_import_hook(self._limit, _CONTEXT)
        self._share = fraction

    def _limit(self, module: Any) -> None:
        """Limit TensorFlow to the process's share of a GPU, unless the GPU is divided into logical devices.

        TensorFlow has no public setting of a share that leaves memory growth and logical devices to the objective.
        """
        with contextlib.suppress(AttributeError):
            unlimited = module.Context._compute_gpu_options

            def limited(context: Any) -> Any:
                options = unlimited(context)
                if self._share is not None and not options.experimental.virtual_devices:
                    options.per_process_gpu_memory_fraction = self._share
                return options

            module.Context._compute_gpu_options = limited

    def configure(self, device: Device) -> None:
        import tensorflow as tf

        # Refused once TensorFlow has computed in this process (a notebook, a test): its settings then stay.
        with contextlib.suppress(RuntimeError):
            if _INTRAOP not in os.environ:
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
                    # Allocated at once and never exceeded, so that the other slots of the GPU keep their share.
                    if _GROWTH in self._given:
                        os.environ.pop(_GROWTH, None)
                    limit = tf.config.LogicalDeviceConfiguration(
                        memory_limit=device.gpu_memory_bytes // 2**20
                    )
                    tf.config.set_logical_device_configuration(gpu, [limit])

    def seed(self, seed: int, *, again: bool = False) -> None:
        """Seed all random numbers; `again` leaves the compiled functions, which `tf.random.set_seed` would drop.

        It drops them with the kernels of all operations, some of which count the numbers that they have drawn. Keras'
        layers use no such operation; `drew_elsewhere` reports that other code has made one.
        """
        import keras

        if not again:
            keras.utils.set_random_seed(seed)
            return
        # TensorFlow has no public way to set a seed that leaves them.
        from tensorflow.python.eager.context import context

        self._watch_random_operations()
        found = context()
        handle = found._context_handle
        try:
            found._context_handle = None
            keras.utils.set_random_seed(seed)
        finally:
            found._context_handle = handle

    @property
    def drew_elsewhere(self) -> bool:
        return self._random_operations > 0

    def _watch_random_operations(self) -> None:
        """Count the random operations with a state of their own that are made: each asks for its seeds here."""
        from tensorflow.python.framework import random_seed

        given = random_seed.get_seed
        if getattr(given, "counts", None) is self:
            return

        def counted(op_seed: Any) -> Any:
            self._random_operations += 1
            return given(op_seed)

        counted.counts = self  # type: ignore[attr-defined]
        random_seed.get_seed = counted

    def gpu_names(self) -> list[str]:
        import tensorflow as tf

        details = map(tf.config.experimental.get_device_details, tf.config.list_physical_devices("GPU"))
        return [str(one.get("device_name", "GPU")) for one in details]

    def compute_capability(self) -> float:
        import tensorflow as tf

        for gpu in tf.config.list_physical_devices("GPU"):
            major, minor = tf.config.experimental.get_device_details(gpu).get("compute_capability", (0, 0))
            return float(f"{major}.{minor}")
        return 0.0

    def training_steps(
        self,
        model: keras.Model,
        targets: NDArray[Any],
        batch: Batch | None = None,
        resident: Sequence[Any] = (),
    ) -> Steps:
        """Return a loop in one graph around the model's own `train_step`: no return to Python between batches."""
        import tensorflow as tf

        # Built here, because variables created inside a graph make TensorFlow trace it twice; metrics create theirs
        # at first use.
        if not model.optimizer.built:
            model.optimizer.build(model.trainable_variables)
        target = tf.zeros([1, *targets.shape[1:]], targets.dtype)
        model.compute_metrics(None, target, tf.zeros([1, *model.output_shape[1:]]))
        model.reset_metrics()

        def step(*parts: Any) -> None:
            model.train_step(parts if batch is None else batch(*resident, *parts))

        # XLA compiles the steps where Keras enables it, but not the loop, which would hold all batches in one program.
        compiled_step = tf.function(step, jit_compile=True, autograph=False) if model.jit_compile else step

        def loop(*arrays: Any) -> dict[str, Any]:
            def body(index: Any) -> Any:
                compiled_step(*(array[index] for array in arrays))
                return [index + 1]

            count = tf.shape(arrays[0])[0]
            tf.while_loop(lambda index: index < count, body, [tf.constant(0)], parallel_iterations=1)
            return dict(model.get_metrics_result())

        compiled: list[Any] = []

        def steps(arrays: Arrays) -> dict[str, float]:
            if not compiled:
                # One graph for any number of batches; traced by shape, a second number would need a second graph.
                signature = [tf.TensorSpec([None, *array.shape[1:]], array.dtype) for array in arrays]
                compiled.append(tf.function(loop, input_signature=signature, autograph=False))
            logs = compiled[0](*(tf.constant(array) for array in arrays))
            return {key: float(value) for key, value in logs.items()}

        return steps

    def training_forward(self, model: keras.Model) -> Callable[[Any], None]:
        import keras
        import tensorflow as tf

        def call(inputs: Any) -> None:
            model(inputs, training=True)

        compiled = tf.function(call, autograph=False)
        return lambda inputs: compiled(keras.tree.map_structure(tf.constant, inputs))

    def forward(self, model: keras.Model) -> Callable[[Any], NDArray[Any]]:
        import keras
        import tensorflow as tf

        compiled = tf.function(lambda inputs: model(inputs, training=False), autograph=False)
        return lambda inputs: compiled(keras.tree.map_structure(tf.constant, inputs)).numpy()
