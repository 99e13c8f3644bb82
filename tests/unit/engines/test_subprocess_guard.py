"""A command that ends when its standard input closes."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator

import psutil
import pytest

CHILD = """
import signal, sys, time
def end(number, frame):
    print(f"received {number}", flush=True)
    sys.exit(7)
for number in (signal.SIGINT, signal.SIGTERM):
    # Agents keep ignored signals ignored.
    if signal.getsignal(number) is not signal.SIG_IGN:
        signal.signal(number, end)
print("up", flush=True)
time.sleep(60)
"""


@pytest.fixture(params=["handled", "ignored"])
def guard(request: pytest.FixtureRequest) -> Iterator[subprocess.Popen[str]]:
    """A guarded command, started with SIGINT handled and with SIGINT ignored, as in background scripts."""
    before = signal.getsignal(signal.SIGINT)
    if request.param == "ignored":
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        process = _start(CHILD)
    finally:
        signal.signal(signal.SIGINT, before)
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    yield process
    for descendant in psutil.Process(process.pid).children(recursive=True) if process.poll() is None else ():
        descendant.kill()
    process.kill()
    process.communicate()


def _start(code: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "hpo.engines.subprocess_guard", sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_command_ends_when_the_pipe_closes(guard: subprocess.Popen[str]) -> None:
    output, _ = guard.communicate(timeout=20)
    assert (output, guard.returncode) == (f"received {signal.SIGTERM.value}\n", 7)


def test_interrupt_is_forwarded(guard: subprocess.Popen[str]) -> None:
    assert guard.stdin is not None
    guard.stdin.write("i")
    guard.stdin.flush()
    assert guard.wait(20) == 7
    assert guard.stdout is not None
    assert guard.stdout.read() == f"received {signal.SIGINT.value}\n"


def test_command_ends_gracefully_when_the_guard_is_killed(guard: subprocess.Popen[str]) -> None:
    """Ray kills the child processes of a worker that ends."""
    guard.kill()
    assert guard.stdout is not None
    output, _ = guard.communicate(timeout=20)
    assert output == f"received {signal.SIGTERM.value}\n"


@pytest.mark.parametrize(
    ("code", "exit_code"), [("raise SystemExit(3)", 3), ("import os; os.kill(os.getpid(), 9)", 128 + 9)]
)
def test_exit_code_of_the_command_is_returned(code: str, exit_code: int) -> None:
    process = _start(code)
    # Held open: the command ends by itself.
    assert process.wait(20) == exit_code
    process.communicate()
