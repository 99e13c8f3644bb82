"""An Optuna storage that forwards every call to another; subclasses override a few."""

from __future__ import annotations

from typing import Any

from optuna.storages import BaseStorage


def _read(method: str) -> Any:
    """Return an attribute of `ForwardingStorage`: the method of the storage that it reads."""
    return property(lambda self: getattr(self._storage, method))


def _write(method: str) -> Any:
    """Return an attribute of `ForwardingStorage`: the method of the storage that it writes to."""
    return property(lambda self: getattr(self._to_write(), method))


class ForwardingStorage(BaseStorage):
    """Forwards reads and writes to another storage."""

    def __init__(self, storage: BaseStorage) -> None:
        self._storage = storage

    def _to_write(self) -> BaseStorage:
        """Return the storage for writes; a read-only subclass raises."""
        return self._storage

    get_all_studies = _read("get_all_studies")
    get_study_id_from_name = _read("get_study_id_from_name")
    get_study_name_from_id = _read("get_study_name_from_id")
    get_study_directions = _read("get_study_directions")
    get_study_user_attrs = _read("get_study_user_attrs")
    get_study_system_attrs = _read("get_study_system_attrs")
    get_trial = _read("get_trial")
    get_all_trials = _read("get_all_trials")
    remove_session = _read("remove_session")

    # Lookups that the base class would do in `get_all_trials`, which a subclass may filter.
    get_trial_id_from_study_id_trial_number = _read("get_trial_id_from_study_id_trial_number")
    get_trial_number_from_id = _read("get_trial_number_from_id")
    get_n_trials = _read("get_n_trials")

    create_new_study = _write("create_new_study")
    delete_study = _write("delete_study")
    set_study_user_attr = _write("set_study_user_attr")
    set_study_system_attr = _write("set_study_system_attr")
    create_new_trial = _write("create_new_trial")
    set_trial_param = _write("set_trial_param")
    set_trial_state_values = _write("set_trial_state_values")
    set_trial_intermediate_value = _write("set_trial_intermediate_value")
    set_trial_user_attr = _write("set_trial_user_attr")
    set_trial_system_attr = _write("set_trial_system_attr")
