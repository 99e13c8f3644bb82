"""The check of a model before its study is created."""

from __future__ import annotations

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from hpo.agent.model_check import check_model, one_configuration
from hpo.errors import ObjectiveBrokenError
from hpo.outcomes import Outcome
from hpo.trainer.ends.exits import SpawnFailed, TrainerExited
from hpo.trainer.messages import Finished
from hpo.trainer.testing import FakePool
from objectives.description import Description
from objectives.spaces.conditions import When
from objectives.spaces.space import stored_space

SPACE = stored_space(
    {
        "optimizer": CategoricalDistribution(["sgd", "adam"]),
        "momentum": When("optimizer", "sgd", FloatDistribution(0.0, 0.9)),
        "units": IntDistribution(1, 9),
    }
)


def described(first=()):
    return Description(
        name="o",
        metric="val_loss",
        direction="minimize",
        epochs=3,
        space=SPACE,
        first=first,
        builds_models=True,
    )


def check(pool, tmp_path):
    check_model(pool, described(), SPACE, tmp_path, lambda: None)
    assert not pool.busy
    return pool.starts[0]


def test_model_that_cannot_train_is_refused_in_one_line(tmp_path):
    pool = FakePool(
        scripts=[lambda _: [Finished(Outcome.BUG, "build() returned a model with outputs of (9,)")]]
    )
    with pytest.raises(
        ObjectiveBrokenError, match=r"^o cannot train: build\(\) returned a model with outputs"
    ):
        check(pool, tmp_path)
    assert not pool.busy


@pytest.mark.parametrize(
    "event", [Finished(Outcome.COMPLETE), TrainerExited("killed", -9, False), SpawnFailed("no memory")]
)
def test_check_without_a_verdict_lets_the_study_begin(event, tmp_path):
    start = check(FakePool(scripts=[lambda _: [event]]), tmp_path)
    assert (start.checks, start.metric, start.checkpoints) == (True, "val_loss", "")
    assert list(tmp_path.iterdir()) == []


def test_check_waits_for_the_data(tmp_path):
    pool = FakePool(ready=False, scripts=[lambda _: [Finished(Outcome.COMPLETE)]])
    waited = []

    def load():
        waited.append(len(pool.starts))
        pool.ready = len(waited) > 1

    pool.on_wait = load
    check(pool, tmp_path)
    assert waited[:2] == [0, 0]


@pytest.mark.parametrize(
    ("first", "known"),
    [
        ((), {}),
        (
            ({"optimizer": "sgd", "momentum": 0.5, "units": 3},),
            {"optimizer": "sgd", "momentum": 0.5, "units": 3},
        ),
        (({"optimizer": "adam", "units": 40},), {"optimizer": "adam"}),
    ],
)
def test_configuration_is_a_known_good_one_as_far_as_the_space_has_it(first, known):
    params = one_configuration(described(first), SPACE)
    assert params.items() >= known.items()
    assert set(params) == {"optimizer", "units"} | ({"momentum"} if params["optimizer"] == "sgd" else set())
    assert 1 <= params["units"] <= 9
