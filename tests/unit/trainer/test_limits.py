"""Limits of the host: one line before anything is started."""

from __future__ import annotations

import os
import resource

import pytest

from hpo.devices import cgroups
from hpo.errors import UsageError
from hpo.trainer import limits


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> dict[int, tuple[int, int]]:
    """Return the limits of a user other than root, which `check_limits` changes."""
    found = {
        resource.RLIMIT_NOFILE: (1024, 4096),
        resource.RLIMIT_NPROC: (resource.RLIM_INFINITY, resource.RLIM_INFINITY),
    }
    monkeypatch.setattr(resource, "getrlimit", found.__getitem__)
    monkeypatch.setattr(resource, "setrlimit", found.__setitem__)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(cgroups, "processes_left", lambda: None)
    return found


@pytest.mark.parametrize(("trainers", "soft"), [(2, 1024), (462, 1024), (1024, 2148)])
def test_open_files_of_all_trainers_are_allowed(
    host: dict[int, tuple[int, int]], trainers: int, soft: int
) -> None:
    limits.check_limits(trainers)
    assert host[resource.RLIMIT_NOFILE] == (soft, 4096)


def test_too_many_open_files_are_refused(host: dict[int, tuple[int, int]]) -> None:
    with pytest.raises(
        UsageError,
        match=r"3000 worker slots need 6100 open files, and 4096 .*-Hn 6100\), or use at most 1998 slots",
    ):
        limits.check_limits(3000)
    assert host[resource.RLIMIT_NOFILE] == (1024, 4096)


@pytest.mark.parametrize("group", [True, False])
def test_too_many_processes_are_refused(
    host: dict[int, tuple[int, int]], monkeypatch: pytest.MonkeyPatch, group: bool
) -> None:
    if group:
        monkeypatch.setattr(cgroups, "processes_left", lambda: 100)
    else:
        host[resource.RLIMIT_NPROC] = (100, 100)
    limits.check_limits(50)
    with pytest.raises(
        UsageError, match=r"51 worker slots start at least 102 .* 100 are allowed .* at most 50 slots"
    ):
        limits.check_limits(51)
