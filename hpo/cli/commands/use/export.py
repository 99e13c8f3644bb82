"""`hpo export`: the best configuration as a file or a script, or the retrained model in another format."""

from __future__ import annotations

from pathlib import Path

import click

from hpo.cli import options
from hpo.cli.options import option
from hpo.cli.output import echo_text
from hpo.cli.types import NearestChoice, OutputPath
from hpo.files.atomic import new_file

_MODELS = {"keras": ".keras", "onnx": ".onnx", "saved-model": "", "tflite": ".tflite"}
"""Names of formats of models, and the suffixes of their files."""


@click.command()
@options.study_or_model
@option(
    "--format",
    "form",
    type=NearestChoice(("yaml", "json", "toml", "python", *_MODELS)),
    show_default="from the suffix of --output, else yaml",
    help="File format. python: a script that trains the configuration as its trial was trained. The last four: the"
    " retrained model, checked to give the same outputs; onnx needs pip install 'hpo-service[onnx]'.",
)
@option(
    "--output",
    "-o",
    metavar="PATH",
    type=OutputPath(),
    show_default=options.STANDARD_OUTPUT,
    help="File to write; a folder for saved-model.",
)
@options.trial_option
@options.storage_option
def export(
    study: str | None,
    model: Path | None,
    objective: str | None,
    form: str | None,
    output: Path | None,
    trial: int | None,
    storage: str | None,
) -> None:
    """Write the best configuration, ready to train again, or the retrained model.

    A model is that of the last hpo retrain of the study's best configuration, or the one that --model names. It
    takes the same arrays as model.keras, raw pixels of images for instance, and returns the same outputs.
    """
    from hpo.export.config_file import SUFFIXES

    context = click.get_current_context()
    if output is not None and not output.name:
        raise click.UsageError("--output is a folder: name a file", context)
    suffix = output.suffix.lower() if output else ""
    models = {end: name for name, end in _MODELS.items() if end}
    by_suffix = SUFFIXES.get(suffix) or models.get(suffix)
    wanted = options.format_of(form, output, by_suffix) or "yaml"
    if wanted in _MODELS:
        _export_model(wanted, study, model, objective, output, trial, storage)
    elif study is None:
        raise click.UsageError(
            f"--format {wanted} is a configuration, which a study has: name it with --study, or choose"
            f" {', '.join(_MODELS)}",
            context,
        )
    else:
        _export_config(wanted, study, output, trial, storage, implied=bool(by_suffix))


def _export_config(
    form: str, study: str, output: Path | None, trial: int | None, storage: str | None, *, implied: bool
) -> None:
    from hpo.export.best_config import build_config
    from hpo.export.config_file import FORMATS, render

    wanted = next(known for known in FORMATS if known == form)
    if output is not None and output.is_dir():
        raise click.UsageError(f"--output {output} is a folder: name a file", click.get_current_context())
    with options.opened(storage) as database:
        text = render(build_config(database, study, trial), wanted)
    if output is None:
        click.echo(text, nl=False)
        return
    with new_file(output) as partial:
        partial.write_text(text, encoding="utf-8")
    echo_text(f"wrote {output}" if implied else f"wrote {output} as {wanted}")


def _export_model(
    form: str,
    study: str | None,
    model: Path | None,
    objective: str | None,
    output: Path | None,
    trial: int | None,
    storage: str | None,
) -> None:
    context = click.get_current_context()
    if output is None:
        raise click.UsageError(
            f"--format {form} is not text: name a path with --output, such as {study or 'model'}{_MODELS[form]}",
            context,
        )
    if trial is not None:
        raise click.UsageError(
            f"--trial {trial} has no model until it is retrained: hpo retrain --study {study} --trial {trial}, then"
            f" --model with the folder of its results, in place of --study and --trial",
            context,
        )
    from hpo.export.model_export import export_model
    from hpo.export.model_formats import FORMATS
    from hpo.models.choice import choose_model

    FORMATS[form].check_installed()
    chosen = choose_model(options.settings(storage), study=study, model=model, objective=objective)
    written = export_model(chosen, FORMATS[form], output)
    echo_text(
        f"wrote {written.path} as {form}: its answers to {written.rows} random inputs differ from those of"
        f" {chosen.record.path} by at most {written.difference:.1g}"
    )
