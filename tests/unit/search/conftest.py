from __future__ import annotations

import optuna
import pytest
from optuna.storages import InMemoryStorage


@pytest.fixture
def storage() -> InMemoryStorage:
    """A storage with an empty study `s`."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = InMemoryStorage()
    optuna.create_study(study_name="s", storage=storage, direction="minimize")
    return storage
