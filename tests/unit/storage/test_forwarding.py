"""A storage that passes on passes on everything."""

from __future__ import annotations

import inspect
from unittest.mock import create_autospec

import pytest
from optuna.storages import BaseStorage

from storage.forwarding import ForwardingStorage


@pytest.mark.parametrize("name", sorted({*BaseStorage.__abstractmethods__, "remove_session"}))
def test_every_call_reaches_the_other_storage(name: str) -> None:
    other = create_autospec(BaseStorage, instance=True)
    parameters = list(inspect.signature(getattr(BaseStorage, name)).parameters)[1:]
    arguments = [object() for _ in parameters]
    result = getattr(ForwardingStorage(other), name)(*arguments)
    getattr(other, name).assert_called_once_with(*arguments)
    if result is not None:
        assert result is getattr(other, name).return_value
