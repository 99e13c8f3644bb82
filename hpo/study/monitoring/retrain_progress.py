"""The progress of a retrain's candidates, which a file next to their checkpoints shows on this host."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from hpo import formatting
from hpo.files.atomic import atomic_write
from hpo.files.lock import is_locked
from hpo.formatting import JsonRow

log = logging.getLogger(__name__)

FILE = "progress.json"
CHOSEN = "selection.json"
"""File of the choice, which exists once all candidates have competed."""
FOLDERS = "candidates-*"


@dataclass(frozen=True, kw_only=True)
class RetrainProgress(JsonRow):
    """The candidates of `hpo retrain --top` that compete on this host, or did before it was interrupted."""

    running: bool
    """Whether a process trains them, or the final runs that follow; otherwise it was interrupted."""
    chosen: bool
    """Whether the winner is known, whose final runs follow."""
    candidates: int
    seeds: int
    runs: int
    """Runs that have to be trained, without those of dropped candidates."""
    ended: int
    dropped: Mapping[str, int]
    """Number of seeds after which a candidate was dropped, by its name."""

    def __str__(self) -> str:
        """Return the line of `hpo status`."""
        compete = f"{self.candidates} candidates, {self.ended} of {self.runs} runs"
        dropped = ", ".join(f"{name} after {count}" for name, count in self.dropped.items())
        lost = f"; dropped: {dropped} of {formatting.counted(self.seeds, 'seed')}" if dropped else ""
        if self.running:
            state = "final runs of the winner" if self.chosen else "running"
        else:
            state = "interrupted, the same hpo retrain continues"
        return f"{state}: {compete}{lost}"


def write(
    folder: Path, *, candidates: int, seeds: int, runs: int, ended: int, dropped: Mapping[str, int]
) -> None:
    """Write the progress to the candidates' folder; it is only shown, so that a failure is not one of the retrain."""
    values = {
        "candidates": candidates,
        "seeds": seeds,
        "runs": runs,
        "ended": ended,
        "dropped": dict(dropped),
    }
    try:
        with atomic_write(folder / FILE) as partial:
            partial.write_text(json.dumps(values))
    except OSError as exc:
        log.debug(f"the progress of candidates was not written: {exc}")


def read(checkpoints: Path) -> RetrainProgress | None:
    """Return the progress of the latest retrain in a study's folder of checkpoints; None if none competes."""
    found: list[tuple[float, Path]] = []
    for path in checkpoints.glob(f"{FOLDERS}/{FILE}"):
        with suppress(OSError):
            found.append((path.stat().st_mtime, path))
    for _, path in sorted(found, reverse=True):
        with suppress(OSError, ValueError, TypeError):
            values = json.loads(path.read_text())
            return RetrainProgress(
                running=is_locked(path.parent), chosen=(path.parent / CHOSEN).exists(), **values
            )
    return None
