"""The worth of each part of a training recipe, alone: paired differences of validation accuracy over seeds.

    HPO_DATA_DIR=data python -m bench.recipes --objective cifar-cnn --limit 10000 --epochs 15 --seeds 3
    python -m bench.recipes --objective cifar-resnet --epochs 10 --seeds 3 --recipe dirac --recipe lookahead+dirac
    python -m bench.recipes --table

Each training is one line of bench/results/recipes.jsonl. Stop the command at any time: the same command goes on with
the trainings that are missing, seed by seed, so that each recipe has as many seeds as the others. A recipe and the
objective as it is ("as shipped") have the same seeds, and so the same order of images. `NAME+NAME` is both at once.
The test set stays closed. Seconds are processor time, which other work on the machine changes least.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.report import RESULTS, Report, Row
from bench.training import forked
from hpo.analysis.statistics import summarize
from hpo.devices.provenance import git_commit, hardware
from objectives import loader
from objectives.augment import Augmentation, Mixing
from objectives.base import DataOptions, Params
from objectives.data.splits import Data
from objectives.device import Device
from objectives.keras_objective import KerasObjective
from objectives.local_run import LocalRun
from objectives.shipped.cifar_resnet import CifarResNet
from objectives.shipped.digits_cnn import DigitsCNN
from objectives.shipped.mnist_resnet import MnistResNet

if TYPE_CHECKING:
    import keras

BASE = "as shipped"
FILE = RESULTS / "recipes.jsonl"
EFFECT = "effect in points"
SETTING = ("objective", "limit", "epochs", "params")
"""Names of values that results must share to be compared."""

Change = Callable[[type[KerasObjective]], Mapping[str, Any]]
"""Function that returns the attributes of an objective's class that a recipe changes; empty: it does not apply."""


def _attributes(**values: Any) -> Change:
    return lambda _: values


def _parts(**arguments: Any) -> Change:
    """Return a change of the arguments of the network."""
    return lambda _: {"parts": arguments}


def _augmented(needs: Callable[[Augmentation], Any] = lambda _: True, **fields: Any) -> Change:
    """Return a change of fields of the augmentation, if it `needs` it."""

    def change(cls: type[KerasObjective]) -> Mapping[str, Any]:
        found = cls.augmentation or Augmentation()
        return {"augmentation": replace(found, **fields)} if needs(found) else {}

    return change


RECIPES: Mapping[str, Change] = {
    BASE: _attributes(),
    "whitening-2": _parts(whitening=2),
    "whitening-3": _parts(whitening=3),
    "dirac": _parts(dirac=True),
    "gelu": _parts(activation="gelu"),
    "silu": _parts(activation="silu"),
    "average-0.99": _attributes(weight_averaging=0.99),
    "average-0.999": _attributes(weight_averaging=0.999),
    "lookahead": _attributes(weight_averaging="lookahead"),
    "alternating-flip": _augmented(lambda one: one.flip, flip="alternating"),
    "bias-rate-4": _attributes(learning_rate_factors={"bias": 4.0, "beta": 4.0}),
    "bias-rate-16": _attributes(learning_rate_factors={"bias": 16.0, "beta": 16.0}),
    "fade": _augmented(lambda one: one.shift or one.cutout or one.rotation_degrees, fade=0.3),
    "plain-end": _augmented(lambda one: one.shift or one.cutout or one.rotation_degrees, plain_epochs=2),
    "rotation": _augmented(lambda one: not one.rotation_degrees, rotation_degrees=10, rotated_share=0.5),
    "cutout": _augmented(lambda one: not one.cutout, cutout=6),
    "mixup": _attributes(mixing=Mixing(mixup=0.2)),
    "cutmix": _attributes(mixing=Mixing(cutmix=1.0, share=0.5)),
    "smoothing": lambda cls: {} if cls.label_smoothing else {"label_smoothing": 0.1},
    "constant-decay": _attributes(schedule="constant-decay"),
}


