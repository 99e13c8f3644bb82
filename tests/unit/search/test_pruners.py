"""Pruners built from a spec."""

from __future__ import annotations

from dataclasses import replace

import optuna
import pytest

from hpo.search.pruners import PRUNERS, build_pruner
from tests.specs import SPACE, spec

SPEC = spec(epochs=9)


@pytest.mark.parametrize("pruner", PRUNERS)
@pytest.mark.parametrize("epochs", [1, 2, 3, 9, 200])
def test_pruner_is_built_for_any_number_of_epochs(pruner: str, epochs: int) -> None:
    assert isinstance(build_pruner(replace(SPEC, pruner=pruner, epochs=epochs)), optuna.pruners.BasePruner)


@pytest.mark.parametrize(
    ("pruner", "epoch", "pruned"),
    [
        ("none", 8, False),
        ("median", 2, False),
        ("median", 3, True),
        ("asha", 1, True),
        ("hyperband", 8, True),
    ],
)
def test_unpromising_trial_is_pruned_after_warmup(pruner: str, epoch: int, pruned: bool) -> None:
    study = optuna.create_study(study_name="s", pruner=build_pruner(replace(SPEC, pruner=pruner, startup=4)))
    for _ in range(12):
        good = study.ask(SPACE)
        for step in range(1, 10):
            good.report(1.0 / step, step)
            good.should_prune()
        study.tell(good, 1.0 / 9)
    answers = []
    # Several, because Hyperband spreads them over brackets, one of which prunes nothing.
    for _ in range(6):
        hopeless = study.ask(SPACE)
        for step in range(1, epoch + 1):
            hopeless.report(1000.0, step)
            answers.append(hopeless.should_prune())
    assert any(answers) == pruned
