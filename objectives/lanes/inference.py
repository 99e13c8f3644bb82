"""Inference of all lanes in one compiled function, which gets the values of the lane's model."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any

import jax
import keras


class Inference:
    """Compiled functions of the models of one shape; each is compiled once for all lanes and trials."""

    def __init__(self) -> None:
        self._model: keras.Model | None = None
        self._lock = threading.Lock()
        self._tracing = threading.Lock()
        """Held while the model is traced, by one thread at a time."""
        self._forward: Callable[..., Any] | None = None
        self._states: Callable[..., Any] | None = None
        self._compilations: dict[Any, Future[None]] = {}
        """First calls, by what is compiled anew for them."""

    def begin(self, make: Callable[[], keras.Model]) -> None:
        """Make a model of the shape, at the first call, which no lane changes while it is traced."""
        with self._lock:
            if self._model is not None:
                return
            self._model = model = make()
            for layer in model._flatten_layers():
                if isinstance(layer, keras.layers.BatchNormalization):
                    # Moving statistics are then those of the batch, as `AveragedWeights` needs them.
                    layer.momentum = 0.0
            self._forward = jax.jit(lambda *given: model.stateless_call(*given, training=False)[0])
            self._states = jax.jit(lambda *given: model.stateless_call(*given, training=True)[1])

    def function(
        self,
        model: keras.Model,
        *,
        training: bool,
        wait: Callable[[Future[None]], None] = Future.result,
    ) -> Callable[..., Any]:
        """Return a function of a model's trained variables, its others, and inputs.

        It returns the outputs, or, in training, the other variables after it, whose moving statistics are those of the
        inputs. `wait` waits until it is compiled, which another thread does, and may raise before.
        """
        if self._model is None or _structure(model) != _structure(self._model):
            # One that is not trained, such as the model to be exported.
            other: Callable[..., Any] = jax.jit(
                lambda *given: model.stateless_call(*given, training=training)[int(training)]
            )
            return other
        function = self._states if training else self._forward
        assert function is not None

        def compute(*given: Any) -> Any:
            wait(self._compiled(function, training, given))
            return function(*given)

        return compute

    def _compiled(self, function: Callable[..., Any], training: bool, given: Sequence[Any]) -> Future[None]:
        """Return the future of the first call with inputs of this shape, which compiles the function, in a thread."""
        key = training, tuple((one.shape, str(one.dtype)) for one in jax.tree.leaves(given[-1]))
        with self._lock:
            if key in self._compilations:
                return self._compilations[key]
            found = self._compilations[key] = Future[None]()

        def compile_it() -> None:
            try:
                with self._tracing:
                    function(*given)
            except BaseException as exc:  # noqa: BLE001 - raised again in the lanes that wait
                with self._lock:
                    # There may be memory for a later one.
                    del self._compilations[key]
                found.set_exception(exc)
            else:
                found.set_result(None)

        threading.Thread(target=compile_it, name="compiler", daemon=True).start()
        return found


def _structure(model: keras.Model) -> Any:
    layers = [(type(one), one.dtype_policy.name) for one in model._flatten_layers(include_self=False)]
    return layers, [tuple(one.shape) for one in model.variables]
