"""Optimizers that train a pretrained backbone later and more slowly than the layers on top of it."""

from __future__ import annotations

from typing import Any

import keras

from objectives.training.loop import NOT_DECAYED


class BackboneRate(keras.optimizers.Optimizer):  # type: ignore[misc]
    """Multiplies the learning rate of a backbone's variables: by 0 in the first steps, then by `rate`.

    Variables are never added to the trainable ones or taken from them, so that the optimizer's state has the same shape
    in every epoch, and the step count in it decides where a resumed run goes on.
    """

    head: str
    """Name of the layer that is not part of the backbone."""
    frozen_steps: int
    rate: float

    def build(self, variables: Any) -> None:
        if not self.built:
            kept = [one for one in variables if not self._is_of_head(one) or one.name in NOT_DECAYED]
            self.exclude_from_weight_decay(var_list=kept)
        super().build(variables)

    def _is_of_head(self, variable: Any) -> bool:
        return self.head in variable.path.split("/")

    def _backend_update_step(self, grads: Any, trainable_variables: Any, learning_rate: Any) -> None:
        pairs = list(zip(grads, trainable_variables, strict=True))
        factor = keras.ops.where(self.iterations < self.frozen_steps, 0.0, self.rate)
        for of_head, found_rate in ((True, learning_rate), (False, learning_rate * factor)):
            chosen = [pair for pair in pairs if self._is_of_head(pair[1]) is of_head]
            if chosen:
                super()._backend_update_step(*map(list, zip(*chosen, strict=True)), found_rate)


def slowed(
    optimizer: keras.optimizers.Optimizer, head: str, frozen_steps: int, rate: float
) -> keras.optimizers.Optimizer:
    """Return an optimizer as this one, with `BackboneRate`; the backbone has no weight decay."""
    kind = type(optimizer)
    made: Any = type(f"{kind.__name__}OfBackbone", (BackboneRate, kind), {})
    made = made.from_config(optimizer.get_config())
    made.head, made.frozen_steps, made.rate = head, frozen_steps, rate
    return made
