"""The request of `hpo worker` as a value."""
# ruff: noqa: RUF009 - `option_field` returns a field of a dataclass, not a default

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from hpo.options.fields import STUDY, code_field, option_field, workers_field
from hpo.options.hosts import AgentOptions


@dataclass(frozen=True, kw_only=True)
class WorkRequest:
    """Arguments of `hpo worker`."""

    study: str = field(metadata=STUDY)
    workers: int | None = workers_field("Worker slots: trials that run here at the same time.", ("--slots",))
    code: str | None = code_field(
        "Join although the objective's code differs here from that of the study.", "refuse"
    )
    data: Path | None = option_field(
        None,
        "Place of the study's own data on this host: a folder, table or file with the same content.",
        kind="path",
        show_default="the study's own",
    )
    agent: AgentOptions = AgentOptions()
