"""The check of a Keras objective before its study is created: a model that can never train is refused at once."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.samplers import RandomSampler

from hpo.errors import ObjectiveBrokenError
from hpo.outcomes import Outcome
from hpo.process.listening_clock import ListeningClock
from hpo.search.starting.starting_points import known_good_parts
from hpo.trainer.ends.exits import SpawnFailed, TrainerExited
from hpo.trainer.messages import Finished, Start
from hpo.trainer.pool import TrainerPool
from objectives.base import Params
from objectives.description import Description
from objectives.spaces.space import is_active, parents_first

log = logging.getLogger(__name__)

WAIT_SECONDS = 0.2
MOST_SECONDS = 60.0
"""Time after which a check is given up: the first trial then shows the problem."""


def check_model(
    pool: TrainerPool,
    description: Description,
    space: Mapping[str, BaseDistribution],
    folder: Path,
    check: Callable[[], None],
) -> None:
    """Let a process of the pool build one model of the space, once the data are loaded.

    `folder` is that of logs; `check` is called a few times a second and may raise to end the wait.

    Raises:
        ObjectiveBrokenError: no model of this objective can train on its data.
        HpoError: as `TrainerPool.wait`.
    """
    wait_until_ready(pool, check)
    slot, output = 0, folder / f"check-{os.getpid()}.log"
    params = one_configuration(description, space)
    pool.start(slot, probe_start(pool, slot, description, params, output, checks=True))
    clock = ListeningClock()
    began_at = clock.now()
    try:
        while (ended := _end_of_check(pool, slot)) is None and clock.now() - began_at < MOST_SECONDS:
            check()
    finally:
        pool.kill(slot)
        output.unlink(missing_ok=True)
    if ended is not None and ended.outcome is Outcome.BUG:
        raise ObjectiveBrokenError(f"{description.name} cannot train: {ended.error}")
    log.debug(f"a model of {description.name} was built in {clock.now() - began_at:.2f} s before its study")


def one_configuration(description: Description, space: Mapping[str, BaseDistribution]) -> Params:
    """Return the first known good configuration, its parameters outside the space drawn at random, as all without."""
    params = dict(next(iter(known_good_parts(description.first, space)), {}))
    sampler = RandomSampler(seed=0)
    for name in parents_first(space):
        if name not in params and is_active(space, name, params):
            # Its random numbers need neither a study nor a trial.
            params[name] = sampler.sample_independent(None, None, name, space[name])  # type: ignore[arg-type]
    return {name: params[name] for name in space if name in params}


def wait_until_ready(pool: TrainerPool, check: Callable[[], None]) -> None:
    """Wait until the template of a pool has loaded everything.

    Raises:
        HpoError: as `TrainerPool.wait`.
    """
    while not pool.ready:
        check()
        pool.wait(WAIT_SECONDS)


def probe_start(
    pool: TrainerPool, slot: int, description: Description, params: Params, output: Path, **purpose: Any
) -> Start:
    """Return the message that has a configuration examined in a slot, of which nothing is kept."""
    return Start(
        params=params,
        seed=0,
        epochs=description.epochs,
        metric=description.metric,
        device=pool.devices[slot],
        checkpoints="",
        log=str(output),
        **purpose,
    )


def _end_of_check(pool: TrainerPool, slot: int) -> Finished | None:
    """Return the end of the process that checks; None if it has not ended yet."""
    for at, event in pool.wait(WAIT_SECONDS):
        if at == slot and isinstance(event, Finished):
            return event
        if at == slot and isinstance(event, TrainerExited | SpawnFailed):
            # Not a verdict on the model: the first trial meets the same, and is handled as any other.
            log.debug(f"the check of a model has ended without a result: {event}")
            return Finished(Outcome.LOST)
    return None
