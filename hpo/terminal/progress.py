"""Progress of a running study: a live view at a terminal, else one log line for each trial that ends."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TextIO, cast

from hpo import formatting
from hpo.terminal import log
from hpo.terminal.columns import wrapped
from hpo.terminal.safe_output import safe_console
from hpo.terminal.stream import TerminalStream
from hpo.terminal.trial_lines import TrialEnd, trial_line
from storage.budget import Counts

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class SlotView:
    """One slot in the live view."""

    device: str
    run: str | None = None
    """Number of its trial, or name of its seed run."""
    epoch: int = 0
    epochs: int | None = 0
    """Epochs of its run; None: only the objective knows."""
    fraction: float = 0.0
    """Completed fraction of the current epoch."""
    value: float | None = None
    """Value of the objective's metric after the last epoch."""
    images_per_second: float | None = None
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class View:
    """Contents of the live view."""

    study: str
    unit: Literal["trial", "run"] = "trial"
    """Kind of work that is counted and that slots train."""
    metric: str
    counts: Counts
    best: tuple[int, float, Mapping[str, Any]] | None = None
    slots: Sequence[SlotView]
    elapsed_seconds: float
    eta_seconds: float | None = None
    note: str = ""


class Progress(Protocol):
    """Display of a running command."""

    def update(self, view: View) -> None:
        """Show the current state; called several times a second."""

    def trial_ended(self, trial: TrialEnd, counts: Counts | None) -> None:
        """Show a trial that ended."""

    def close(self) -> None:
        """Restore the terminal."""


def open_progress() -> Progress:
    """Open the live view where standard output is a terminal, else log each trial that ends."""
    if _openers:
        return _openers[-1]()
    return LiveProgress(sys.stdout) if log.shows_view() else PlainProgress()


_openers: list[Callable[[], Progress]] = []


@contextmanager
def progress_by(opener: Callable[[], Progress]) -> Iterator[None]:
    """Open the progress of commands within this block with `opener`."""
    _openers.append(opener)
    try:
        yield
    finally:
        _openers.pop()


class PlainProgress:
    """One log line for each trial that ends, and no redrawn screens."""

    def update(self, view: View) -> None:
        """Do nothing: there is no view."""

    def trial_ended(self, trial: TrialEnd, counts: Counts | None) -> None:
        done = f" [{counts.finished}/{counts.budget}]" if counts else ""
        value = "" if trial.value is None else f" value={formatting.metric(trial.value)}"
        error = f" ({trial.error})" if trial.error else ""
        fields = {
            "message": "trial ended",
            "outcome": trial.outcome,
            "value": trial.value,
            "epochs": trial.epochs,
            "seconds": round(trial.seconds, 3),
            "params": dict(trial.params),
            "error": trial.error,
            "new_best": trial.new_best,
        }
        if counts:
            fields |= {"finished": counts.finished, "budget": counts.budget}
        logger.info(
            f"{trial.outcome}{value} epochs={trial.epochs} seconds={trial.seconds:.1f}"
            f" {formatting.parameters(trial.params)}{error}{done}{' new best' if trial.new_best else ''}",
            extra={"trial": trial.number, "attempt": trial.attempt_id, "fields": fields},
        )

    def close(self) -> None:
        """Do nothing: there is no terminal to restore."""


class LiveProgress:
    """A view that rich redraws in place."""

    def __init__(self, stream: TextIO) -> None:
        from rich.live import Live

        self._console = safe_console(cast(TextIO, TerminalStream(stream)))
        self._live = Live(console=self._console, auto_refresh=False, transient=True)
        self._live.start()
        self._drawn_at = 0.0
        self._log_lines = log.lines_to(self._print_line)
        self._log_lines.__enter__()

    def update(self, view: View) -> None:
        now = time.monotonic()
        if now - self._drawn_at < 0.2:
            return
        self._drawn_at = now
        self._live.update(draw(view), refresh=True)

    def trial_ended(self, trial: TrialEnd, counts: Counts | None) -> None:  # noqa: ARG002 - the view counts
        self._console.print(trial_line(trial, self._console.width), highlight=False, soft_wrap=True)

    def _print_line(self, line: str) -> None:
        # A long path stays one word for the terminal, and can be copied.
        self._console.print(wrapped(line, self._console.width), highlight=False, markup=False, soft_wrap=True)

    def close(self) -> None:
        self._log_lines.__exit__(None, None, None)
        self._live.stop()


def draw(view: View) -> Any:
    """Return the view for a console of rich."""
    from rich.console import Group
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    counts = view.counts
    head = Table.grid(padding=(0, 1))
    eta = "" if view.eta_seconds is None else f", about {formatting.duration(view.eta_seconds)} left"
    # In a narrow terminal the study's name and the bar get shorter.
    head.add_column()
    head.add_column(max_width=20)
    for _ in range(2):
        head.add_column(no_wrap=True)
    head.add_row(
        Text(view.study, style="bold", no_wrap=True, overflow="ellipsis"),
        ProgressBar(total=max(counts.budget, 1), completed=counts.finished),
        Text(f"{counts.finished}/{counts.budget} {view.unit}s"),
        Text(f"{formatting.duration(view.elapsed_seconds)}{eta}"),
    )
    prepared = f", {counts.prepared} prepared" if counts.prepared else ""
    paused = f", {counts.paused} paused" if counts.paused else ""
    rejected = f"{counts.rejected} rejected, " if counts.rejected else ""
    ended = f"{counts.cut_short}, {counts.failed} failed, {rejected}" if view.unit == "trial" else ""
    outcomes = Text(f"{ended}{counts.running} running{prepared}{paused}")
    lines: list[Any] = [head, outcomes, _slots(view)]
    if view.best is not None:
        number, value, params = view.best
        lines.append(
            Text(
                f"best: {formatting.metric(value)} in trial {number}: {formatting.parameters(params)}",
                style="green",
            )
        )
    if view.note:
        lines.append(Text(view.note, style="yellow"))
    return Group(*lines)


def _slots(view: View) -> Any:
    """Return the table of slots; in a narrow terminal names of devices end in an ellipsis, and numbers stay whole."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for name in ("slot", "device", view.unit, "epoch", view.metric, "images/s"):
        left = name in ("slot", "device")
        table.add_column(Text(name), justify="left" if left else "right", no_wrap=name != "device")
    for index, slot in enumerate(view.slots):
        if slot.run is None:
            table.add_row(str(index), Text.assemble(slot.device, "  ", (slot.note or "idle", "dim")))
            continue
        within = f" {slot.fraction:.0%}" if slot.fraction else ""
        table.add_row(
            str(index),
            Text(slot.device, no_wrap=True, overflow="ellipsis"),
            Text(slot.run),
            f"{slot.epoch}{within}" if slot.epochs is None else f"{slot.epoch}/{slot.epochs}{within}",
            formatting.metric(slot.value),
            Text(slot.note, style="yellow")
            if slot.note
            else "-"
            if slot.images_per_second is None
            else f"{slot.images_per_second:,.0f}",
        )
    return table