def made(cls: type[KerasObjective], recipe: str) -> type[KerasObjective] | None:
    """Return the class of an objective with a recipe, or with several; None if one does not apply.

    Raises:
        SystemExit: there is no such recipe.
    """
    attributes: dict[str, Any] = {}
    for name in recipe.split("+"):
        if name not in RECIPES:
            raise SystemExit(f"unknown recipe {name!r}: use {', '.join(RECIPES)}, or several, joined by +")
        found = dict(RECIPES[name](type("Changed", (cls,), dict(attributes))))
        if not found and name != BASE:
            return None
        parts = attributes.get("parts", {}) | found.get("parts", {})
        attributes |= found | ({"parts": parts} if parts else {})
    if "parts" in attributes:
        attributes["build"] = _build
    return type(cls.__name__, (cls,), attributes)


def _build(objective: Any, params: Params, data: Data) -> keras.Model:
    """Return the network of a shipped objective with the `parts` of its class."""
    from objectives.architectures import cnn, pooled_resnet, resnet

    given = dict(objective.parts) | {"dropout": params["dropout"]}
    match objective:
        case CifarResNet():
            return pooled_resnet(
                data, widths=objective.widths, depths=objective.depths, stem=objective.stem, **given
            )
        case MnistResNet():
            return resnet(data, widths=objective.widths, depth=objective.depth, **given)
        case DigitsCNN():
            return cnn(data, widths=(32, 64), dense=64, **given)
    return cnn(data, widths=objective.widths, depth=objective.depth, dense=objective.dense, **given)


def train(objective: KerasObjective, params: Params, epochs: int, seed: int, device: Device) -> Row:
    """Train in this process; return the figures of the last epoch."""
    run = LocalRun(total_epochs=epochs, seed=seed, device=device, metric="val_accuracy")
    objective.train(params, run)
    usage = resource.getrusage(resource.RUSAGE_SELF)
    last = run.history[-1]
    return {
        "val_accuracy": last["val_accuracy"],
        "val_loss": last["val_loss"],
        "seconds": usage.ru_utime + usage.ru_stime,
    }


def measure(options: argparse.Namespace) -> None:
    """Train all that is missing, each in a process of its own, and keep each result at once."""
    cls: Any = loader.load(options.objective)
    params = dict(cls.first[0]) | json.loads(options.params)
    epochs = options.epochs or cls.epochs
    setting = dict(zip(SETTING, (options.objective, options.limit, epochs, params), strict=True))
    known = {(one["recipe"], one["seed"]) for one in results() if is_of(one, setting)}
    recipes = [BASE, *(name for name in options.recipe or RECIPES if name != BASE)]
    prepared = cls()
    prepared.prepare(DataOptions(os.environ.get("HPO_DATA_DIR"), limit=options.limit), final=False)
    device = Device("gpu", gpu=options.gpu) if options.gpu else Device(core_count=os.cpu_count())
    for seed in range(options.seeds):
        for recipe in recipes:
            changed = made(cls, recipe)
            if changed is None or (recipe, seed) in known:
                continue
            objective = changed()
            objective._data, objective._options = prepared._data, prepared._options
            try:
                found = forked(train, objective, params, epochs, seed, device)()
            except EOFError:
                raise SystemExit(
                    f"the training of {recipe} with seed {seed} has failed: see its error above"
                ) from None
            keep(setting | {"recipe": recipe, "seed": seed} | found)
            print(f"{recipe}, seed {seed}: {found['val_accuracy']:.4f}, {found['seconds']:.0f} s", flush=True)
            write_table()


def keep(result: Row) -> None:
    """Append a result, with its commit, machine and time."""
    about = {"commit": git_commit(), "processor": hardware()["processor"]}
    about["at"] = datetime.now(UTC).isoformat(timespec="seconds")
    cut_off = FILE.exists() and not FILE.read_bytes().endswith(b"\n")
    with FILE.open("a", encoding="utf-8") as file:
        file.write("\n" * cut_off + json.dumps(result | about) + "\n")


