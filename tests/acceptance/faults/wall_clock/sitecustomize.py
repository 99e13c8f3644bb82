"""Lets a test set the wall clock of this process: python imports this file, in `PYTHONPATH`, when it starts.

libfaketime would set more clocks, but makes `time.sleep` fail (version 0.9.10 with Python 3.11).
"""

from __future__ import annotations

import os
import time
from pathlib import Path

if "TEST_CLOCK" in os.environ:
    real, file = time.time, Path(os.environ["TEST_CLOCK"])

    def ahead() -> float:
        """Return the time of the clock that the test has set."""
        return real() + float(file.read_text())

    time.time = ahead
