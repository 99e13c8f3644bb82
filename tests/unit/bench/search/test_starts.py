"""Earlier studies and known configurations of the laboratory are as good or bad as their names say."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from bench.search import starts
from bench.search.curves import CurveTable
from bench.search.landscape import Surrogate
from bench.search.starts import Start, believed, earlier, searched
from tests.unit.bench.search.test_replay import made_table


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch) -> CurveTable:
    table = replace(made_table(), first={"rate": 0.03, "kind": "a", "size": 16})
    surrogate = Surrogate(table)
    monkeypatch.setattr(starts, "TRIALS", 16)
    monkeypatch.setattr(starts, "TRAININGS", 2)
    monkeypatch.setattr(starts, "_surrogate", lambda _: surrogate)
    return table


def test_earlier_study_ranks_by_its_goal(table: CurveTable) -> None:
    surrogate, rng = Surrogate(table), np.random.default_rng(0)
    regrets = {
        kind: [
            surrogate.curve(params, rng).regret for params in earlier(kind, table, 1)[0].configurations[:3]
        ]
        for kind in ("same", "misleading")
    }
    assert max(regrets["same"]) < min(regrets["misleading"])
    assert earlier("none", table, 1) == []


def test_search_begins_with_known_and_learned_configurations(table: CurveTable) -> None:
    good, wrong = (believed(kind, table, 1) for kind in ("good", "wrong"))
    assert good == table.first
    learned = earlier("same", table, 1)
    _, trials = searched(table, 1, Start(first=wrong, learned=learned), None)
    begun = [trial.params for trial in trials.study.trials[:2]]
    assert begun == [wrong, learned[0].configurations[0]]
