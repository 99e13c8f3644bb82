"""`hpo predict`: the predictions of a retrained model for new images or arrays."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from hpo import formatting
from hpo.cli import options
from hpo.cli.errors import print_redacted
from hpo.cli.options import option
from hpo.cli.output import echo_text
from hpo.cli.types import NearestChoice, Number
from hpo.files.atomic import new_file
from hpo.options.fields import COUNT
from hpo.options.hosts import DEVICES

_SUFFIXES = {".csv": "csv", ".json": "json"}


@click.command()
@click.argument("inputs", metavar="INPUT...", nargs=-1)
@options.study_or_model
@option(
    "--format",
    "form",
    type=NearestChoice(("table", "csv", "json")),
    show_default="from the suffix of --output, else table",
    help="table: for people; csv: full precision; json: a list with each prediction on a line of its own.",
)
@options.output_option("FILE", options.STANDARD_OUTPUT, "File to write.")
@option(
    "--top",
    type=Number(COUNT),
    metavar="N",
    default=1,
    show_default="1",
    help="Number of most probable classes that are shown for each input.",
)
@option(
    "--mirror",
    is_flag=True,
    show_default="off",
    help="Average each prediction with that of the mirror image: a little better where left and right mean the same,"
    " and half as fast.",
)
@option(
    "--batch-size",
    type=Number(COUNT),
    metavar="N",
    show_default="by the size of one input, at most 256",
    help="Number of inputs that are predicted at a time.",
)
@option(
    "--device",
    type=NearestChoice(DEVICES),
    envvar="HPO_DEVICE",
    show_default="a GPU if there is one",
    help="cpu: use no GPU. gpu: fail if there is none.",
)
@option(
    "--skip-unreadable",
    is_flag=True,
    show_default="off",
    help="Exit with 0 although files cannot be read; they are named on standard error in any case.",
)
@options.storage_option
def predict(
    form: str | None,
    output: Path | None,
    storage: str | None,
    top: float,
    batch_size: float | None,
    **given: Any,
) -> None:
    """Predict with a study's retrained model.

    INPUT is an image file, a folder with images at any depth, a CSV or Parquet table with a column path, - for a
    list of paths on standard input (one a line, or separated by NUL as find -print0 writes them), or arrays in an
    .npy or .npz file. Images are decoded as those that the model was trained on.

    The model is that of the last hpo retrain of the study's best configuration.
    """
    if not given["inputs"]:
        raise click.UsageError(
            "there is no INPUT: name image files, folders or arrays", click.get_current_context()
        )
    by_suffix = _SUFFIXES.get(output.suffix.lower()) if output else None
    chosen = options.format_of(form, output, by_suffix) or "table"
    from hpo.predict.run import PredictRequest
    from hpo.predict.run import predict as run_predict
    from hpo.predict.sources import is_list
    from hpo.predict.writers import FORMATS

    request = PredictRequest(
        top=int(top), batch_size=None if batch_size is None else int(batch_size), **given
    )
    wanted = next(known for known in FORMATS if known == chosen)

    def warn(text: str) -> None:
        print_redacted(f"hpo: {text}", sys.argv)

    settings = options.settings(storage)
    # None: it is closed.
    listed = sys.stdin.buffer if any(map(is_list, request.inputs)) and sys.stdin is not None else None
    if output is None:
        run_predict(request, settings, wanted, sys.stdout, listed, warn).check()
        return
    with (
        new_file(output) as partial,
        partial.open("w", encoding="utf-8", errors="surrogateescape", newline="") as stream,
    ):
        summary = run_predict(request, settings, wanted, stream, listed, warn)
    echo_text(f"wrote {output}: {formatting.counted(summary.predicted, 'prediction')}")
    summary.check()
