"""`hpo tag`: tags of a study."""

from __future__ import annotations

import click

from hpo.cli import options
from hpo.cli.options import option
from hpo.cli.output import echo_text


@click.command()
@options.study_option
@click.argument("tags", nargs=-1, required=True, metavar="TAG...")
@option("--remove", is_flag=True, show_default="add", help="Remove the tags.")
@options.storage_option
def tag(study: str, tags: tuple[str, ...], remove: bool, storage: str | None) -> None:
    """Add tags to a study; hpo ls --tag TAG lists the studies that have one.

    hpo status and hpo ls show them.
    """
    from hpo.study.changes.tags import change_tags

    with options.opened(storage) as database:
        now = change_tags(database, study, tags, remove=remove)
    echo_text(f"{study} has the tags {', '.join(now)}" if now else f"{study} has no tag now")
