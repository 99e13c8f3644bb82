"""`hpo ls`: all studies of a database."""

from __future__ import annotations

import click

from hpo import formatting
from hpo.cli import options, output
from hpo.cli.options import option
from hpo.cli.output import echo_text
from objectives.trial_value import judged_metric


@click.command()
@option(
    "--tag",
    "tags",
    metavar="TAG",
    multiple=True,
    show_default="all studies",
    help="List the studies with this tag. Repeatable: with each of them.",
)
@options.json_option
@options.storage_option
def ls(tags: tuple[str, ...], as_json: bool, storage: str | None) -> None:
    """List studies, newest first."""
    from hpo.study.catalog import list_studies

    with options.opened(storage) as database:
        found = list_studies(database, tags)
    if as_json:
        output.echo_json([study.to_json() for study in found])
        return
    if not found:
        if tags:
            echo_text(f"no study has the tag {' and '.join(tags)}: hpo ls lists all")
            return
        echo_text("no study yet; create one: hpo launch --study digits-cnn --trials 12")
        return
    headers = (
        "study",
        "condition",
        "finished",
        "failed",
        "running",
        "best",
        "metric",
        "objective",
        "created",
    )
    tagged = any(study.tags for study in found)
    # Without tags there is no column for them.
    tags_column = ("tags",) if tagged else ()
    output.echo_table(
        (*headers, *tags_column),
        [
            (
                study.name,
                study.state,
                f"{study.finished}/{study.budget}",
                str(study.failed),
                str(study.running),
                formatting.metric(study.best_value),
                judged_metric(study.metric, study.value_rule),
                _short_objective(study.objective),
                f"{study.created_at:%Y-%m-%d %H:%M}Z",
                *([", ".join(study.tags)] if tagged else []),
            )
            for study in found
        ],
        right=("finished", "failed", "running", "best"),
        wrap=("study", "objective", *tags_column),
        drop=("created", *tags_column, "metric", "objective", "failed", "running"),
    )


def _short_objective(reference: str) -> str:
    """Return a reference without the folders of its file."""
    return reference.rpartition("/")[2]
