"""Progress of a call from Python: a view in the notebook's cell, in a terminal, or plain lines."""

from __future__ import annotations

import io
import sys
from collections import deque
from dataclasses import replace
from typing import Any, Protocol

from hpo.terminal import log
from hpo.terminal.progress import LiveProgress, View, draw
from hpo.terminal.safe_output import safe_console
from hpo.terminal.trial_lines import TrialEnd, trial_line
from storage.budget import Counts

SHOWN_TRIALS = 5
"""Number of ended trials below the view of a cell: a notebook keeps its output."""

WIDTH = 110
"""Characters of a line in a cell."""

_HTML = '<pre style="white-space:pre-wrap;line-height:1.25">{code}</pre>'


class Display(Protocol):
    """Display of a command that runs for a call from Python."""

    def line(self, text: str) -> None:
        """Show a line of the log."""

    def update(self, view: View) -> None:
        """Show the current state."""

    def trial_ended(self, trial: TrialEnd, counts: Counts | None) -> None:
        """Show a trial that ended."""

    def close(self) -> None:
        """End the view; lines may follow. Later calls change nothing."""


def open_display() -> Display:
    """Return the display of this process: a cell's, a terminal's, or lines."""
    if _in_notebook():
        return CellDisplay()
    return TerminalDisplay() if sys.stdout is not None and sys.stdout.isatty() else LineDisplay()


def _in_notebook() -> bool:
    """Return whether this process is the kernel of a notebook; IPython at a terminal is not."""
    shell = sys.modules.get("IPython")
    found = shell.get_ipython() if shell is not None else None
    return found is not None and hasattr(found, "kernel")


class LineDisplay:
    """One line for each trial that ends."""

    def line(self, text: str) -> None:
        """Print the line."""
        print(text, flush=True)

    def update(self, view: View) -> None:
        """Do nothing: there is no view."""

    def trial_ended(self, trial: TrialEnd, counts: Counts | None) -> None:
        """Print how it ended, and how many have."""
        done = f" [{counts.finished}/{counts.budget}]" if counts else ""
        self.line(f"{trial_line(trial).plain}{done}")

    def close(self) -> None:
        """Do nothing: there is no view."""


class TerminalDisplay:
    """The live view of the command line."""

    def __init__(self) -> None:
        self._progress: LiveProgress | None = None

    def line(self, text: str) -> None:
        """Print the line above the view."""
        log.print_line(text)

    def update(self, view: View) -> None:
        """Draw the view."""
        self._opened().update(view)

    def trial_ended(self, trial: TrialEnd, counts: Counts | None) -> None:
        """Print how it ended above the view."""
        self._opened().trial_ended(trial, counts)

    def close(self) -> None:
        """Remove the view."""
        if self._progress is not None:
            self._progress.close()
            self._progress = None

    def _opened(self) -> LiveProgress:
        self._progress = self._progress or LiveProgress(sys.stdout)
        return self._progress


class CellDisplay:
    """A view in the output of a cell, redrawn in place; it needs no widgets."""

    def __init__(self) -> None:
        self._view: View | None = None
        self._trials: deque[TrialEnd] = deque(maxlen=SHOWN_TRIALS)
        self._handle: Any = None

    def line(self, text: str) -> None:
        """Print the line below the view."""
        print(text, flush=True)

    def update(self, view: View) -> None:
        """Draw the view."""
        self._view = view
        self._show()

    def trial_ended(self, trial: TrialEnd, counts: Counts | None) -> None:
        """Add a trial to the view."""
        self._trials.append(trial)
        if self._view is not None:
            self._view = replace(self._view, counts=counts or self._view.counts)
            if trial.new_best and trial.value is not None:
                self._view = replace(self._view, best=(trial.number, trial.value, trial.params))
            self._show()

    def close(self) -> None:
        """Leave the final counts and the best trial in the cell."""
        if self._view is not None:
            counts = replace(self._view.counts, running=0, prepared=0)
            self._view = replace(self._view, counts=counts, slots=(), eta_seconds=None, note="")
            self._show()
            self._view = None

    def _show(self) -> None:
        assert self._view is not None
        content = render(self._view, list(self._trials))
        if self._handle is None:
            from IPython.display import display

            self._handle = display(  # type: ignore[no-untyped-call]
                content, raw=True, display_id=True
            )
        else:
            self._handle.update(content, raw=True)


def render(view: View, trials: list[TrialEnd]) -> dict[str, str]:
    """Return a view with its last trials as HTML and as text, by their media types."""
    # In a notebook, rich would show each text in the cell by itself.
    console = safe_console(io.StringIO(), record=True, width=WIDTH, force_jupyter=False)
    console.print(draw(view))
    for trial in trials:
        console.print(trial_line(trial, WIDTH), highlight=False, soft_wrap=True)
    return {
        "text/plain": console.export_text(clear=False),
        "text/html": console.export_html(inline_styles=True, code_format=_HTML),
    }
