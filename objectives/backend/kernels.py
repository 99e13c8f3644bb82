"""TensorFlow kernels that Keras does not use, and sums arranged so that its fast kernels can compute them.

Call the functions only if `available()`, but for `dropout`, which JAX has too. `docs/explanation/performance.md` has
the measured speed-ups and processors. Importing this module imports no backend.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from objectives.backend import interface

if TYPE_CHECKING:
    import keras

_LEVELS = 1 << 16
"""Number of values of 16 random bits."""
PATCHES_UP_TO = 4
"""Largest height and width of a convolution's output whose filter gradient is computed from patches."""


def available() -> bool:
    """Return whether the functions of this module may be called."""
    return interface.name() == "tensorflow"


def normalized(x: Any, gamma: Any, beta: Any, mean: Any, variance: Any, epsilon: float) -> Any:
    """Return (x - mean) / sqrt(variance + epsilon) * gamma + beta per channel of (n, height, width, channels)."""
    import tensorflow as tf

    parameters = [tf.cast(value, tf.float32) for value in (gamma, beta, mean, variance)]
    return tf.raw_ops.FusedBatchNormV3(
        x=x,
        scale=parameters[0],
        offset=parameters[1],
        mean=parameters[2],
        variance=parameters[3],
        epsilon=epsilon,
        is_training=False,
    )[0]


def batch_normalized(x: Any, gamma: Any, beta: Any, epsilon: float) -> tuple[Any, Any, Any]:
    """Return `normalized` with the batch's own statistics, its mean and its population variance."""
    import tensorflow as tf

    unused = tf.zeros([0])
    outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
        x=x,
        scale=tf.cast(gamma, tf.float32),
        offset=tf.cast(beta, tf.float32),
        mean=unused,
        variance=unused,
        epsilon=epsilon,
        exponential_avg_factor=1.0,
        is_training=True,
    )
    # The kernel divides by n - 1, Keras by n.
    size = x.shape.num_elements() or tf.cast(tf.size(x), tf.float32)
    count = size / x.shape[-1]
    return outputs, mean, variance * ((count - 1) / count)


def dropout_inputs(rate: float) -> tuple[float, float]:
    """Return the number of levels of 65,536 that a dropout rate drops, and the scale of the other elements."""
    dropped = min(round(rate * _LEVELS), _LEVELS - 1)
    return float(dropped), _LEVELS / (_LEVELS - dropped)


