"""`hpo pause`, `hpo resume` and `hpo stop`: the state that a study should be in."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from hpo.cli import options
from hpo.cli.output import echo_text

if TYPE_CHECKING:
    from storage.studies import DesiredState

_MESSAGES = {
    "run": ("set to run", "Its agents continue.", "`hpo launch` adds an agent.", "starts one"),
    "pause": ("paused", "Its agents hold their trials.", "`hpo resume` continues it.", "continues it"),
    "stop": (
        "stopped",
        "Its agents checkpoint their trials and end.",
        "`hpo launch` continues it.",
        "continues it",
    ),
}
"""Messages of each state: its name, the effect on agents, the next step, the effect of a launch without agents."""


def _set_state(study: str, storage: str | None, state: DesiredState) -> None:
    from hpo.study.catalog import set_desired_state
    from hpo.study.monitoring.status import study_status

    with options.opened(storage) as database:
        before = set_desired_state(database, study, state)
        agents = study_status(database, study).agents
    name, effect, next_step, launched = _MESSAGES[state]
    if not agents:
        effect, next_step = "", f"No agent is running: `hpo launch --study {study}` {launched}."
    changed = f"{name}. {effect}".rstrip() if before != state else f"already {name}."
    echo_text(f"{study} is {changed} {next_step}")


@click.command()
@options.study_option
@options.storage_option
def pause(study: str, storage: str | None) -> None:
    """Pause a study: its agents hold their trials and wait."""
    _set_state(study, storage, "pause")


@click.command()
@options.study_option
@options.storage_option
def resume(study: str, storage: str | None) -> None:
    """Resume a paused study, or let agents join a stopped one."""
    _set_state(study, storage, "run")


@click.command()
@options.study_option
@options.storage_option
def stop(study: str, storage: str | None) -> None:
    """Stop a study: its agents checkpoint their trials and end.

    hpo launch continues the study, and so do hpo resume and hpo worker.
    """
    _set_state(study, storage, "stop")
