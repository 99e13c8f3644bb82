"""Standard error without the lines that frameworks print while they start or convert models."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from hpo.study.monitoring.framework_noise import without_noise


@contextmanager
def without_start_messages(device: str) -> Iterator[None]:
    """Delay the output of native code to standard error until the end of this block, and drop lines that mean nothing.

    `device` is the description of `objectives.device.Device.owns`.
    """
    with _kept() as text:
        try:
            yield
        finally:
            printed = text()
            sys.stderr.write(without_noise(printed, device))


@contextmanager
def only_on_error() -> Iterator[None]:
    """Print the output of native code to standard error within this block only if the block raises."""
    with _kept() as text:
        try:
            yield
        except BaseException:
            sys.stderr.write(without_noise(text(), ""))
            raise


@contextmanager
def _kept() -> Iterator[Callable[[], str]]:
    """Write standard error to a file within this block; yield a function that ends this and returns the text."""
    sys.stderr.flush()
    terminal = os.dup(2)
    with tempfile.TemporaryFile() as file:
        os.dup2(file.fileno(), 2)

        def restore() -> str:
            sys.stderr.flush()
            os.dup2(terminal, 2)
            file.seek(0)
            return file.read().decode(errors="replace")

        try:
            yield restore
        finally:
            restore()
            os.close(terminal)
