"""`hpo ls`: all studies of a database."""

from __future__ import annotations

import click

from hpo import formatting
from hpo.cli import options, output


@click.command()
@options.json_option
@options.storage_option
def ls(as_json: bool, storage: str | None) -> None:
    """List all studies, newest first."""
    from hpo.study.catalog import list_studies

    with options.opened(storage) as database:
        found = list_studies(database)
    if as_json:
        output.echo_json([study.to_json() for study in found])
        return
    if not found:
        click.echo("no study yet; create one: hpo launch --study digits-cnn --trials 12")
        return
    output.echo_table(
        ("study", "condition", "finished", "failed", "running", "best", "metric", "objective", "created"),
        [
            (
                study.name,
                study.state,
                f"{study.finished}/{study.budget}",
                str(study.failed),
                str(study.running),
                formatting.metric(study.best_value),
                study.metric,
                _short_objective(study.objective),
                f"{study.created_at:%Y-%m-%d %H:%M}Z",
            )
            for study in found
        ],
        right=("finished", "failed", "running", "best"),
        wrap=("study", "objective"),
        drop=("created", "metric", "objective", "failed", "running"),
    )


def _short_objective(reference: str) -> str:
    """Return a reference without the folders of its file."""
    return reference.rpartition("/")[2]
