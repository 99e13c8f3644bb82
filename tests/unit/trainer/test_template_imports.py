"""Templates of a `TrainerPool` import the modules of earlier trials."""

from __future__ import annotations

import pytest

from hpo.trainer.ends.exits import TrainerExited
from hpo.trainer.messages import Imported, Started
from hpo.trainer.pipe import encode
from hpo.trainer.template.learnt import MOST_ROUNDS
from hpo.trainer.template.messages import Forked, ImportEnded
from hpo.trainer.testing import start_message
from objectives.device import Device
from tests.unit.trainer.pool_host import DESCRIBED, DONE, EPOCH, READY, Host


def learn(host: Host, imported: Imported, pid: int = 10) -> None:
    """Let a trainer report the modules that it has imported, and end."""
    trainer = host.template.trainers[host.start(0, pid)]
    for message in (Started(pid, 0), imported, DONE):
        trainer.send_bytes(encode(message))
    assert [event for _, event in host.events()] == [Started(pid, 0), DONE]


def test_template_imports_the_modules_of_a_trial_before_the_next_one(
    host: Host, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    host.events(DESCRIBED, READY)
    learn(host, Imported(("keras", "sklearn.svm")))
    assert host.template.imports == [("keras", "sklearn.svm")]
    requested = len(host.template.trainers)
    host.pool.start(0, start_message())
    assert len(host.template.trainers) == requested
    host.events(ImportEnded())
    assert len(host.template.trainers) == requested + 1
    assert caplog.messages == ["trials of o start with their modules imported: keras, sklearn.svm"]
    # Only more modules are another reason, and another template gets all of them.
    host.pool.kill(0)
    learn(host, Imported(("keras",)))
    learn(host, Imported(("torch",)))
    host.events(ImportEnded())
    assert host.template.imports[1:] == [("keras", "sklearn.svm", "torch")]
    host.template.die()
    host.events()
    host.events(READY)
    assert host.template.imports == [("keras", "sklearn.svm", "torch")]
    host.events(ImportEnded())
    for number in range(2 * MOST_ROUNDS):
        learn(host, Imported((f"m{number}",)))
        host.events(ImportEnded())
    assert len(host.template.imports) == MOST_ROUNDS - 1


@pytest.mark.parametrize("how", ["starts 1 thread", "dies", "hangs"])
def test_template_that_fails_to_import_is_replaced_by_one_that_does_not_try(
    host: Host, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    host.pool.devices = [Device()] * 3
    host.events(DESCRIBED, READY)
    running = host.template.trainers[host.start(1, pid=11)]
    crashed = host.template.trainers[host.start(2, pid=12)]
    learn(host, Imported(("keras",)))
    host.pool.start(0, start_message())
    crashed.close()
    assert host.events() == []
    match how:
        case "dies":
            host.template.die()
        case "hangs":
            host.pool.replace_template()
        case problem:
            host.template.send(ImportEnded(problem))
    running.send_bytes(encode(EPOCH))
    assert sorted(host.events(), key=str) == [
        (1, EPOCH),
        (2, TrainerExited("its process ended with an unknown status")),
    ]
    assert host.events(DESCRIBED, READY) == []
    assert len(host.template.trainers) == 1
    reason = how if how.startswith("starts") else "the process that imported them ended"
    assert caplog.messages == [f"each trial of o imports its modules itself: {reason}"]
    host.events(Forked(max(host.template.trainers), 13))
    host.pool.kill(0)
    learn(host, Imported(("keras",)), pid=14)
    assert host.template.imports == []


def test_trial_with_an_obstacle_gets_a_template_without_modules(
    host: Host, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    host.events(DESCRIBED, READY)
    learn(host, Imported(("keras",)))
    host.events(ImportEnded())
    learn(host, Imported(("torch",), "trials set X"))
    host.events(READY)
    learn(host, Imported(("keras",)))
    assert (len(host.templates), host.template.imports) == (2, [])
    assert caplog.messages[1:] == ["each trial of o imports its modules itself: trials set X"]
