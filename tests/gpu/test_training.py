"""Training on a GPU, or else on the processor: examples on the device, streamed or from the host, and lanes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from hpo.devices.gpus import visible_gpus

pytestmark = pytest.mark.gpu

ROOT = Path(__file__).parents[2]
SECONDS = 200

WAYS = """
import json, numpy as np
from objectives import backend
from objectives.augment import Augmentation
from objectives.base import DataOptions
from objectives.device import Device
from objectives.local_run import LocalRun
from objectives.training.batches import placement
from tests.gpu.made_up import MadeUp

def trained(place):
    placement.placed = lambda *_: (place, "as the test wants it")
    objective = MadeUp()
    objective.prepare(DataOptions(), final=False)
    run = LocalRun(total_epochs=2, seed=3, device=DEVICE)
    objective.train(dict(objective.first[0]), run)
    return run.history[-1]["loss"], run.history[-1]["val_accuracy"]

print(json.dumps({place: trained(place) for place in ("gpu", "streamed", "host")}))
"""


def environment(**more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HPO_")}
    return kept | {"PYTHONPATH": str(ROOT), "KERAS_BACKEND": "jax"} | more


def test_examples_on_the_device_train_as_streamed_ones_and_those_of_the_host():
    gpus = visible_gpus()
    device = f"Device('gpu:0', gpu={gpus[0].address!r}, precision='float32')" if gpus else "Device()"
    code = WAYS.replace("DEVICE", device)
    found = subprocess.run(
        [sys.executable, "-c", code], env=environment(), capture_output=True, text=True, timeout=SECONDS
    )
    assert found.returncode == 0, found.stderr[-2000:]
    results: dict[str, Any] = json.loads(found.stdout.splitlines()[-1])
    losses = [loss for loss, _ in results.values()]
    assert max(losses) - min(losses) < 0.02 * max(losses)
    accuracies = [accuracy for _, accuracy in results.values()]
    assert max(accuracies) - min(accuracies) <= 0.05


def hpo(home: Path, *arguments: object) -> str:
    found = subprocess.run(
        [sys.executable, "-m", "hpo.cli", *map(str, arguments)],
        env=environment(HPO_HOME=str(home), HPO_RESULTS_DIR=str(home / "results")),
        capture_output=True,
        text=True,
        timeout=SECONDS,
        cwd=home.parent,
    )
    assert found.returncode == 0, (found.stdout + found.stderr)[-2000:]
    return found.stdout


@pytest.fixture
def home(tmp_path: Path) -> Path:
    # Started by root, PostgreSQL runs as another user, which needs access.
    for folder in (tmp_path, *tmp_path.parents[:3]):
        if folder.owner() == Path.home().owner() and folder != Path("/tmp"):
            folder.chmod(folder.stat().st_mode | 0o011)
    return tmp_path / "home"


def values(home: Path, *options: object) -> list[float]:
    """Search four configurations of one shape; return their losses in order."""
    objective = f"{ROOT / 'tests/gpu/made_up.py'}:MadeUp"
    study = f"s{time.monotonic_ns()}"
    fixed = (
        "--param",
        "batch_size=64",
        "--param",
        "optimizer=sgd",
        "--pruner",
        "none",
        "--sampler",
        "random",
    )
    hpo(
        home,
        "launch",
        "--study",
        study,
        "--objective",
        objective,
        "--trials",
        4,
        "--seed",
        5,
        *fixed,
        *options,
    )
    listed = json.loads(hpo(home, "trials", "--study", study, "--json"))
    rows = listed["trials"] if isinstance(listed, dict) else listed
    return [row["value"] for row in sorted(rows, key=lambda row: row["number"])]


def test_trials_in_lanes_train_as_one_by_one(home: Path):
    if "--lanes" not in hpo(home, "launch", "--help").split():
        pytest.skip("hpo launch has no option --lanes")
    alone = values(home, "--workers", 1, "--lanes", 1)
    assert values(home, "--workers", 1, "--lanes", 4) == pytest.approx(alone, abs=0.05)
