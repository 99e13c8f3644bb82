"""A command that ends with whoever holds its standard input."""

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
    print(f"heard {number}", flush=True)
    sys.exit(7)
for number in (signal.SIGINT, signal.SIGTERM):
    # As an agent does, which leaves ignored what it finds ignored.
    if signal.getsignal(number) is not signal.SIG_IGN:
        signal.signal(number, end)
print("up", flush=True)
time.sleep(60)
"""


@pytest.fixture(params=["heard", "ignored"])
def leash(request: pytest.FixtureRequest) -> Iterator[subprocess.Popen[str]]:
    """Started where SIGINT is heard, and where it is ignored, as in what a script starts in the background."""
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


def test_it_ends_when_the_leash_does(leash: subprocess.Popen[str]) -> None:
    said, _ = leash.communicate(timeout=20)
    assert (said, leash.returncode) == (f"heard {signal.SIGTERM.value}\n", 7)


def test_an_interrupt_is_passed_on(leash: subprocess.Popen[str]) -> None:
    assert leash.stdin is not None
    leash.stdin.write("i")
    leash.stdin.flush()
    assert leash.wait(20) == 7
    assert leash.stdout is not None
    assert leash.stdout.read() == f"heard {signal.SIGINT.value}\n"


def test_it_is_ended_in_order_though_its_starter_s_children_are_killed(leash: subprocess.Popen[str]) -> None:
    """As Ray does to the children of a worker that ends."""
    leash.kill()
    assert leash.stdout is not None
    said, _ = leash.communicate(timeout=20)
    assert said == f"heard {signal.SIGTERM.value}\n"


@pytest.mark.parametrize(
    ("code", "exit_code"), [("raise SystemExit(3)", 3), ("import os; os.kill(os.getpid(), 9)", 128 + 9)]
)
def test_the_exit_code_is_the_command_s(code: str, exit_code: int) -> None:
    process = _start(code)
    # Held open: the command ends by itself.
    assert process.wait(20) == exit_code
    process.communicate()
