"""`hpo export`: the best configuration as a file or a script."""

from __future__ import annotations

from pathlib import Path

import click

from hpo.cli import options
from hpo.cli.options import option
from hpo.cli.types import NearestChoice
from hpo.errors import FileNotWritableError
from hpo.files.atomic import output_file


@click.command()
@options.study_option
@option(
    "--format",
    "form",
    type=NearestChoice(("yaml", "json", "toml", "python")),
    show_default="from the suffix of --output, else yaml",
    help="File format; python: a script that trains the configuration as its trial was trained.",
)
@options.output_option("FILE", "standard output", "File to write.")
@options.trial_option
@options.storage_option
def export(study: str, form: str | None, output: Path | None, trial: int | None, storage: str | None) -> None:
    """Write the best configuration, ready to train again."""
    from hpo.export.best_config import build_config
    from hpo.export.config_file import FORMATS, SUFFIXES, render

    context = click.get_current_context()
    if output is not None and not output.name:
        raise click.UsageError("--output is empty: name a file", context)
    by_suffix = SUFFIXES.get(output.suffix.lower()) if output else None
    if output is not None and form and by_suffix and form != by_suffix:
        raise click.UsageError(
            f"--format {form} contradicts --output {output}, whose suffix means {by_suffix}: "
            "use one of the two",
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
        with output_file(output) as partial:
            partial.write_text(text, encoding="utf-8")
    except OSError as exc:
        raise FileNotWritableError(f"{output} cannot be written: {exc.strerror or exc}") from exc
    click.echo(f"wrote {output}" if by_suffix else f"wrote {output} as {wanted}")
