"""The lanes of a host's slots: `--lanes N`, or the number that trains fastest here, measured by one of its trainers."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from pathlib import Path

from hpo.agent.lanes import kept_speeds
from hpo.agent.model_check import WAIT_SECONDS, probe_start, wait_until_ready
from hpo.devices.slots import in_lanes
from hpo.options.hosts import AgentOptions
from hpo.outcomes import Outcome
from hpo.process.listening_clock import ListeningClock
from hpo.trainer.ends.exits import SpawnFailed, TrainerExited
from hpo.trainer.lanes.refusal import check_objective, obstacle
from hpo.trainer.limits import check_limits
from hpo.trainer.messages import Finished, LaneSpeed
from hpo.trainer.pool import TrainerPool
from hpo.trainer.template.messages import Load
from objectives.base import Params
from objectives.description import Description
from objectives.lanes.rates import MOST_LANES, Measured, best

log = logging.getLogger(__name__)

MOST_SECONDS = 300.0
"""Time after which the numbers of lanes that are measured by then have to do."""


@dataclass(frozen=True)
class LaneChoice:
    """The choice for an objective and a pool that is about to train it."""

    pool: TrainerPool
    load: Load
    options: AgentOptions
    description: Description
    home: Path

    def apply(
        self,
        params: Callable[[], Params],
        trials: int,
        check: Callable[[], None],
        *,
        in_rounds: bool = False,
    ) -> None:
        """Divide the slots of the pool into lanes if `--lanes auto` is given, as many as train `trials` fastest.

        `params` returns the configuration that is measured; `check` is called a few times a second and may raise to end
        the wait. With `in_rounds`, all trials take equally long, so that lanes which are empty in the last round count.

        Raises:
            UsageError: lanes are asked for by a number, and the objective cannot train in them.
            HpoError: as `TrainerPool.wait`.
        """
        check_objective(self.options, self.description)
        if self.options.slots.lanes != "auto":
            return
        if (reason := obstacle(self.options, self.description)) is not None:
            _log_alone(reason)
            return
        devices = self.pool.devices
        share = max(math.ceil(trials / max(len(devices), 1)), 1)
        most, trials_each = min(share, MOST_LANES), share if in_rounds else None
        if most == 1:
            _log_alone("no slot has more than one to train")
            return
        lanes = self._fastest(params(), most, trials_each, check)
        if lanes > 1:
            slots = in_lanes(devices, lanes)[:trials]
            check_limits(len(slots))
            self.pool.devices = slots

    def _fastest(self, params: Params, most: int, trials: int | None, check: Callable[[], None]) -> int:
        # Slots that share a GPU may have different parts of it.
        devices = self.pool.devices
        slot = min(range(len(devices)), key=lambda one: devices[one].gpu_usable_bytes or math.inf)
        about = kept_speeds.about(self.load, self.description.code, params, devices[slot])
        kept = kept_speeds.find(self.home, about, most)
        if kept is not None:
            lanes = best(kept.speeds, trials)
            log.info(
                f"--lanes auto: {_counted(lanes)} ({kept_speeds.text(kept.speeds)}, measured {kept.measured_at[:10]})"
            )
            return lanes
        speeds, end = self._measured(slot, params, most, check)
        if not speeds:
            _log_alone(end.reason)
            return 1
        lanes, found = best(speeds, trials), kept_speeds.text(speeds)
        if end.repeats:
            kept_speeds.keep(self.home, about, most, speeds)
        else:
            found += f"; no more of them are known: {end.reason}"
        log.info(f"--lanes auto: {_counted(lanes)} ({found})")
        return lanes

    def _measured(
        self, slot: int, params: Params, most: int, check: Callable[[], None]
    ) -> tuple[list[Measured], _End]:
        """Return the speeds that a trainer measures, none if it failed at once, and why it measured no more."""
        wait_until_ready(self.pool, check)
        limit = f"{MOST_SECONDS / 60:g} minutes"
        log.info(
            f"--lanes auto: measuring how many trials of {self.description.name} train fastest at once, for up to"
            f" {limit}"
        )
        output = self.home / "logs" / f"lanes-{os.getpid()}.log"
        start = probe_start(self.pool, slot, self.description, params, output, most_lanes=most)
        found: list[Measured] = []
        ended: _End | None = None
        self.pool.start(slot, start)
        clock = ListeningClock()
        end = clock.now() + MOST_SECONDS
        try:
            while (ended := self._receive(slot, found)) is None and clock.now() < end:
                check()
        finally:
            self.pool.kill(slot)
            output.unlink(missing_ok=True)
        late = _End(f"its time, {limit}, was over: give --lanes N to choose yourself", repeats=False)
        return found, ended or late

    def _receive(self, slot: int, found: list[Measured]) -> _End | None:
        """Add the speeds that have been measured; return why no further ones follow, None if some may."""
        for at, event in self.pool.wait(WAIT_SECONDS):
            if at != slot:
                continue
            match event:
                case LaneSpeed(lanes, speed):
                    found.append(Measured(lanes, speed))
                case Finished(Outcome.INFEASIBLE, error):
                    return _End(error, repeats=True)
                case Finished(outcome, error):
                    repeats = outcome in (Outcome.COMPLETE, Outcome.OUT_OF_MEMORY)
                    return _End(f"the measurement failed: {error}", repeats=repeats)
                case TrainerExited() | SpawnFailed():
                    repeats = isinstance(event, TrainerExited) and event.out_of_memory
                    return _End(f"the process that measured has ended: {event.reason}", repeats=repeats)
        return None


@dataclass(frozen=True)
class _End:
    """The end of a measurement."""

    reason: str
    """Why it measured no more lanes."""
    _: KW_ONLY
    repeats: bool
    """Whether another measurement would end there too, so that its speeds are kept."""


def _counted(lanes: int) -> str:
    return "one trial a process" if lanes == 1 else f"{lanes} trials a process"


def _log_alone(reason: str) -> None:
    log.info(f"--lanes auto: {_counted(1)}, because {reason}")
