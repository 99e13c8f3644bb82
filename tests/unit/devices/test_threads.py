"""Threads of numeric libraries in the template and in trainers."""

from __future__ import annotations

import os
from dataclasses import dataclass
from types import SimpleNamespace

import pytest
import threadpoolctl

from hpo.devices.threads import hold_threads, release_threads

NAMES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass
class FakeLibrary:
    """A library that was loaded before the fork."""

    internal_api: str
    threads: int = 1

    def set_num_threads(self, count: int) -> None:
        self.threads = count


@pytest.mark.parametrize(
    ("user", "variables", "loaded"),
    [
        ({}, ("4", "4", "4"), (4, 4)),
        ({"OMP_NUM_THREADS": "3"}, ("3", None, None), (3, 3)),
        ({"OPENBLAS_NUM_THREADS": "2"}, ("4", "2", "4"), (2, 4)),
        ({"OMP_NUM_THREADS": "3,2", "OPENBLAS_NUM_THREADS": "1"}, ("3,2", "1", None), (1, 3)),
        ({"OMP_NUM_THREADS": "many"}, ("many", None, None), (1, 1)),
    ],
)
def test_trainer_gets_the_threads_of_its_slot_unless_the_user_chose(
    monkeypatch: pytest.MonkeyPatch, user, variables, loaded
) -> None:
    environment = {"PATH": "/bin", **user}
    hold_threads(environment)
    assert [environment[name] for name in NAMES] == ["1", "1", "1"]
    monkeypatch.setattr(os, "environ", environment)
    libraries = [FakeLibrary("openblas"), FakeLibrary("openmp")]
    controller = SimpleNamespace(lib_controllers=libraries)
    monkeypatch.setattr(threadpoolctl, "ThreadpoolController", lambda: controller)
    release_threads(4)
    assert tuple(environment.get(name) for name in NAMES) == variables
    assert tuple(library.threads for library in libraries) == loaded
    assert not any("HPO" in name for name in environment)


def test_libraries_that_start_threads_late_get_those_of_the_slot(monkeypatch: pytest.MonkeyPatch) -> None:
    environment = {"POLARS_MAX_THREADS": "6"}
    hold_threads(environment)
    # In the template they have no threads yet, and objectives are loaded with as many as they like.
    assert "TF_NUM_INTRAOP_THREADS" not in environment
    monkeypatch.setattr(os, "environ", environment)
    release_threads(2)
    assert environment["TF_NUM_INTRAOP_THREADS"] == environment["PJRT_NPROC"] == "2"
    assert environment["POLARS_MAX_THREADS"] == "6"
