"""The training of an exported script, in this process."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest

from hpo.export.config import Config
from hpo.export.train_script import script

SOURCE = """
import numpy as np
from optuna.distributions import FloatDistribution
from hpo import Objective

class Mine(Objective):
    epochs, space = 3, {"x": FloatDistribution(0.0, 1.0)}

    def train(self, params, run):
        for epoch in run.epochs():
            run.report(loss=np.array([params["x"] + abs(epoch - 2)]))
"""


@pytest.mark.parametrize(("rule", "value"), [("last", 1.5), ("best", 0.5)])
def test_script_prints_the_value_of_the_trial(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    rule: str,
    value: float,
) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    path = tmp_path / "mine.py"
    path.write_text(SOURCE)
    config = Config(
        objective=f"{path}:Mine",
        params={"x": 0.5},
        epochs=3,
        seed=1,
        metric="loss",
        direction="minimize",
        value=value,
        value_rule=rule,
    )
    best = tmp_path / "best.py"
    best.write_text(script(config))
    runpy.run_path(str(best), run_name="__main__")
    *_, second, third, last = capsys.readouterr().out.splitlines()
    assert (second, third) == ("epoch 2/3 loss=0.5", "epoch 3/3 loss=1.5")
    assert last == f"loss = {value}, as in the trial"
