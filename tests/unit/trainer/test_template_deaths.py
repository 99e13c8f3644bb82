"""Templates of a `TrainerPool` that die are replaced, within limits."""

from __future__ import annotations

import signal
from collections.abc import Callable

import pytest

from hpo.errors import ObjectiveBrokenError
from hpo.trainer.ends.exits import SpawnFailed
from hpo.trainer.template.current import MAX_TEMPLATE_DEATHS
from tests.unit.trainer.pool_host import DESCRIBED, READY, Host


def die_idle(host: Host) -> None:
    host.events(READY)
    host.template.die()
    host.pool.wait(0.0)


def die_loading(host: Host) -> None:
    host.template.die()
    host.pool.wait(0.0)


def die_forking(host: Host) -> None:
    host.events(READY)
    host.start(0)
    host.template.die(1)
    assert host.pool.wait(0.0) == [(0, SpawnFailed("its template ended"))]


def test_killed_idle_templates_are_replaced_without_limit(host: Host) -> None:
    host.events(DESCRIBED)
    for _ in range(MAX_TEMPLATE_DEATHS + 1):
        die_idle(host)
    assert len(host.templates) == MAX_TEMPLATE_DEATHS + 2


@pytest.mark.parametrize(("die", "how"), [(die_loading, "signal 9"), (die_forking, "exit code 1")])
def test_templates_that_die_at_work_break_the_objective(
    host: Host, die: Callable[[Host], None], how: str
) -> None:
    host.events(DESCRIBED, READY)
    host.start(pid=10)
    host.pool.kill(0)
    die_idle(host)
    for _ in range(MAX_TEMPLATE_DEATHS - 1):
        die(host)
    with pytest.raises(ObjectiveBrokenError, match=rf"ended \({how}\) before it could train"):
        die(host)
    host.pool.close()
    assert host.log.exists()


def test_fork_ends_a_row_of_template_deaths(host: Host) -> None:
    host.events(DESCRIBED)
    for pid in range(10, 10 + MAX_TEMPLATE_DEATHS):
        die_loading(host)
        host.events(READY)
        host.start(0, pid=pid)
        host.pool.kill(0)


@pytest.mark.parametrize("status", [1, -signal.SIGTERM])
def test_first_template_that_dies_before_its_description_is_not_replaced(host: Host, status: int) -> None:
    host.template.die(status)
    with pytest.raises(ObjectiveBrokenError):
        host.pool.describe()
    assert len(host.templates) == 1
