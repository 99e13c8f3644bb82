"""`hpo predict`: finds the model, predicts each input, and writes the results as they come."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TextIO

from hpo.errors import DataDamagedError
from hpo.models.choice import choose_model
from hpo.models.loading import load_model
from hpo.predict.forms import form_of
from hpo.predict.predict import batches_of, predictions
from hpo.predict.sources import is_array, survey
from hpo.predict.writers import Format, writer
from hpo.settings import Settings
from hpo.terminal.work_progress import WorkProgress
from objectives.images.listing import named


@dataclass(frozen=True, kw_only=True)
class PredictRequest:
    """Arguments of `hpo predict`."""

    inputs: tuple[str, ...]
    study: str | None = None
    model: Path | None = None
    """Folder or file of a model, in place of a study."""
    objective: str | None = None
    """Reference of the objective whose code the model of `model` holds."""
    top: int = 1
    mirror: bool = False
    batch_size: int | None = None
    device: str | None = None
    skip_unreadable: bool = False


@dataclass(frozen=True, kw_only=True)
class Summary:
    """Numbers of inputs, after all predictions are written."""

    predicted: int
    unreadable: Sequence[str]
    """Paths with reasons of the files that could not be read."""
    may_skip: bool

    def check(self) -> None:
        """Raise DataDamagedError if files could not be read and are not to be left out."""
        if self.unreadable and not self.may_skip:
            count = len(self.unreadable)
            raise DataDamagedError(
                f"{count:,} of {self.predicted + count:,} files cannot be read ({named(self.unreadable)}), the others"
                " are predicted: replace or remove them, or leave them out with --skip-unreadable"
            )


def predict(
    request: PredictRequest,
    settings: Settings,
    form: Format,
    stream: TextIO,
    listed: BinaryIO | None,
    warn: Callable[[str], None],
) -> Summary:
    """Write the predictions to `stream`; files that cannot be read are named by `warn`.

    Raises:
        HpoError: there is no such model, or there are no such inputs.
    """
    files = [argument for argument in request.inputs if not is_array(argument)]
    # Before Keras takes its seconds.
    found = survey(files)
    chosen = choose_model(settings, study=request.study, model=request.model, objective=request.objective)
    counted = found.count if len(files) == len(request.inputs) else None
    with closing(WorkProgress("inputs", sys.stderr)) as progress:
        progress.update(f"loading {chosen.record.path}", 0, 0)
        model = load_model(chosen.record, device=request.device, code=chosen.code)
        record = chosen.record
        meaning = form_of(record.task, record.classes, model.outputs, request.top)
        batches = batches_of(model, request.inputs, listed, request.batch_size)
        # The table itself shows the progress.
        shown = stream is not sys.stdout or not stream.isatty()
        if not shown:
            progress.close()
        written = writer(form, stream, meaning, found.longest)
        done, unreadable = 0, []
        for part in predictions(model, meaning, batches, mirror=request.mirror):
            written.write(part.names, part.outputs)
            for path, reason in part.unreadable.items():
                warn(f"{path} cannot be read: {reason}")
                unreadable.append(f"{path}: {reason}")
            done += len(part.names) + len(part.unreadable)
            if shown:
                progress.update("predicting", done, counted or 0)
        written.close()
    return Summary(predicted=done - len(unreadable), unreadable=unreadable, may_skip=request.skip_unreadable)
