"""The check of an objective in place of a trial."""

from __future__ import annotations

import pytest
from optuna.distributions import CategoricalDistribution

from hpo.errors import ObjectiveBrokenError
from hpo.outcomes import Outcome
from hpo.trainer import trainer
from hpo.trainer.messages import Finished
from hpo.trainer.testing import prepared, start_message
from objectives.keras_objective import KerasObjective


class Checked(KerasObjective):
    """An objective that is only checked."""

    space = {"error": CategoricalDistribution(["none", "misfit", "other"])}

    def build(self, params, data):
        raise NotImplementedError

    def check(self, params, device, metric=None):
        assert (device.name, metric) == ("cpu", "loss")
        if params["error"] == "misfit":
            raise ObjectiveBrokenError("build() returned a model that does not fit")
        if params["error"] == "other":
            raise ValueError("a kernel larger than its image")


@pytest.mark.parametrize(
    ("error", "finished"),
    [
        ("none", Finished(Outcome.COMPLETE)),
        ("misfit", Finished(Outcome.BUG, "build() returned a model that does not fit")),
        # Perhaps of this configuration alone: the trials show it.
        ("other", Finished(Outcome.COMPLETE)),
    ],
)
def test_check_fails_only_where_no_model_can_train(error: str, finished: Finished) -> None:
    start = start_message(params={"error": error}, checks=True)
    assert trainer._checked(prepared(Checked()), start) == finished