def dropout(x: Any, dropped: Any, scale: Any, seeds: keras.random.SeedGenerator) -> Any:
    """Zero a share of the elements, and scale up the rest, given `dropout_inputs` as scalars; also on JAX."""
    if interface.name() == "jax":
        return _jax_dropout(x, dropped, scale, seeds)
    import tensorflow as tf

    size, shape = (
        (x.shape.num_elements(), x.shape) if x.shape.is_fully_defined() else (tf.size(x), tf.shape(x))
    )
    draws = tf.random.stateless_uniform(
        [(size + 1) // 2], tf.cast(seeds.next(), tf.int32), minval=None, maxval=None, dtype=tf.uint32
    )
    bits = tf.reshape(tf.reshape(tf.bitcast(draws, tf.uint16), [-1])[:size], shape)
    # Through a signed type: no kernel casts a float to 16 bits without a sign.
    kept = bits >= tf.cast(tf.cast(dropped, tf.int32), tf.uint16)
    return tf.where(kept, x * tf.cast(scale, x.dtype), tf.zeros([], x.dtype))


def _jax_dropout(x: Any, dropped: Any, scale: Any, seeds: keras.random.SeedGenerator) -> Any:
    import jax
    from jax.extend.random import threefry_2x32

    # `jax.random.bits` computes 64 bits for each number of 16.
    words = threefry_2x32(seeds.next(), jax.numpy.arange((x.size + 1) // 2, dtype="uint32"))
    bits = jax.lax.bitcast_convert_type(words, "uint16").reshape(-1)[: x.size].reshape(x.shape)
    # Compared as floats, which hold all levels exactly: the numbers may be constants or arguments of the step.
    kept = bits.astype("float32") >= dropped
    scaled = x * jax.numpy.asarray(scale, x.dtype)
    return jax.numpy.where(kept, scaled, jax.numpy.zeros([], x.dtype))


def takes_patches(x: Any, kernel: Any, stride: int) -> bool:
    """Return whether `convolution` applies to this input and kernel, and is faster than Keras' own.

    oneDNN sums the gradient of a bfloat16 filter along the rows of the output; rows of four pixels and fewer
    leave most of each of its instructions empty. GPUs have their own kernels for these.
    """
    import tensorflow as tf

    height, width = x.shape[1:3]
    return (
        x.dtype == "bfloat16"
        and tuple(kernel.shape[:2]) == (3, 3)
        and x.shape[-1] == kernel.shape[2]
        and x.shape[-1] % 2 == 0
        and stride in (1, 2)
        and None not in (height, width)
        and height % stride == width % stride == 0
        and max(height, width) <= PATCHES_UP_TO * stride
        and not tf.config.get_visible_devices("GPU")
    )


def convolution(x: Any, kernel: Any, stride: int) -> Any:
    """Return a 3×3 convolution with zero padding ("same") whose filter gradient is one matrix product.

    The gradient sums, over all pixels of the output, the product of the input around the pixel (nine pixels
    of all channels) and the pixel's own gradient: (pixels, 9 × channels)ᵀ times (pixels, filters).
    """
    import tensorflow as tf

    steps = [1, stride, stride, 1]

    @tf.custom_gradient  # type: ignore[untyped-decorator,unused-ignore]
    def convolved(x: Any, kernel: Any) -> tuple[Any, Any]:
        def gradients(upstream: Any) -> tuple[Any, Any]:
            to_input = tf.raw_ops.Conv2DBackpropInput(
                input_sizes=tf.shape(x), filter=kernel, out_backprop=upstream, strides=steps, padding="SAME"
            )
            pixels = tf.reshape(upstream, [-1, kernel.shape[3]])
            patches = tf.reshape(_patches(x, stride), [-1, 9 * kernel.shape[2]])
            return to_input, tf.reshape(tf.matmul(patches, pixels, transpose_a=True), kernel.shape)

        return tf.nn.conv2d(x, kernel, steps, "SAME"), gradients

    return convolved(x, kernel)


def _patches(x: Any, stride: int) -> Any:
    """Return the nine pixels of the input around each pixel of the output: (n, height, width, 9 × channels).

    Two bfloat16 are copied as one float32, and a stride is an axis of which one index is taken, not a strided
    slice: TensorFlow copies both ten times as fast.
    """
    import tensorflow as tf

    _, height, width, channels = x.shape
    pairs = tf.bitcast(tf.reshape(x, [-1, height, width, channels // 2, 2]), tf.float32)
    # "same" pads one pixel on each side, or two at the end with stride 2 and an even size.
    margin = [1, 1] if stride == 1 else [0, stride]
    padded = tf.pad(pairs, [[0, 0], margin, margin, [0, 0]])
    rows, columns = (height + 2) // stride, (width + 2) // stride
    strided = tf.reshape(padded, [-1, rows, stride, columns, stride, channels // 2])
    down, right = height // stride, width // stride
    nine = [
        strided[
            :, i // stride : i // stride + down, i % stride, j // stride : j // stride + right, j % stride
        ]
        for i in range(3)
        for j in range(3)
    ]
    moved = tf.concat(nine, -1)
    return tf.bitcast(tf.reshape(moved, [-1, down, right, 9 * channels // 2, 1]), tf.bfloat16)


def can_apply(gradient: Any, variable: Any) -> bool:
    """Return whether `apply_adam` and `apply_momentum` take this gradient: dense, of a float32 variable."""
    import tensorflow as tf

    return isinstance(gradient, tf.Tensor) and gradient.dtype == variable.dtype == tf.float32


def adam_step(step: Any, beta_1: float, beta_2: float, epsilon: float) -> dict[str, Any]:
    """Return the values that all variables share in one step of Adam; `step` counts from 1."""
    import tensorflow as tf

    first, second = tf.constant(beta_1, tf.float32), tf.constant(beta_2, tf.float32)
    exponent = tf.cast(step, tf.float32)
    return {
        "beta1_power": first**exponent,
        "beta2_power": second**exponent,
        "beta1": first,
        "beta2": second,
        "epsilon": tf.constant(epsilon, tf.float32),
    }


def apply_adam(
    variable: Any, moments: tuple[Any, Any], gradient: Any, learning_rate: Any, step: dict[str, Any]
) -> None:
    """Apply one step of Adam, given `adam_step`, to the variable and both its moments."""
    import tensorflow as tf

    tf.raw_ops.ResourceApplyAdam(
        var=variable.handle,
        m=moments[0].value.handle,
        v=moments[1].value.handle,
        lr=learning_rate,
        grad=gradient,
        **step,
    )


def apply_momentum(
    variable: Any, velocity: Any, gradient: Any, learning_rate: Any, momentum: float, nesterov: bool
) -> None:
    """Apply one step of gradient descent with momentum to the variable and its velocity."""
    import tensorflow as tf

    tf.raw_ops.ResourceApplyKerasMomentum(
        var=variable.handle,
        accum=velocity.value.handle,
        lr=learning_rate,
        grad=gradient,
        momentum=momentum,
        use_nesterov=nesterov,
    )
