"""Slots on GPUs of a fake driver: the devices that each trainer sees, and those that are shown."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from tests.acceptance.service import Service

DRIVER = """#!/bin/sh
[ "$1" = --query-gpu=index,uuid,name,memory.total,mig.mode.current ] || exit 2
echo 0, GPU-aaaa1111, NVIDIA H200, 143771, Disabled
echo 1, GPU-bbbb2222, NVIDIA H200, 143771, Disabled
"""
SEEN = "SELECT a.slot, a.device, l.tail FROM hpo.attempts a JOIN hpo.attempt_logs l USING (attempt_id)"


@pytest.fixture
def gpus(service: Service, tmp_path: Path) -> Service:
    """The service on a machine with two GPUs."""
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "nvidia-smi").write_text(DRIVER)
    (tools / "nvidia-smi").chmod(0o755)
    service.environment.pop("CUDA_VISIBLE_DEVICES", None)
    service.set(PATH=f"{tools}:{os.environ['PATH']}", TEST_EPOCH_SECONDS=0.1)
    return service


def test_three_slots_share_two_gpus(gpus: Service) -> None:
    agent = gpus.launch("Pinned", "--workers", 3, "--trials", 3, "--epochs", 500, "--pruner", "none")
    gpus.wait_for_epoch(1, trials=3)
    status = gpus.hpo("status", "--study", "s").out
    for slot, owns in enumerate(("gpu 0 (1/2, 69.2 GiB)", "gpu 1 (140.4 GiB)", "gpu 0 (1/2, 69.2 GiB)")):
        assert re.search(rf" {slot}  {re.escape(owns)}, (core \d|1 core)", status), status
    assert gpus.hpo("stop", "--study", "s").code == 0
    assert agent.wait().code == 0
    rows = gpus.rows(SEEN)
    assert {row.slot for row in rows} == {0, 1, 2}
    for row in rows:
        gpu, share = ("GPU-bbbb2222", "none") if row.slot == 1 else ("GPU-aaaa1111", "0.4929")
        # Nothing was set in the template.
        assert f"template: none none; trainer: {gpu} {share}" in row.tail


@pytest.mark.parametrize(
    ("arguments", "seen"),
    [
        (("--gpus", "1"), "trainer: GPU-bbbb2222 0.4929"),
        (("--gpus", "none"), "trainer: -1 none"),
        (("--device", "cpu"), "trainer: -1 none"),
    ],
)
def test_device_options_assign_gpus(gpus: Service, arguments: tuple[str, ...], seen: str) -> None:
    gpus.set(TEST_EPOCH_SECONDS=0)
    assert gpus.launched("Pinned", "--workers", 2, "--trials", 2, *arguments).code == 0
    assert all(seen in row.tail for row in gpus.rows(SEEN))


def test_wrong_gpu_choice_is_refused_in_one_line(gpus: Service) -> None:
    refused = gpus.launched("Pinned", "--gpus", "0,5").complaint(2)
    assert "--gpus 5: no such GPU is visible (visible: 0, 1;" in refused
    contradiction = gpus.launched("Pinned", "--device", "gpu", "--gpus", "none")
    assert "contradict" in contradiction.complaint(2)
