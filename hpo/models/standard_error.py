"""Standard error without the lines that TensorFlow prints while it starts."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from hpo.study.monitoring.framework_noise import without_noise


@contextmanager
def without_start_messages(device: str) -> Iterator[None]:
    """Delay the output of native code to standard error until the end of this block, and drop lines that mean nothing.

    `device` is the description of `objectives.device.Device.owns`.
    """
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as file:
        os.dup2(file.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(kept, 2)
            os.close(kept)
            file.seek(0)
            sys.stderr.write(without_noise(file.read().decode(errors="replace"), device))
