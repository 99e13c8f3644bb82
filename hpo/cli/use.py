"""Commands that use what there is: export, data, doctor, delete."""

from __future__ import annotations

from pathlib import Path

import click

from hpo.cli import options, output
from hpo.cli.options import DataName, NearestChoice, option
from hpo.cli.output import echo_table
from hpo.errors import DataDamagedError, FileNotWritableError
from hpo.options import SlotOptions


@click.command()
@options.study_option
@option(
    "--format",
    "form",
    type=NearestChoice(("yaml", "json", "toml", "python")),
    show_default="by the suffix of --output, else yaml",
    help="Kind of file; the Python one is a script that trains it as its trial was trained.",
)
@option(
    "--output",
    "-o",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    show_default="standard output",
    help="Where to write it.",
)
@options.trial_option
@options.storage_option
def export(study: str, form: str | None, output: Path | None, trial: int | None, storage: str | None) -> None:
    """Write the best configuration, ready to train again."""
    from hpo.export.best_config import build_config
    from hpo.export.config_file import FORMATS, SUFFIXES, render

    context = click.get_current_context()
    if output is not None and not output.name:
        raise click.UsageError("--output needs the name of a file", context)
    by_suffix = SUFFIXES.get(output.suffix.lower()) if output else None
    if output is not None and form and by_suffix and form != by_suffix:
        raise click.UsageError(
            f"--format {form} contradicts --output {output}, whose suffix names {by_suffix}: "
            "give one of the two",
            context,
        )
    wanted = next((known for known in FORMATS if known == form), by_suffix or "yaml")
    with options.opened(storage) as database:
        text = render(build_config(database, study, trial), wanted)
    if output is None:
        click.echo(text, nl=False)
        return
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(text, encoding="utf-8")
    except OSError as exc:
        raise FileNotWritableError(f"{output} cannot be written: {exc.strerror or exc}") from exc
    click.echo(f"wrote {output}" if by_suffix else f"wrote {output} as {wanted}")


@click.group()
def data() -> None:
    """Download, check or explore the data sets that objectives train on."""


@data.command()
@click.argument("names", metavar="NAME...", nargs=-1, required=True, type=DataName())
@options.data_dir_option
def fetch(names: tuple[str, ...], data_dir: Path | None) -> None:
    """Download data sets (mnist, cifar10) to where studies look for them."""
    from objectives.data.datasets import fetch as fetch_data

    folder = options.settings(data_dir=data_dir).data_dir
    for name in names:
        path = fetch_data(name, folder)
        click.echo(f"{name}: {path if path else 'bundled, nothing to download'}")


@data.command()
@click.argument("names", metavar="NAME...", nargs=-1, required=True, type=DataName())
@options.data_dir_option
@options.json_option
def verify(names: tuple[str, ...], data_dir: Path | None, as_json: bool) -> None:
    """Read data sets whole and say what they hold; an unsound one ends with exit code 1."""
    from objectives.data.datasets import verify as verify_data

    reports = [verify_data(name, options.settings(data_dir=data_dir).data_dir) for name in names]
    if as_json:
        output.echo_json(
            [
                {
                    "name": report.name,
                    "path": str(report.path) if report.path else None,
                    "sha256": report.sha256,
                    "arrays": dict(report.arrays),
                    "class_counts": {split: list(counts) for split, counts in report.class_counts.items()},
                    "problems": list(report.problems),
                }
                for report in reports
            ]
        )
    else:
        for report in reports:
            click.echo(f"{report.name}: {report.path or 'bundled, or in the download cache'}")
            output.echo_facts(
                [
                    *([("  sha256", report.sha256)] if report.sha256 else []),
                    *((f"  {name}", shape) for name, shape in report.arrays.items()),
                    *(
                        (f"  images per class, {split}", " ".join(map(str, counts)))
                        for split, counts in report.class_counts.items()
                    ),
                ]
            )
    unsound = [f"{report.name}: {problem}" for report in reports for problem in report.problems]
    if unsound:
        raise DataDamagedError("; ".join(unsound))


