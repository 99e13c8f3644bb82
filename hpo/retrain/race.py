"""The runs of candidates that their race needs."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import asdict

from hpo.export.config import Config
from hpo.retrain.racing import FAILED, Standing, standing_of
from hpo.retrain.results import judged_report
from hpo.retrain.seed_run import Needs, SeedRun
from hpo.retrain.selection_text import drop_text, named

log = logging.getLogger(__name__)


class Race(Needs):
    """The runs that the race among candidates needs; it logs each drop."""

    def __init__(
        self, configs: Sequence[Config], runs: Sequence[Sequence[SeedRun]], control: int | None
    ) -> None:
        """`runs` are those of each configuration, in the order of the seeds."""
        self._configs, self._runs, self._control = configs, runs, control
        self._place = {
            id(run): (candidate, seed) for candidate, row in enumerate(runs) for seed, run in enumerate(row)
        }
        self._ended = 0
        self.standing = Standing()

    @property
    def note(self) -> str:
        drops = self.standing.drops
        dropped = (f"{named(self._configs[index].trial)} after {drop.seeds}" for index, drop in drops.items())
        return f"dropped, by seeds trained: {', '.join(dropped)}" if drops else ""

    def includes(self, run: SeedRun) -> bool:
        ended = sum(run.ended for row in self._runs for run in row)
        if ended != self._ended:
            self._ended = ended
            self._judge()
        return self.standing.needs(*self._place[id(run)])

    def _judge(self) -> None:
        values = [
            [value_of(config, run) for run in row]
            for config, row in zip(self._configs, self._runs, strict=True)
        ]
        before = self.standing.drops
        maximize = self._configs[0].direction == "maximize"
        self.standing = standing_of(values, self._control, maximize=maximize)
        for index, drop in self.standing.drops.items():
            if index not in before:
                shown = drop_text({**asdict(drop), "of": len(self._runs[index])})
                log.info(f"{named(self._configs[index].trial)} is {shown}")
        for index in before.keys() - self.standing.drops.keys():
            log.info(f"{named(self._configs[index].trial)} competes again, because the leader has failed")


def value_of(config: Config, run: SeedRun) -> float | None:
    """Return the value of a run, `FAILED` if it ended without one; None if it has not ended."""
    if not run.ended:
        return None
    found = judged_report(config, run.history) if run.result else None
    return found.value if found is not None and math.isfinite(found.value) else FAILED
