"""A storage that passes on passes on everything."""

from __future__ import annotations

import inspect
from unittest.mock import create_autospec

import pytest
from optuna.storages import BaseStorage

from storage.optuna.proxy import ForwardingStorage

LOOKUPS = ("get_trial_id_from_study_id_trial_number", "get_trial_number_from_id", "get_n_trials")


@pytest.mark.parametrize("name", sorted({*BaseStorage.__abstractmethods__, "remove_session", *LOOKUPS}))
def test_every_call_reaches_the_wrapped_storage(name: str) -> None:
    other = create_autospec(BaseStorage, instance=True)
    parameters = list(inspect.signature(getattr(BaseStorage, name)).parameters)[1:]
    arguments = [object() for _ in parameters]
    result = getattr(ForwardingStorage(other), name)(*arguments)
    getattr(other, name).assert_called_once_with(*arguments)
    if result is not None:
        assert result is getattr(other, name).return_value
