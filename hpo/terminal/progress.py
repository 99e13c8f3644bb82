"""What a running launch shows: a live view on a terminal, else one line a finished trial."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TextIO, cast

from hpo import formatting
from hpo.terminal.stream import Terminal
from storage.budget import Counts


@dataclass(frozen=True)
class SlotView:
    """One line of the live view."""

    device: str
    trial: int | None
    epoch: int = 0
    epochs: int = 0
    fraction: float = 0.0
    """Of the current epoch."""
    value: float | None = None
    """The objective's metric after the last epoch."""
    images_per_second: float | None = None
    note: str = ""


@dataclass(frozen=True)
class View:
    """All that is shown of a running study."""

    study: str
    metric: str
    counts: Counts
    best: tuple[int, float, Mapping[str, Any]] | None
    slots: Sequence[SlotView]
    elapsed_seconds: float
    eta_seconds: float | None
    note: str = ""


@dataclass(frozen=True)
class TrialEnd:
    """A trial that ended on this host."""

    number: int
    outcome: str
    value: float | None
    epochs: int
    seconds: float
    params: Mapping[str, Any]
    error: str = ""


class Progress(Protocol):
    """Where an agent shows what it does."""

    def update(self, view: View) -> None:
        """Show the state of things; called several times a second."""

    def trial_ended(self, trial: TrialEnd, counts: Counts | None) -> None:
        """A trial of this host has ended."""

    def say(self, message: str) -> None:
        """Something the user should read."""

    def close(self) -> None:
        """Leave the terminal as it was."""


def open_progress(stream: TextIO | None = None) -> Progress:
    """The live view where `stream` (default: stdout) is a terminal, plain lines elsewhere."""
    target = stream or sys.stdout
    return LiveProgress(target) if target.isatty() else PlainProgress(target)


class PlainProgress:
    """One line a finished trial: greps well, and fills no log with redrawn screens."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def update(self, view: View) -> None:
        """Nothing: only what has ended is worth a line."""

    def trial_ended(self, trial: TrialEnd, counts: Counts | None) -> None:
        done = f" [{counts.finished}/{counts.budget}]" if counts else ""
        value = "" if trial.value is None else f" value={trial.value:.4f}"
        error = f" ({trial.error})" if trial.error else ""
        self.say(
            f"trial {trial.number} {trial.outcome}{value} epochs={trial.epochs}"
            f" seconds={trial.seconds:.1f} {formatting.parameters(trial.params)}{error}{done}"
        )

    def say(self, message: str) -> None:
        print(message, file=self._stream, flush=True)

    def close(self) -> None:
        """Nothing to restore."""


class LiveProgress:
    """A view redrawn in place with rich."""

    def __init__(self, stream: TextIO) -> None:
        from rich.console import Console
        from rich.live import Live

        self._console = Console(file=cast(TextIO, Terminal(stream)))
        self._live = Live(console=self._console, auto_refresh=False, transient=True)
        self._live.start()
        self._drawn = 0.0

    def update(self, view: View) -> None:
        now = time.monotonic()
        if now - self._drawn < 0.2:
            return
        self._drawn = now
        self._live.update(_draw(view), refresh=True)

    def trial_ended(self, trial: TrialEnd, counts: Counts | None) -> None:  # noqa: ARG002 - the view counts
        from rich.text import Text

        style = {"complete": "green", "pruned": "yellow"}.get(trial.outcome, "red")
        value = "" if trial.value is None else f" {trial.value:.4f}"
        error = f" ({trial.error})" if trial.error else ""
        # Not as markup: parameters and errors are the objective's own words, brackets included.
        line = Text.assemble(
            f"trial {trial.number} ",
            (trial.outcome, style),
            f"{value} after {trial.epochs} epochs, {trial.seconds:.1f} s: "
            f"{formatting.parameters(trial.params)}{error}",
        )
        self._console.print(line, highlight=False)

    def say(self, message: str) -> None:
        self._console.print(message, highlight=False, markup=False)

    def close(self) -> None:
        self._live.stop()


def _draw(view: View) -> Any:
    from rich.console import Group
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    counts = view.counts
    head = Table.grid(padding=(0, 1))
    eta = "" if view.eta_seconds is None else f", about {formatting.duration(view.eta_seconds)} left"
    # Where a line is too short for all of it, the study's name is what is cut.
    head.add_column(no_wrap=False)
    for _ in range(3):
        head.add_column(no_wrap=True)
    head.add_row(
        Text(view.study, style="bold", no_wrap=True, overflow="ellipsis"),
        ProgressBar(total=max(counts.budget, 1), completed=counts.finished, width=20),
        Text(f"{counts.finished}/{counts.budget} trials"),
        Text(f"{formatting.duration(view.elapsed_seconds)}{eta}"),
    )
    outcomes = Text(f"{counts.pruned} pruned, {counts.failed} failed, {counts.running} running")
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for name in ("slot", "device", "trial", "epoch", view.metric, "images/s"):
        table.add_column(Text(name), justify="left" if name in ("slot", "device") else "right")
    for index, slot in enumerate(view.slots):
        if slot.trial is None:
            table.add_row(str(index), Text(slot.device), Text(slot.note or "idle", style="dim"))
            continue
        within = f" {slot.fraction:.0%}" if slot.fraction else ""
        table.add_row(
            str(index),
            Text(slot.device),
            str(slot.trial),
            f"{slot.epoch}/{slot.epochs}{within}",
            "-" if slot.value is None else f"{slot.value:.4f}",
            "-" if slot.images_per_second is None else f"{slot.images_per_second:,.0f}",
        )
    lines: list[Any] = [head, outcomes, table]
    if view.best is not None:
        number, value, params = view.best
        lines.append(
            Text(f"best: {value:.4f} in trial {number}: {formatting.parameters(params)}", style="green")
        )
    if view.note:
        lines.append(Text(view.note, style="yellow"))
    return Group(*lines)
