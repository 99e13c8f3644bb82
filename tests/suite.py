"""`make test`: the linters and the whole suite in parts that run at the same time.

TensorFlow is imported in one part only, and tests that mostly wait for processes get more workers than there are cores.
The other parts begin when the tests of the service have been collected once, next to the linters: otherwise all workers
would compile the same modules of a fresh clone at the same time.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from typing import IO

CLUSTER = "tests/acceptance/cluster/test_ray.py"

PARTS: dict[str, list[str]] = {
    "linters": ["make", "--no-print-directory", "lint"],
    "unit tests": [sys.executable, "-m", "pytest", "-q", "tests/unit"],
    "tests of the Ray engine": [sys.executable, "-m", "pytest", "-q", CLUSTER],
}
"""Commands that run in the background; their output is printed when they have ended."""

TESTS = ["--ignore", CLUSTER, "tests/acceptance", "tests/integration"]
COLLECTION = [sys.executable, "-m", "pytest", "--collect-only", "-q", *TESTS]

WORKERS = os.environ.get("WORKERS", "6")
SERVICE = [sys.executable, "-m", "pytest", "--numprocesses", WORKERS, "--dist", "loadgroup", *TESTS]
"""The longest part, whose progress is shown. Its tests are handed out one by one, because some take a minute."""


def main() -> int:
    """Run all parts and return 1 if one has failed, else 0."""
    began_at = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="hpo-suite-") as folder:
        logs = {name: open(f"{folder}/{number}", "w+") for number, name in enumerate(PARTS)}  # noqa: SIM115, PTH123
        background = {}
        try:
            for name, log in logs.items():
                background[name] = subprocess.Popen(PARTS[name], stdout=log, stderr=log)
                if name == "linters":
                    # The part itself reports what cannot be collected.
                    subprocess.run(COLLECTION, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            failed, skipped = _show(SERVICE)
        finally:
            codes = {name: process.wait() for name, process in background.items()}
        for name, code in codes.items():
            output = _read(logs[name])
            print(f"\n{name}:\n{output if code else output.splitlines()[-1]}")
            skipped += re.findall(r"^SKIPPED \[\d+\] \S+ (.*)", output, re.MULTILINE)
    failed += [name for name, code in codes.items() if code]
    print(f"\nNot tested here: {'; '.join(sorted({*skipped}))}." if skipped else "\nEverything was tested.")
    print(f"{'Failed: ' + ', '.join(failed) if failed else 'Passed'} in {time.monotonic() - began_at:.0f} s.")
    return 1 if failed else 0


def _show(command: list[str]) -> tuple[list[str], list[str]]:
    """Run a part with its output shown; returns its name if it failed, and why tests were skipped."""
    output = ""
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        assert process.stdout is not None
        while chunk := os.read(process.stdout.fileno(), 65536):
            text = chunk.decode(errors="replace")
            print(text, end="", flush=True)
            output += text
    skipped = re.findall(r"^SKIPPED \[\d+\] \S+ (.*)", output, re.MULTILINE)
    return ["tests of the service"] if process.returncode else [], skipped


def _read(log: IO[str]) -> str:
    log.seek(0)
    text = log.read()
    log.close()
    return text


if __name__ == "__main__":
    sys.exit(main())
