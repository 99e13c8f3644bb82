"""The tables with rows of a study, with their ids and references, in the order in which rows can be written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class KeptTable:
    """A table with rows of a study."""

    name: str
    of_study: str
    """SQL condition that a row `x` belongs to the study `:s`."""
    own: str | None = None
    """Column of its id, for which the target database assigns new values."""
    refers: Mapping[str, str] = field(default_factory=dict)
    """Columns that hold ids of other tables, with the tables' names."""

    @property
    def referred_to(self) -> bool:
        """Whether rows of other tables hold ids of this one."""
        return any(self.name in table.refers.values() for table in TABLES)


_STUDY = {"study_id": "public.studies"}

_TRIAL = {"trial_id": "public.trials"}

_IN_STUDY = "x.study_id = :s"

_IN_TRIAL = "x.trial_id IN (SELECT trial_id FROM public.trials WHERE study_id = :s)"

_IN_RESERVATION = "x.reservation_id IN (SELECT reservation_id FROM hpo.trials WHERE study_id = :s)"

_IN_ATTEMPT = (
    "x.attempt_id IN (SELECT attempt_id FROM hpo.attempts JOIN hpo.trials USING (reservation_id)"
    " WHERE study_id = :s)"
)

TABLES = (
    KeptTable("public.studies", _IN_STUDY, "study_id"),
    KeptTable("public.study_directions", _IN_STUDY, "study_direction_id", _STUDY),
    KeptTable("public.study_user_attributes", _IN_STUDY, "study_user_attribute_id", _STUDY),
    KeptTable("public.trials", _IN_STUDY, "trial_id", _STUDY),
    # After the trials, because its keys may contain their ids.
    KeptTable("public.study_system_attributes", _IN_STUDY, "study_system_attribute_id", _STUDY),
    KeptTable("public.trial_params", _IN_TRIAL, "param_id", _TRIAL),
    KeptTable("public.trial_values", _IN_TRIAL, "trial_value_id", _TRIAL),
    KeptTable("public.trial_intermediate_values", _IN_TRIAL, "trial_intermediate_value_id", _TRIAL),
    KeptTable("public.trial_system_attributes", _IN_TRIAL, "trial_system_attribute_id", _TRIAL),
    KeptTable("public.trial_heartbeats", _IN_TRIAL, "trial_heartbeat_id", _TRIAL),
    KeptTable("hpo.studies", _IN_STUDY, None, _STUDY),
    KeptTable("hpo.agents", _IN_STUDY, "agent_id", _STUDY),
    KeptTable("hpo.trials", _IN_STUDY, "reservation_id", _STUDY | _TRIAL),
    # After hpo.trials, because one attribute is the reservation_id.
    KeptTable("public.trial_user_attributes", _IN_TRIAL, "trial_user_attribute_id", _TRIAL),
    KeptTable(
        "hpo.attempts",
        _IN_RESERVATION,
        "attempt_id",
        {"reservation_id": "hpo.trials", "agent_id": "hpo.agents"},
    ),
    KeptTable("hpo.attempt_logs", _IN_ATTEMPT, None, {"attempt_id": "hpo.attempts"}),
    KeptTable(
        "hpo.epochs", _IN_RESERVATION, None, {"reservation_id": "hpo.trials", "attempt_id": "hpo.attempts"}
    ),
    KeptTable("hpo.rungs", _IN_STUDY, None, {"reservation_id": "hpo.trials", **_STUDY}),
    KeptTable("hpo.retrains", _IN_STUDY, "retrain_id", _STUDY),
)
"""Tables in the order in which their rows can be written; a test compares with the schema."""

BY_NAME = {table.name: table for table in TABLES}