def results() -> list[Row]:
    """Return all results; a line that an interruption has cut off is left out."""
    lines = FILE.read_text(encoding="utf-8").splitlines() if FILE.exists() else []
    return [json.loads(line) for line in lines if line.endswith("}")]


def is_of(result: Row, setting: Row) -> bool:
    """Return whether a result was measured in this setting."""
    return all(result[name] == setting[name] for name in SETTING)


def rows(found: Sequence[Row]) -> list[Row]:
    """Return a row for each recipe in one setting, that of the largest effect first."""
    base = {one["seed"]: one for one in found if one["recipe"] == BASE}
    names = dict.fromkeys(one["recipe"] for one in found)
    made_rows = [_row(name, [one for one in found if one["recipe"] == name], base) for name in names]
    # The base first.
    return sorted(made_rows, key=lambda row: -(row[EFFECT] if row[EFFECT] is not None else float("inf")))


def _row(name: str, found: Iterable[Row], base: Mapping[int, Row]) -> Row:
    pairs = [(one, base[one["seed"]]) for one in found if one["seed"] in base]
    row: Row = {"recipe": name, "n": len(pairs), "validation accuracy": _mean(pairs, "val_accuracy")}
    points = [100 * (one["val_accuracy"] - other["val_accuracy"]) for one, other in pairs]
    interval = summarize(points) if points and name != BASE else None
    bounds = None if interval is None else interval.interval95
    return row | {
        EFFECT: None if interval is None else round(interval.mean, 3),
        "95 %, paired": None if bounds is None else f"{bounds[0]:+.2f} to {bounds[1]:+.2f}",
        "loss": _mean(pairs, "val_loss"),
        "seconds × base": statistics.fmean(
            [one["seconds"] / other["seconds"] for one, other in pairs] or [1.0]
        ),
    }


def _mean(pairs: Sequence[tuple[Row, Row]], name: str) -> str | None:
    return f"{statistics.fmean(one[name] for one, _ in pairs):.4f}" if pairs else None


def write_table() -> Path:
    """Write bench/results/recipes.md from all results."""
    report, found = Report("recipes", "What each part of a recipe is worth, alone", done=True), results()
    settings: list[Row] = []
    for one in found:
        if not any(is_of(one, known) for known in settings):
            settings.append(one)
    for one in settings:
        limit = "all" if one["limit"] is None else f"{one['limit']:,}"
        params = ", ".join(f"{name} {value}" for name, value in one["params"].items())
        title = f"{one['objective']}, {limit} training images, {one['epochs']} epochs, {params}"
        report.table(title, rows([other for other in found if is_of(other, one)]))
    report.note(
        "Effect: mean over seeds of the difference to the objective as shipped with the same seed; the interval is"
        " Student's, of one comparison: of twenty recipes without effect, one will seem to have some.",
        "Seconds: processor time of a training with its start, relative to that of the same seed.",
        *dict.fromkeys(f"Measured at commit {one['commit']} on {one['processor']}." for one in found),
    )
    path = RESULTS / "recipes.md"
    path.write_text(report.markdown(), encoding="utf-8")
    return path


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--objective", default="cifar-cnn", help="a shipped objective")
    parser.add_argument("--limit", type=int, help="number of training images")
    parser.add_argument("--epochs", type=int, help="epochs of each training; the objective's")
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds")
    parser.add_argument("--recipe", action="append", help=f"one of {', '.join(RECIPES)}; repeatable; all")
    parser.add_argument(
        "--params", default="{}", help="JSON of parameters in place of the first configuration's"
    )
    parser.add_argument("--gpu", help="index of the GPU to train on")
    parser.add_argument("--table", action="store_true", help="only write the table")
    options = parser.parse_args()
    if not options.table:
        measure(options)
    print(write_table().read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
