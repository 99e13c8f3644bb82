"""`hpo pause`, `hpo resume` and `hpo stop`: the state that a study should be in."""

from __future__ import annotations

import click

from hpo.cli import options


def _tell(study: str, storage: str | None, told: str) -> None:
    from typing import cast

    from hpo.study.catalog import set_control
    from storage.control import Control

    after = {
        "run": "its agents go on",
        "pause": "its agents hold their trials; hpo resume lets them go on",
        "stop": "its agents checkpoint their trials and end; hpo launch continues them",
    }
    with options.opened(storage) as database:
        before = set_control(database, study, cast(Control, told))
    same = " already" if before == told else ""
    click.echo(f"{study} is{same} told to {told}: {after[told]}")


@click.command()
@options.study_option
@options.storage_option
def pause(study: str, storage: str | None) -> None:
    """Have every agent hold its trials and wait."""
    _tell(study, storage, "pause")


@click.command()
@options.study_option
@options.storage_option
def resume(study: str, storage: str | None) -> None:
    """Let a paused study go on, and a stopped one be joined."""
    _tell(study, storage, "run")


@click.command()
@options.study_option
@options.storage_option
def stop(study: str, storage: str | None) -> None:
    """Have every agent checkpoint its trials and end.

    hpo launch, or hpo resume and hpo worker, continue the study.
    """
    _tell(study, storage, "stop")
