"""`hpo objectives` and `hpo data`, which work without Keras."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hpo.cli.main import run
from objectives.loader import names

MINE = """
from objectives.base import Objective
from optuna.distributions import IntDistribution

class Mine(Objective):
    \"\"\"A search of my own.\"\"\"
    epochs, space, first = 3, {"depth": IntDistribution(1, 4)}, [{"depth": 2}]

    def train(self, params, run): ...
"""


def test_all_objectives_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["objectives"]) == 0
    printed = capsys.readouterr().out
    for name in names():
        assert f"\n{name}: " in f"\n{printed}"
    assert "maximize val_accuracy" in printed
    assert printed.count("tried first: ") >= len(names())
    assert printed.count("data yours (--data); ") == sum(name.startswith("image-") for name in names()) == 3


def test_objective_of_a_file_is_shown(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(MINE)
    assert run(["objectives", f"{tmp_path}/mine.py:Mine"]) == 0
    assert capsys.readouterr().out.splitlines()[1:] == [
        "  data its own; 3 epochs; minimize loss",
        "  depth  1 to 4, whole numbers",
        "  tried first: depth=2",
    ]


def test_objectives_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["objectives", "digits-cnn", "--json"]) == 0
    (one,) = json.loads(capsys.readouterr().out)
    assert one["dataset"] == "digits"
    assert one["space"]["learning_rate"]["attributes"]["log"] is True


def test_unknown_objective_suggests_nearest_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["objectives", "digit-cnn"]) == 2
    assert "digits-cnn" in capsys.readouterr().err


def test_verify_of_bundled_data(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert run(["data", "fetch", "digits", "--data-dir", str(tmp_path)]) == 0
    assert capsys.readouterr().out == "digits: bundled, nothing to download\n"
    assert run(["data", "verify", "digits", "--json"]) == 0
    (report,) = json.loads(capsys.readouterr().out)
    assert report["problems"] == []
    assert len(report["class_counts"]["train"]) == 10
    assert run(["data", "verify", "digits"]) == 0
    assert "examples per class, test" in capsys.readouterr().out


def test_verify_fails_for_damaged_or_unknown_data(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "mnist.npz").write_bytes(b"no zip")
    assert run(["data", "verify", "mnist", "--data-dir", str(tmp_path)]) == 1
    captured = capsys.readouterr()
    assert "mnist.npz" in captured.err
    assert run(["data", "verify", "mnistt", "--data-dir", str(tmp_path)]) == 2
    assert "mnist" in capsys.readouterr().err
