"""`hpo compare`: retrained studies next to each other."""

from __future__ import annotations

from pathlib import Path

import click

from hpo.cli import options
from hpo.cli.options import option
from hpo.cli.output import echo_table, echo_text


@click.command()
@option(
    "--study",
    "studies",
    required=True,
    multiple=True,
    metavar="NAME",
    help="Name of a study. Repeat it for each study.",
)
@options.output_option(
    "DIR", "HPO_RESULTS_DIR/compare-<studies>", "Folder for the page, the pictures and the data."
)
@options.storage_option
def compare(studies: tuple[str, ...], output: Path | None, storage: str | None) -> None:
    """Compare retrained studies, with intervals and tests.

    Shows final metrics with intervals, whether they differ by more than seeds do (Welch's test),
    parameters, learning curves and cost.

    \b
    hpo compare --study cifar-cnn --study cifar-resnet
    """
    if len(set(studies)) < 2:
        raise click.UsageError("--study: name at least two different studies", click.get_current_context())
    from hpo.document.document import Bullets, Paragraph, Table
    from hpo.report.compare import compare as compare_studies

    names = list(dict.fromkeys(studies))
    # The length of a folder name is limited, so the first of many studies stand for all.
    folder = output or options.settings(storage).results_dir / f"compare-{'-'.join(names)}"[:120]
    with options.opened(storage) as database:
        document, written = compare_studies(database, names, folder)
    for line in document.status:
        echo_text(f"note: {line}")
    for block in (block for section in document.sections for block in section.blocks):
        match block:
            case Paragraph(text, "lead"):
                echo_text(text)
            case Bullets(items):
                echo_text("\n".join(items))
            case Table(headers, rows, right):
                echo_text()
                echo_table(headers, rows, right=right, wrap=headers[:2], drop=headers[:1:-1])
    echo_text(f"\nwrote {folder / written[0]}, {', '.join(name for name in written[1:] if '/' not in name)}")