@data.command()
@click.argument("name", metavar="NAME", type=DataName())
@options.data_dir_option
@option(
    "--output",
    "-o",
    metavar="DIR",
    type=click.Path(path_type=Path, file_okay=False),
    show_default="HPO_RESULTS_DIR/data-<name>",
    help="Folder to write the page, the pictures and the data to.",
)
def explore(name: str, data_dir: Path | None, output: Path | None) -> None:
    """Show what a data set holds, before training on it.

    Classes and their balance, samples, pixels, what normalization and augmentation do to an image,
    duplicates within and between the splits, labels to look at: as tables, as a page and as Markdown
    with pictures. NAME is a data set, or an objective for the data that it trains on.
    """
    from hpo.document.document import Table
    from hpo.explore.dataset import load_subject
    from hpo.explore.exploration_document import terminal_blocks
    from hpo.explore.explore import explore as explore_data

    found = options.settings(data_dir=data_dir)
    subject = load_subject(name, found.data_dir)
    folder = output or found.results_dir / f"data-{subject.name}"
    document, written = explore_data(subject, folder)
    click.echo(f"{document.title}: {document.subtitle}")
    for title, blocks in terminal_blocks(document):
        click.echo(f"\n{click.style(title, bold=True)}")
        for block in blocks:
            if isinstance(block, Table):
                echo_table(block.headers, block.rows, right=block.right, wrap=block.headers[-1:])
            else:
                click.echo(block.text)
    pictures = sum(one.endswith(".png") for one in written)
    click.echo(f"\nwrote {folder / written[0]}, explore.md with {pictures} pictures, and statistics.json")


@click.command()
@options.workers_option("Slots that are shown: what each would own.")
@options.slot_options
@options.data_dir_option
@options.json_option
@options.storage_option
def doctor(
    workers: int | None,
    gpus: str | None,
    device: str | None,
    data_dir: Path | None,
    as_json: bool,
    storage: str | None,
) -> int:
    """Check this machine, and say what to do.

    Storage, data, accelerators, versions, disk, cores, memory, and what each worker slot would own.
    Exit code 1 when something that is needed fails.
    """
    from hpo.doctor import examine

    checks = examine(options.settings(storage, data_dir), workers, SlotOptions(gpus, device))
    if as_json:
        output.echo_json([check.to_json() for check in checks])
    else:
        width = max(len(check.name) for check in checks)
        colours = {"ok": "green", "warn": "yellow", "fail": "red"}
        for check in checks:
            result = click.style(check.result.ljust(4), fg=colours[check.result])
            click.echo(f"{result}  {check.name.ljust(width)}  {check.detail}")
            if check.remedy:
                click.echo(f"{' ' * (width + 6)}  -> {check.remedy}")
    return 1 if any(check.result == "fail" for check in checks) else 0


@click.command()
@options.study_option
@option("--yes", "-y", is_flag=True, show_default="ask first", help="Do not ask.")
@option(
    "--force",
    is_flag=True,
    show_default="refuse",
    help="Delete it even while trials are running; their agents then end.",
)
@options.storage_option
def delete(study: str, yes: bool, force: bool, storage: str | None) -> int:
    """Delete a study with its trials, checkpoints and logs.

    Results of retraining, which are files, stay; the log of when its
    retrains opened the test set goes.
    """
    from hpo.study.catalog import StudyBusyError, database_words, delete_study
    from hpo.study.status import study_status

    with options.opened(storage) as database:
        found = study_status(database, study)
        if found.running and not force:
            # Before asking; `delete_study` looks again, for a trial may have begun since.
            raise StudyBusyError(
                f"study {study!r} has {found.running} trial{'s' if found.running > 1 else ''} running: "
                f"hpo stop --study {study} first, or delete it all the same with --force"
            )
        total = sum(found.outcomes.values()) + found.running + found.waiting
        where = database_words(database)
        if not yes and not click.confirm(
            f"Delete study {study} with {total} trials from {where}? This cannot be undone."
        ):
            click.echo("nothing was deleted")
            return 1
        found_settings = options.settings(storage)
        folders = (found_settings.checkpoints, found_settings.home / "logs")
        number = delete_study(database, study, folders=folders, force=force)
    click.echo(f"deleted study {study} with {number} trials")
    return 0
