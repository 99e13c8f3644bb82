"""The objective of a retrain is that of its configuration."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from hpo.errors import ObjectiveBrokenError
from hpo.export.config import Config
from hpo.retrain.plan import check_declarations
from objectives.description import Description

CONFIG = Config(objective="o", params={"x": 1.0}, epochs=4, seed=1, metric="loss", direction="minimize")
DESCRIPTION = Description(name="o", metric="loss", direction="minimize", epochs=4, space={})


@pytest.mark.parametrize("changes", [{"metric": "score"}, {"direction": "maximize"}])
def test_changed_metric_or_direction_is_refused(changes: dict[str, Any]) -> None:
    (name,) = changes
    with pytest.raises(ObjectiveBrokenError, match=f"{name}: was .*, is {changes[name]}.*: restore the"):
        check_declarations(CONFIG, replace(DESCRIPTION, **changes))


def test_selected_metric_may_differ_from_that_of_the_objective() -> None:
    config = replace(CONFIG, metric="val_auc", direction="maximize", selects_metric=True)
    offered = replace(DESCRIPTION, metrics={"val_auc": "maximize"})
    check_declarations(config, offered)
    assert Config.from_json(config.to_json()) == config
    assert "selects_metric" not in CONFIG.to_json()
    for description, other in ((DESCRIPTION, config), (offered, replace(config, selects_metric=False))):
        with pytest.raises(ObjectiveBrokenError, match="metric: was val_auc, is loss"):
            check_declarations(other, description)


def test_function_has_the_direction_of_its_study() -> None:
    check_declarations(replace(CONFIG, direction="maximize"), replace(DESCRIPTION, declares_direction=False))


@pytest.mark.parametrize(("trained", "declared"), [(None, 4), (4, None)])
def test_objective_that_begins_or_ceases_to_declare_its_epochs_is_refused(
    trained: int | None, declared: int | None
) -> None:
    """A trial without a number of epochs would train an objective that loops over them without end."""
    with pytest.raises(ObjectiveBrokenError, match=r"epochs: was .*, is .*: restore the"):
        check_declarations(replace(CONFIG, epochs=trained), replace(DESCRIPTION, epochs=declared))


def test_other_number_of_epochs_is_the_users_choice() -> None:
    check_declarations(replace(CONFIG, epochs=9), DESCRIPTION)
