"""Whether CUDA MPS is found, by pipes and processes made up here."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from hpo.devices import gpus, mps
from hpo.devices.mps import Mps, exclusive_gpus, find_mps


@pytest.fixture
def processes(monkeypatch: pytest.MonkeyPatch) -> list[str | None]:
    """Names of the processes of this host, as Linux cuts them."""
    names: list[str | None] = ["init", None]

    def listed(_fields: list[str]) -> Iterator[SimpleNamespace]:
        return iter([SimpleNamespace(info={"name": name}) for name in names])

    monkeypatch.setattr(mps.psutil, "process_iter", listed)
    return names


def test_mps_is_on_where_its_pipes_and_a_process_are_found(
    tmp_path: Path, processes: list[str | None]
) -> None:
    environment = {"CUDA_MPS_PIPE_DIRECTORY": str(tmp_path)}
    assert find_mps(environment) == Mps(pipes=tmp_path, has_pipes=False, has_process=False)
    (tmp_path / "control").touch()
    assert not find_mps(environment).is_on
    # The kernel cuts names; where psutil can read the command line, it gives the whole one.
    for name in ("nvidia-cuda-mps", "nvidia-cuda-mps-control"):
        processes[:] = ["init", name]
        assert find_mps(environment).is_on
    (tmp_path / "control").unlink()
    assert find_mps(environment) == Mps(pipes=tmp_path, has_pipes=False, has_process=True)


@pytest.mark.usefixtures("processes")
def test_pipes_are_where_cuda_looks_for_them() -> None:
    assert find_mps({}).pipes == find_mps({"CUDA_MPS_PIPE_DIRECTORY": ""}).pipes == Path("/tmp/nvidia-mps")


def test_gpus_that_one_process_may_use(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert exclusive_gpus() == frozenset()
    tool = tmp_path / "nvidia-smi"
    tool.write_text(
        '#!/bin/sh\n[ "$1" = --query-gpu=index,uuid,compute_mode ] || exit 2\n'
        'echo 0, GPU-1, Default; echo 1, GPU-2, Exclusive_Process; echo "a message"\n'
    )
    tool.chmod(0o755)
    assert exclusive_gpus() == {"1", "GPU-2"}
    assert gpus.compute_capabilities() == frozenset()
