"""An initializer of convolutions that pass their inputs through."""

from __future__ import annotations

from typing import Any

import keras


class Dirac(keras.initializers.Initializer):  # type: ignore[misc]
    """Kernels (height, width, inputs, outputs) whose first outputs are the inputs; the others are those of `rest`.

    Output i < min(inputs, outputs) is input i, unchanged, in the centre of the kernel. Zagoruyko and Komodakis,
    "DiracNets: Training very deep neural networks without skip-connections" (2017). An exported model has `rest` in its
    place, which plain Keras loads.
    """

    def __init__(self, rest: str | dict[str, Any] | keras.initializers.Initializer = "he_normal") -> None:
        self.rest = keras.initializers.get(rest)

    def __call__(self, shape: Any, dtype: Any = None) -> Any:
        """Return a kernel.

        Raises:
            ValueError: the shape is not that of a convolution's kernel.
        """
        *window, inputs, outputs = shape
        if not window:
            raise ValueError(
                f"Dirac initializes convolutions, and this kernel has the shape {tuple(shape)}: use another initializer"
            )
        ops, through = keras.ops, min(inputs, outputs)
        identity = ops.eye(inputs, through, dtype=dtype)
        for size in reversed(window):
            centre = (size - 1) // 2
            identity = ops.pad(identity[None], ((centre, size - 1 - centre), *[(0, 0)] * len(identity.shape)))
        if through == outputs:
            return identity
        return ops.concatenate([identity, self.rest(shape, dtype=dtype)[..., through:]], axis=-1)

    def get_config(self) -> dict[str, Any]:
        return {"rest": keras.initializers.serialize(self.rest)}


def without_dirac(model: keras.Model) -> None:
    """Let the layers of a trained model name stock initializers, which plain Keras knows; weights stay."""
    for layer in model._flatten_layers():
        for name, value in [*vars(layer).items()]:
            if isinstance(value, Dirac):
                setattr(layer, name, value.rest)
