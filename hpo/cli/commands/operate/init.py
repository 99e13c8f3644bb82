"""`hpo init`: create or upgrade the tables."""

from __future__ import annotations

import click

from hpo.cli import options
from hpo.cli.output import echo_text


@click.command()
@options.storage_option
def init(storage: str | None) -> None:
    """Create or upgrade the database's tables.

    Every command does so when it starts; use this one as a job that runs before many of them. It may run
    several times at once.
    """
    from hpo.formatting import counted
    from hpo.study.catalog import describe_database, study_names

    with options.opened(storage, starts=True) as database:
        studies = counted(len(study_names(database)), "study", "studies")
        echo_text(f"the tables in {describe_database(database)} are up to date; {studies}")
