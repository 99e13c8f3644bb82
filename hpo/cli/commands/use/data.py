"""`hpo data`: fetch, verify and explore data sets, and the cache of images of your own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from hpo import formatting
from hpo.cli import options, output
from hpo.cli.output import echo_table, echo_text
from hpo.cli.types import DATA, OBJECTIVE, NamedPath
from hpo.errors import DataDamagedError, UsageError
from hpo.options.images import ImageOptions
from hpo.options.launch_request import LaunchRequest
from objectives.data_options import TASKS, TaskName

if TYPE_CHECKING:
    from objectives.images.cache import Cached


class _DataCommand(click.Command):
    """A command whose help ends with the names of the data sets, which are imported only then."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        from objectives.data.shipped import SHIPPED

        self.epilog = f"Data sets: {', '.join(SHIPPED)}."
        super().format_epilog(ctx, formatter)


@click.group()
def data() -> None:
    """Download, check or explore the data sets that objectives train on."""


@data.command(cls=_DataCommand)
@click.argument("names", metavar="NAME...", nargs=-1, required=True, type=DATA)
@options.data_dir_option
def fetch(names: tuple[str, ...], data_dir: Path | None) -> None:
    """Download data sets to the data folder, except bundled ones."""
    from objectives.data.datasets import fetch as fetch_data

    folder = options.settings(data_dir=data_dir).data_dir
    for name in names:
        path = fetch_data(name, folder)
        echo_text(f"{name}: {path if path else 'bundled, nothing to download'}")


@data.command(cls=_DataCommand)
@click.argument("names", metavar="NAME...", nargs=-1, required=True, type=DATA)
@options.option(
    "--task",
    type=click.Choice(TASKS),
    default="classes",
    show_default=True,
    help="Task that the targets are checked for.",
)
@options.data_dir_option
@options.json_option
def verify(names: tuple[str, ...], task: TaskName, data_dir: Path | None, as_json: bool) -> None:
    """Check data sets completely; exit code 1 if one is damaged."""
    from objectives.data.verification import verify as verify_data

    reports = [verify_data(name, options.settings(data_dir=data_dir).data_dir, task) for name in names]
    if as_json:
        output.echo_json([{**asdict(report), "path": report.path and str(report.path)} for report in reports])
    else:
        for report in reports:
            echo_text(f"{report.name}: {report.path or 'bundled, or in the download cache'}")
            output.echo_facts(
                [
                    *([("  sha256", report.sha256)] if report.sha256 else []),
                    *((f"  {name}", shape) for name, shape in report.arrays.items()),
                    *(
                        (
                            f"  examples per {'label' if task == 'labels' else 'class'}, {split}",
                            " ".join(map(str, counts)),
                        )
                        for split, counts in report.class_counts.items()
                    ),
                ]
            )
    damaged = [f"{report.name}: {problem}" for report in reports for problem in report.problems]
    if damaged:
        raise DataDamagedError("; ".join(damaged))


