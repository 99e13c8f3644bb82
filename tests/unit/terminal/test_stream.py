"""Writes to a terminal that is gone."""

from __future__ import annotations

import errno
import io
import logging
import os
import sys

import pytest

from hpo.outcomes import Outcome
from hpo.terminal.log import configure
from hpo.terminal.progress import LiveProgress, SlotView, View
from hpo.terminal.stream import TerminalStream
from hpo.terminal.trial_lines import TrialEnd
from storage.budget import Counts

log = logging.getLogger("hpo")
COUNTS = Counts(budget=3, complete=1, pruned=0, failed=0, running=1, waiting=0)
SLOTS = [SlotView(device="cpu", run="1")]
VIEW = View(study="s", metric="loss", counts=COUNTS, slots=SLOTS, elapsed_seconds=1.0)

END = TrialEnd(number=1, outcome=Outcome.COMPLETE, value=0.5, epochs=3, seconds=1.0, params={"x": 1})


@pytest.mark.skipif(sys.platform != "linux", reason="how a terminal that is gone fails is Linux's")
def test_writes_to_a_terminal_that_is_gone_are_discarded() -> None:
    ours, theirs = os.openpty()
    with os.fdopen(theirs, "w") as stream:
        configure()
        progress = LiveProgress(stream)
        log.warning("before")
        shown = b""
        while b"before" not in shown:
            # In as many pieces as it likes.
            shown += os.read(ours, 65536)
        os.close(ours)
        with pytest.raises(OSError, match=os.strerror(errno.EIO)):
            os.write(theirs, b"x")
        log.warning("after")
        progress.update(VIEW)
        progress.trial_ended(END, COUNTS)
        progress.close()
        # The rest of the process may write, and flush at its end.
        print("last words", file=stream, flush=True)


def test_closed_pipe_still_raises() -> None:
    class Closed(io.StringIO):
        def write(self, _: str) -> int:
            raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    with pytest.raises(BrokenPipeError):
        TerminalStream(Closed()).write("x")
