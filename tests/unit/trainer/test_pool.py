"""`TrainerPool` on templates and trainers without processes: only their pipes are real."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from hpo.errors import ObjectiveBrokenError
from hpo.outcomes import Outcome
from hpo.trainer import pool as pool_module
from hpo.trainer.ends.exits import SpawnFailed, TrainerExited
from hpo.trainer.limits import check_limits
from hpo.trainer.messages import Command, Continue, Finished, Started
from hpo.trainer.pipe import encode
from hpo.trainer.template.current import MOST_UNANSWERED
from hpo.trainer.template.messages import Exited, Forked, NotForked
from hpo.trainer.testing import start_message
from objectives.device import Device
from tests.unit.trainer.pool_host import DESCRIBED, DONE, EPOCH, READY, Host


def test_messages_are_routed_by_slot(host: Host) -> None:
    first, second = host.start(0, pid=10), host.start(1, pid=11)
    one, other = host.template.trainers[first], host.template.trainers[second]
    assert (one.recv().metric, other.recv().metric) == ("loss", "loss")
    one.send_bytes(encode(Started(10, 0)))
    other.send_bytes(encode(EPOCH))
    assert sorted(host.events(), key=str) == [(0, Started(10, 0)), (1, EPOCH)]
    host.pool.send(1, Command.PRUNE)
    host.pool.send(0, Continue(1))
    assert (one.recv(), other.recv()) == (Continue(1), Command.PRUNE)
    one.send_bytes(encode(DONE))
    assert host.events() == [(0, DONE)]
    assert (host.pool.busy, host.pool.free_slots()) == ({1}, [0])
    assert host.events(Exited(10, 0)) == []
    host.pool.send(0, Command.PRUNE)


@pytest.mark.parametrize(
    ("status", "oom_kills", "reason", "out_of_memory"),
    [
        (3, 0, "its process ended with exit code 3", False),
        (-signal.SIGSEGV, 0, "its process was ended by SIGSEGV", False),
        (-signal.SIGKILL, 0, "its process was ended by SIGKILL", False),
        (-signal.SIGKILL, 1, "the kernel killed its process: there was no memory left", True),
        (-signal.SIGTERM, 1, "its process was ended by SIGTERM", False),
    ],
)
def test_exit_follows_last_messages_and_is_classified(
    host: Host, status: int, oom_kills: int, reason: str, out_of_memory: bool
) -> None:
    trainer = host.template.trainers[host.start(pid=10)]
    trainer.send_bytes(encode(EPOCH))
    host.oom_kills += oom_kills
    # Its child holds the pipe open.
    exited = TrainerExited(reason, status, out_of_memory)
    assert host.events(Exited(10, status)) == [(0, EPOCH), (0, exited)]
    assert (host.killed, host.pool.busy) == ([10], frozenset())


def test_bytes_that_are_no_message_are_a_bug_of_their_trial_alone(host: Host) -> None:
    one, other = (host.template.trainers[host.start(slot, pid=10 + slot)] for slot in (0, 1))
    one.send(EPOCH)
    other.send_bytes(encode(EPOCH))
    (_, finished), event = host.events()
    assert isinstance(finished, Finished)
    assert (finished.outcome, host.killed) == (Outcome.BUG, [10])
    assert finished.error.startswith("its process sent a message that cannot be read")
    assert event == (1, EPOCH)
    assert host.pool.busy == {1}


def test_half_a_message_holds_up_its_trial_alone(host: Host) -> None:
    one, other = (host.template.trainers[host.start(slot, pid=10 + slot)] for slot in (0, 1))
    os.write(one.fileno(), b"\0\0\1\0half")
    other.send_bytes(encode(EPOCH))
    assert host.events() == [(1, EPOCH)]
    one.close()
    exited = TrainerExited("its process was ended by SIGKILL", -9, False)
    assert host.events(Exited(10, -9)) == [(0, exited)]


class Malicious:
    def __init__(self, victim: Path) -> None:
        self.victim = victim

    def __reduce__(self) -> tuple[Callable[[Path], None], tuple[Path]]:
        return Path.touch, (self.victim,)


def test_template_that_sends_a_pickle_is_refused_and_runs_nothing(host: Host, tmp_path: Path) -> None:
    host.template._process.send(Malicious(tmp_path / "victim"))
    with pytest.raises(
        ObjectiveBrokenError, match=r"loads o sent a message that cannot be read \(\w+\): remove"
    ):
        host.events()
    assert not (tmp_path / "victim").exists()


def test_one_kill_of_the_kernel_is_attributed_to_one_trainer(host: Host) -> None:
    host.start(0, pid=10), host.start(1, pid=11)
    host.oom_kills += 1
    events = host.events(Exited(10, -signal.SIGKILL), Exited(11, -signal.SIGKILL))
    assert [event.out_of_memory for _, event in events] == [True, False]


def test_trainer_that_finished_before_its_exit_is_not_lost(host: Host) -> None:
    host.template.trainers[host.start(pid=10)].send_bytes(encode(DONE))
    assert host.events(Exited(10, 0)) == [(0, DONE)]


@pytest.mark.parametrize("dies", ["pipe closes", "process ends while its child holds the pipe"])
def test_exit_of_a_trainer_without_its_template_has_an_unknown_status(host: Host, dies: str) -> None:
    host.events(READY)
    trainer = host.template.trainers[host.start(pid=10)]
    host.template.die()
    host.pool.wait(0.0)
    assert len(host.templates) == 2
    trainer.send_bytes(encode(EPOCH))
    assert host.events() == [(0, EPOCH)], "it goes on"
    trainer.close() if dies == "pipe closes" else host.running.clear()
    assert host.events() == [(0, TrainerExited("its process ended with an unknown status"))]
    assert host.killed == [10]


def test_failed_fork_is_a_spawn_failure(host: Host) -> None:
    serial = host.start()
    assert not host.pool.is_forked(0)
    assert host.events(NotForked(serial, "no room")) == [(0, SpawnFailed("no room"))]
    assert host.pool.free_slots() == [0, 1]


def test_1024_slots_start_with_few_unanswered_requests(host: Host) -> None:
    """More requests than a pipe holds would wait for a template that itself waits for its messages to be read."""
    # As a pool with that many slots does when it begins.
    check_limits(1024)
    host.pool.devices = [Device()] * 1024
    host.events(DESCRIBED, READY)
    for slot in host.pool.free_slots():
        host.pool.start(slot, start_message())
    # Never requested, so neither it nor its slot waits for an answer.
    host.pool.kill(1023)
    template = host.template
    assert len(template.trainers) == MOST_UNANSWERED
    answered = 0
    while answered < 1023:
        assert len(template.trainers) - answered <= MOST_UNANSWERED
        for serial in sorted(template.trainers)[answered:]:
            template.send(Forked(serial, 10_000 + serial))
            answered += 1
        assert host.pool.wait(0.0) == []
    assert sorted(template.trainers) == list(range(1023))
    assert all(host.pool.is_forked(slot) for slot in range(1023))
    for connection in template.trainers.values():
        connection.close()
    template.trainers.clear()


def test_requests_that_a_dead_template_has_not_got_reach_the_next_one(host: Host) -> None:
    host.pool.devices = [Device()] * (MOST_UNANSWERED + 2)
    host.events(DESCRIBED, READY)
    for slot in host.pool.free_slots():
        host.pool.start(slot, start_message())
    host.template.die()
    events = [*host.pool.wait(0.0), *host.pool.wait(0.0), *host.events(READY)]
    assert events == [(slot, SpawnFailed("its template ended")) for slot in range(MOST_UNANSWERED)]
    assert sorted(host.template.trainers) == [MOST_UNANSWERED, MOST_UNANSWERED + 1]


def test_pipe_that_cannot_be_opened_is_a_spawn_failure(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(pool_module, "Pipe", refuse)
    host.pool.start(0, start_message())
    assert host.pool.wait(0.0) == [(0, SpawnFailed("Too many open files"))]
    assert host.pool.free_slots() == [0, 1]


def test_request_of_a_dead_template_is_a_spawn_failure(host: Host) -> None:
    host.events(DESCRIBED, READY)
    host.start()
    host.template.die()
    assert host.pool.wait(0.0) == [(0, SpawnFailed("its template ended"))]


def test_request_to_a_dead_template_reaches_the_next_one(host: Host) -> None:
    host.events(DESCRIBED, READY)
    host.template.die()
    host.start(pid=10)
    assert len(host.templates) == 2
    assert host.pool.is_forked(0)


@pytest.mark.parametrize(("forked_at", "killed"), [("before", [10]), ("after", [10])])
def test_killed_trainer_has_no_event(host: Host, forked_at: str, killed: list[int]) -> None:
    serial = host.start(pid=10 if forked_at == "before" else None)
    host.pool.kill(0)
    # The slot has its next trainer by the time that the fork is reported.
    host.start(0)
    assert host.events(*([Forked(serial, 10)] if forked_at == "after" else [])) == []
    assert host.killed == killed
    assert not host.pool.is_forked(0)


def test_replaced_template_is_killed_and_trainers_go_on(host: Host) -> None:
    host.events(DESCRIBED, READY)
    trainer = host.template.trainers[host.start(pid=10)]
    host.pool.replace_template()
    assert host.pool.wait(0.0) == []
    trainer.send_bytes(encode(DONE))
    assert (host.events(), len(host.templates)) == ([(0, DONE)], 2)


def test_closed_pool_has_killed_its_trainers(host: Host) -> None:
    host.start(0, pid=10), host.start(1, pid=11)
    host.pool.close()
    assert (host.killed, host.pool.busy) == ([10, 11], frozenset())