@data.command(cls=_DataCommand)
@click.argument("name", metavar="[NAME]", required=False, type=DATA)
@options.request_options(ImageOptions, omit=("data", "skip_unreadable"))
@options.field_option(
    LaunchRequest,
    "study",
    required=False,
    show_default="none",
    help="Study whose retrained model judges the labels; its data are explored unless NAME is given.",
)
@options.option(
    "--model",
    metavar="PATH",
    type=NamedPath(),
    show_default="the study's, if any",
    help="Folder of a retrain, or the model.keras in it, that judges the labels; needs no database.",
)
@options.option(
    "--objective",
    metavar="REF",
    type=OBJECTIVE,
    show_default="no code is run",
    help="Objective whose code --model needs.",
)
@options.data_dir_option
@options.storage_option
@options.output_option(
    "DIR", "HPO_RESULTS_DIR/data-<name>", "Folder for the page, the pictures and the data."
)
def explore(
    name: str | None,
    request: ImageOptions,
    study: str | None,
    model: Path | None,
    objective: str | None,
    data_dir: Path | None,
    storage: str | None,
    output: Path | None,
) -> None:
    """Explore a data set before training on it.

    Shows formats, sizes and unreadable files, classes and their balance, examples, pixels, the effect of
    normalization and augmentation, duplicates within and between the splits, and suspicious labels: as
    tables, as a page and as Markdown with pictures.

    NAME is a folder or table of images, an .npz file or a folder of .npy files, a data set, or an objective whose
    data to explore. Images are decoded into the cache, where a launch with the same options finds them.
    """
    from hpo.document.document import Table
    from hpo.explore.exploration_document import terminal_blocks
    from hpo.explore.request import ExploreRequest, run

    if name == "":
        raise UsageError("NAME is empty: give a data set, a path or an objective, or a study with --study")
    from_environment = (
        click.get_current_context().get_parameter_source("study") is ParameterSource.ENVIRONMENT
    )
    if from_environment and (name is not None or model is not None):
        # The variable names the study of other commands; a database may not even exist here.
        study = None
    explored = run(
        ExploreRequest(
            name=name, study=study, model=model, objective=objective, images=request, output=output
        ),
        options.settings(storage, data_dir),
    )
    document = explored.document
    echo_text(f"{document.title}: {document.subtitle}")
    for title, blocks in terminal_blocks(document):
        echo_text(f"\n{click.style(title, bold=True)}")
        for block in blocks:
            if isinstance(block, Table):
                echo_table(block.headers, block.rows, right=block.right, wrap=block.headers[-1:])
            else:
                echo_text(block.text)
    pictures = formatting.counted(sum(one.endswith(".png") for one in explored.files), "picture")
    echo_text(
        f"\nwrote {explored.folder / explored.files[0]}, explore.md with {pictures}, and statistics.json"
    )


@data.command()
@click.argument("digests", metavar="[DIGEST...]", nargs=-1)
@click.option(
    "--clear", is_flag=True, show_default="off", help="Remove these data sets, or all, but those in use."
)
@options.json_option
def cache(digests: tuple[str, ...], clear: bool, as_json: bool) -> None:
    """Show or clear the cache of decoded images.

    hpo launch --data decodes images once into HPO_HOME/cache, where all trials of this host share them. The data
    sets used least recently are removed when the cache would exceed HPO_CACHE_SIZE (50G unless set).
    """
    from hpo.agent.image_data import image_cache

    found = image_cache(options.settings())
    cached = found.list()
    unknown = sorted(set(digests) - {one.digest for one in cached})
    if unknown:
        raise UsageError(f"no cached data set {', '.join(unknown)}: hpo data cache lists them")
    chosen = [one for one in cached if not digests or one.digest in digests]
    if not clear:
        _echo_cached(chosen, as_json)
        return
    removed = [one for one in chosen if found.remove(one.digest)]
    if not digests:
        found.clear_leftovers()
    freed, kept = formatting.size(sum(one.bytes for one in removed)), len(chosen) - len(removed)
    in_use = f"; {formatting.counted(kept, 'data set')} in use kept" if kept else ""
    if as_json:
        output.echo_json({"removed": [one.digest for one in removed], "kept": kept})
    else:
        echo_text(f"{formatting.counted(len(removed), 'data set')} removed, {freed} freed{in_use}")


def _echo_cached(cached: Sequence[Cached], as_json: bool) -> None:
    if as_json:
        output.echo_json([asdict(one) for one in cached])
        return
    if not cached:
        echo_text("no cached data set: hpo launch --data makes one")
        return
    rows = []
    for one in cached:
        about = one.about
        used_at = datetime.fromtimestamp(one.used_at).astimezone()
        rows.append(
            (
                one.digest,
                "damaged" if about is None else f"{about.images:,}",
                "" if about is None else "×".join(map(str, about.geometry.shape)),
                formatting.size(one.bytes),
                "now" if one.in_use else f"{used_at:%Y-%m-%d %H:%M}",
                "" if about is None else about.source,
            )
        )
    echo_table(
        ("digest", "images", "shape", "size", "used", "source"),
        rows,
        right=("images", "size"),
        wrap=("source",),
    )
    echo_text(f"{formatting.size(sum(one.bytes for one in cached))} in total")
