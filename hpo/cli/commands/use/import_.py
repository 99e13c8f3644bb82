"""`hpo import`: bring known results into a study."""

from __future__ import annotations

from pathlib import Path

import click

from hpo import formatting
from hpo.cli import options
from hpo.cli.options import option
from hpo.cli.output import echo_text
from hpo.cli.types import NamedPath


@click.command("import")
@options.study_option
@click.argument("file", type=NamedPath(folders=False), required=False)
@option(
    "--from",
    "source",
    metavar="URL",
    show_default="FILE",
    help="Storage of plain Optuna: an SQLite or journal file, or a database URL. It is only read.",
)
@option(
    "--from-study",
    "name",
    metavar="NAME",
    show_default="the one called as --study, else the only one",
    help="Study in the storage of --from.",
)
@options.storage_option
def import_(study: str, file: Path | None, source: str | None, name: str | None, storage: str | None) -> None:
    """Add known results, from which the study's sampler learns.

    FILE is CSV or JSON with a row for each result: the parameters and value, as printed by hpo trials --csv or --json,
    or as in Optuna's data frames. A parameter named like another column is in param_NAME. Choices that look the same in
    CSV, such as 1 and "1", need JSON. Rows that are not complete are skipped, results imported before too.

    With --from, the complete and pruned trials of an Optuna study are added with their intermediate values; those
    outside the search space are skipped and counted.

    The results were not trained here: they do not count towards --trials, and the best trial is never one of them.
    """
    if (file is None) == (source is None):
        raise click.UsageError("give either FILE or --from URL")
    if name is not None and source is None:
        raise click.UsageError("--from-study names a study in the storage of --from: give --from URL")
    with options.opened(storage) as database:
        if source is not None:
            from hpo.study.changes.imported_study import import_study

            done = import_study(database, study, source, name)
        else:
            from hpo.study.changes.known_results import import_results

            assert file is not None
            done = import_results(database, study, file)
    skipped = "not complete" if source is None else "neither complete nor pruned"
    outside = f", {done.outside} outside its space, such as {done.outside_example}" if done.outside else ""
    echo_text(
        f"added {formatting.counted(done.added, 'result')} to {study}"
        f" ({done.known} known already, {done.skipped} {skipped}{outside}): hpo trials --study {study} lists them"
    )
