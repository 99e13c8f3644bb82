"""`make test`: the linters and the whole suite in parts that run at the same time.

TensorFlow is imported in one part only, and tests that mostly wait for processes get more workers than there are cores.
Most parts begin when the tests of the service have been collected once, next to the first parts: otherwise all workers
would compile the same modules of a fresh clone at the same time.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from contextlib import suppress
from typing import IO

CLUSTER = "tests/acceptance/cluster/test_ray.py"

TENSORFLOW = ("tests/unit/objectives", "tests/unit/bench", "tests/unit/models")
"""Unit tests that import TensorFlow."""

PROPERTIES = ("tests/integration/test_any_values.py", "tests/integration/storage/test_study_machine.py")
"""Tests of the service that import Hypothesis, which each worker would do when it collects them."""

WITHOUT_HYPOTHESIS = ("-p", "no:hypothesispytest")
"""Its plugin would import it at the end."""

ONE_THREAD = ("env", "OPENBLAS_NUM_THREADS=1")
"""Threads of NumPy's library wait for each other without rest, while other processes have the cores."""

FIRST: dict[str, list[str]] = {
    "linters": ["make", "--no-print-directory", "lint"],
    "unit tests with TensorFlow": [
        *(*ONE_THREAD, sys.executable, "-m", "pytest", *WITHOUT_HYPOTHESIS, "-q", *TENSORFLOW),
    ],
}
NEXT: dict[str, list[str]] = {
    "unit and property tests": [
        *("nice", "-n", "5", sys.executable, "-m", "pytest", "-q", "tests/unit", *PROPERTIES),
        *(f"--ignore={folder}" for folder in TENSORFLOW),
    ],
    "tests of the Ray engine": [sys.executable, "-m", "pytest", *WITHOUT_HYPOTHESIS, "-q", CLUSTER],
}
"""Commands in the background, begun before and after the collection; their output is printed when they have ended."""

TESTS = [*(f"--ignore={file}" for file in (CLUSTER, *PROPERTIES)), "tests/acceptance", "tests/integration"]
COLLECTION = [sys.executable, "-m", "pytest", *WITHOUT_HYPOTHESIS, "--collect-only", "-q", *TESTS]

WORKERS = os.environ.get("WORKERS", "8")
SERVICE = [
    *("nice", "-n", "10", sys.executable, "-m", "pytest", "--numprocesses", WORKERS, "--dist", "loadgroup"),
    *WITHOUT_HYPOTHESIS,
    *TESTS,
]
"""The longest part, whose progress is shown. Its tests are handed out one by one, because some take a minute.

Parts of one process would get a tenth of the machine next to its workers, and end last: the fewer processes a part has,
the higher its priority, and most of all that with TensorFlow.
"""


SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def main() -> int:
    """Run all parts and return 1 if one has failed, else 0; 130 after a signal, once all parts have cleaned up."""
    for number in SIGNALS:
        # `nohup` ignores SIGHUP.
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _interrupt)
    began_at = time.monotonic()
    parts: dict[str, subprocess.Popen[bytes]] = {}
    with tempfile.TemporaryDirectory(prefix="hpo-suite-") as folder:
        logs = {name: open(f"{folder}/{name}", "w+") for name in (*FIRST, *NEXT)}  # noqa: SIM115, PTH123
        try:
            for name, command in FIRST.items():
                parts[name] = _start(command, logs[name])
            # The part itself reports errors of the collection.
            parts["collection"] = _start(COLLECTION, subprocess.DEVNULL)
            parts["collection"].wait()
            for name, command in NEXT.items():
                parts[name] = _start(command, logs[name])
            parts["tests of the service"] = _start(SERVICE, subprocess.PIPE)
            shown = _show(parts["tests of the service"])
            codes = {name: process.wait() for name, process in parts.items() if name != "collection"}
        except KeyboardInterrupt:
            print("\nInterrupted: waiting until the tests have stopped what they started.", flush=True)
            _stop(parts.values())
            return 130
        for name, log in logs.items():
            output = _read(log)
            print(f"\n{name}:\n{output if codes[name] else output.splitlines()[-1]}")
            shown += output
    failed = [name for name, code in codes.items() if code]
    skipped = re.findall(r"^SKIPPED \[\d+\] \S+ (.*)", shown, re.MULTILINE)
    print(f"\nNot tested here: {'; '.join(sorted({*skipped}))}." if skipped else "\nEverything was tested.")
    print(f"{'Failed: ' + ', '.join(failed) if failed else 'Passed'} in {time.monotonic() - began_at:.0f} s.")
    return 1 if failed else 0


def _interrupt(*_: object) -> None:
    """Interrupt the suite once; a second Ctrl-C must not keep the tests from cleaning up."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def _start(command: list[str], output: IO[str] | int) -> subprocess.Popen[bytes]:
    """Start a part in a process group of its own, so that it gets the signals that we send, and no others."""
    return subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, process_group=0
    )


def _show(process: subprocess.Popen[bytes]) -> str:
    """Print the output of a part until its end, and return it."""
    output = ""
    assert process.stdout is not None
    while chunk := os.read(process.stdout.fileno(), 65536):
        text = chunk.decode(errors="replace")
        print(text, end="", flush=True)
        output += text
    return output


def _stop(parts: Iterable[subprocess.Popen[bytes]]) -> None:
    """Interrupt all parts, and return when they have ended."""
    for part in (part for part in parts if part.poll() is None):
        with suppress(ProcessLookupError):
            os.killpg(part.pid, signal.SIGINT)
    for part in parts:
        if part.stdout is not None:
            _show(part)
        part.wait()


def _read(log: IO[str]) -> str:
    log.seek(0)
    text = log.read()
    log.close()
    return text


if __name__ == "__main__":
    sys.exit(main())
