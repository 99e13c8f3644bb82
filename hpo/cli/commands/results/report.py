"""`hpo report`: the report of a study."""

from __future__ import annotations

from pathlib import Path

import click

from hpo import formatting
from hpo.cli import options
from hpo.cli.output import echo_text


@click.command()
@options.study_option
@options.output_option(
    "DIR", "HPO_RESULTS_DIR/<study>", "Folder to write to; existing files of the same names are replaced."
)
@options.storage_option
def report(study: str, output: Path | None, storage: str | None) -> None:
    """Write a study's report: a page, Markdown with pictures, data.

    Begins with the result, followed by the test set, the search, the effect of each hyperparameter, the
    cost, and how to reproduce it. Works while the study runs, and marks the report as unfinished.
    """
    from hpo.report.study_report import report as write_report

    folder = output or options.settings(storage).results_dir / study
    with options.opened(storage) as database:
        names = write_report(database, study, folder)
    pictures = formatting.counted(sum(name.endswith(".png") for name in names), "picture")
    echo_text(f"wrote {folder / 'report.html'}, report.md with {pictures}, and")
    echo_text(f"  {', '.join(name for name in names if name.endswith(('.csv', '.json')))}")
