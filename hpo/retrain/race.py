"""The runs of candidates that their race needs."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from hpo.export.config import Config
from hpo.retrain.racing import FAILED, Standing, standing_of
from hpo.retrain.results import judged_report
from hpo.retrain.seed_run import Needs, SeedRun
from hpo.retrain.selection_text import drop_text, named
from hpo.study.monitoring import retrain_progress

log = logging.getLogger(__name__)


class Race(Needs):
    """The runs that the race among candidates needs; it logs each drop."""

    def __init__(
        self,
        configs: Sequence[Config],
        runs: Sequence[Sequence[SeedRun]],
        control: int | None,
        folder: Path,
        *,
        drops: bool = True,
    ) -> None:
        """`runs` are those of each configuration, in the order of the seeds; unless it `drops`, it needs all.

        Its progress is written to `folder`.
        """
        self._configs, self._runs, self._control = configs, runs, control
        self._folder, self._drops = folder, drops
        self._place = {
            id(run): (candidate, seed) for candidate, row in enumerate(runs) for seed, run in enumerate(row)
        }
        self._ended = -1
        self.standing = Standing()

    @property
    def note(self) -> str:
        dropped = [f"{name} after {seeds}" for name, seeds in self._dropped.items()]
        return f"dropped, by seeds trained: {', '.join(dropped)}" if dropped else ""

    @property
    def _dropped(self) -> dict[str, int]:
        return {named(self._configs[index].trial): drop.seeds for index, drop in self.standing.drops.items()}

    def includes(self, run: SeedRun) -> bool:
        ended = sum(run.ended for row in self._runs for run in row)
        if ended != self._ended:
            self._ended = ended
            if self._drops:
                self._judge()
            self._write()
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

    def _write(self) -> None:
        needed = [
            run
            for candidate, row in enumerate(self._runs)
            for seed, run in enumerate(row)
            if run.ended or self.standing.needs(candidate, seed)
        ]
        retrain_progress.write(
            self._folder,
            candidates=len(self._configs),
            seeds=len(self._runs[0]),
            runs=len(needed),
            ended=self._ended,
            dropped=self._dropped,
        )


def value_of(config: Config, run: SeedRun) -> float | None:
    """Return the value of a run, `FAILED` if it ended without one; None if it has not ended."""
    if not run.ended:
        return None
    found = judged_report(config, run.history) if run.result else None
    return found.value if found is not None and math.isfinite(found.value) else FAILED
