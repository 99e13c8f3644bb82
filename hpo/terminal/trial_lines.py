"""Lines at a terminal about trials that ended or were paused here, in one form: `trial 3: pruned …`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hpo import formatting
from hpo.formatting import printable
from hpo.outcomes import Outcome
from hpo.terminal.columns import wrapped

if TYPE_CHECKING:
    from rich.text import Text


@dataclass(frozen=True, kw_only=True)
class TrialEnd:
    """A trial that ended on this host."""

    number: int
    outcome: Outcome
    value: float | None
    epochs: int
    seconds: float
    params: Mapping[str, Any]
    error: str = ""
    attempt_id: int | None = None
    new_best: bool = False
    """Whether no earlier trial had a better value."""


def trial_line(trial: TrialEnd, columns: int | None = None) -> Text:
    """Return how a trial ended, in colours and in lines of at most `columns`."""
    from rich.text import Text

    error = f" ({trial.error})" if trial.error else ""
    start, outcome, best = (
        f"trial {trial.number}: ",
        str(trial.outcome),
        " new best" if trial.new_best else "",
    )
    line = printable(
        f"{start}{outcome}{_reached(trial.value, trial.epochs)}, {trial.seconds:.1f} s:"
        f" {formatting.parameters(trial.params)}{error}{best}"
    )
    # Not as markup: parameters and errors may contain brackets.
    text = Text(line if columns is None else wrapped(line, columns))
    style = {Outcome.COMPLETE: "green", Outcome.PRUNED: "yellow"}.get(trial.outcome, "red")
    text.stylize(style, len(start), len(start) + len(outcome))
    if best:
        text.stylize("bold green", text.plain.rfind("new"))
    return text


def paused_message(value: float | None, epochs: int, params: Mapping[str, Any]) -> str:
    """Return the message of a trial that freeze-thaw has paused; a log line at a terminal begins with its number."""
    return f"paused{_reached(value, epochs)}: {formatting.parameters(params)}"


def _reached(value: float | None, epochs: int) -> str:
    shown = "" if value is None else f" {formatting.metric(value)}"
    return f"{shown} after {formatting.counted(epochs, 'epoch')}"
