"""The parts of the measurement; each adds its tables to the report after every figure."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from sqlalchemy.exc import SQLAlchemyError

from bench.gpu import goals, machine, studies
from bench.gpu.images import provide
from bench.gpu.sizes import Sizes, Way
from bench.gpu.studies import Ended
from bench.report import Report, Row, ratio
from bench.sandbox import ROOT, Sandbox

PARTS: Mapping[str, float] = {"machine": 40, "tests": 70, "rates": 180, "search": 110, "retrain": 50}
"""Parts, in the order in which they run, and the share of the time that each may take; later ones get the rest."""

NO_LANES = "skipped: hpo launch --help has no option --lanes"
_IMAGES = {"mnist-cnn": ("mnist", 54_000), "cifar-resnet": ("cifar10", 45_000)}
"""Data set and training images of each objective: nine tenths are trained on, the rest validates."""

_RATES = "{}: training images a second"
BATCH = 128
_ENDLESS = 100_000
"""Epochs of a trial that is ended once its rate is known."""


@dataclass(kw_only=True)
class Bench:
    """A measurement with a deadline, in a sandbox of its own."""

    sandbox: Sandbox
    report: Report
    output: Path
    sizes: Sizes
    seconds: float
    began_at: float = field(default_factory=time.monotonic)
    peak: Row = field(default_factory=dict)
    """Result of `bench.gpu.machine`."""
    found: Row = field(default_factory=dict)
    """Figures that the goals are measured by."""

    @property
    def left(self) -> float:
        """Seconds until the end of all parts."""
        return self.began_at + self.seconds - time.monotonic()

    def run(self, name: str) -> None:
        """Run a part within its share of the time and the rest of earlier ones."""
        order = list(PARTS)
        later = (
            sum(PARTS[part] for part in order[order.index(name) + 1 :]) * self.seconds / sum(PARTS.values())
        )
        deadline = time.monotonic() + max(5.0, self.left - later)
        if self.left < 5:
            self.report.note(f"{name}: skipped, because the time is over.")
            return
        getattr(self, f"_{name}")(deadline)

    @cached_property
    def real(self) -> set[str]:
        """Names of the data sets that are real; all are in the sandbox afterwards."""
        given = os.environ.get("HPO_DATA_DIR")
        folder = self.sandbox.folder / "data"
        found = provide(folder, Path(given) if given else None, self.report.quick)
        os.environ["HPO_DATA_DIR"] = str(folder)
        made = sorted({"mnist", "cifar10"} - found)
        if made:
            self.report.note(f"Images of {', '.join(made)} are made up: rates hold, accuracies do not.")
        return found

    @cached_property
    def has_lanes(self) -> bool:
        """Whether this version trains in lanes."""
        return studies.offers(self.sandbox, "launch", "--lanes")

    def _keep(self) -> None:
        self.report.keep(self.output)

    def _machine(self, deadline: float) -> None:
        """Ask the driver, and measure the peak."""
        self.report.table("Machine", machine.driver() or [{"name": "no GPU"}])
        self._keep()
        assert self.real is not None
        small = ["--small"] if self.report.quick else []
        ended = studies.command(
            self.sandbox, ("-m", "bench.gpu.machine", *small), deadline - time.monotonic()
        )
        printed = [line for line in ended.output.splitlines() if line.startswith("{")]
        if ended.code != 0:
            self.report.note(f"machine: not all of the peak ({ended.words}).")
        if printed:
            self.peak = json.loads(printed[-1])
            row = {name: value for name, value in self.peak.items() if name not in _IMAGES}
            row |= {f"{name}, MFLOP an image": self.peak[name] / 1e6 for name in _IMAGES if name in self.peak}
            self.report.table("Measured peak", [row])

    def _tests(self, deadline: float) -> None:
        """Run the tests marked `gpu`."""
        tests = ("-m", "pytest", "--noconftest", "-q", "-m", "gpu", "-W", "default", "-p", "no:cacheprovider")
        # Any other pytest that starts closes the usual one to PostgreSQL, which root runs as another user.
        folder = ("--basetemp", self.sandbox.folder / "tests")
        seconds = deadline - time.monotonic()
        ended = studies.command(self.sandbox, (*tests, *folder, ROOT / "tests/gpu"), seconds)
        lines = [line for line in ended.output.splitlines() if re.match(r"(FAILED|ERROR|SKIPPED) ", line)]
        rows = [{"tests marked gpu": ended.words}, *({"tests marked gpu": line[:300]} for line in lines)]
        self.report.table("Tests", rows)
        self.report.raw["tests"] = ended.output[-4000:]

    def _rates(self, deadline: float) -> None:
        """Measure images a second of one trial, of processes and of lanes; objectives take turns, way by way."""
        assert self.real is not None
        for way in self.sizes.ways:
            for objective in _IMAGES:
                self._rate(objective, way, deadline)
                self._keep()

    def _rate(self, objective: str, way: Way, deadline: float) -> None:
        kind, count = way
        title = _RATES.format(objective)
        rows = [*next((table.rows for table in self.report.tables if table.title == title), [])]
        row: Row = {"trials at once": count, "as": kind}
        left = deadline - time.monotonic()
        if kind == "lanes" and not self.has_lanes:
            row["result"] = NO_LANES
        elif left < 10:
            row["result"] = "skipped: the time is over"
        else:
            # Not all that is left, so that a way that takes too long here leaves time to the others.
            row |= self._measured(objective, way, max(left / 2, 10.0))
        alone = next((found for found in rows if found["trials at once"] == 1), row)
        row["of one"] = ratio(row.get("images/s"), alone.get("images/s"))
        self.report.table(title, [*rows, row])

    def _measured(self, objective: str, way: Way, seconds: float) -> Row:
        kind, count = way
        study = f"rate-{objective}-{kind}-{count}"
        sizes = self.sizes

        def enough() -> bool:
            # Before the first launch has made the tables, there are none.
            with suppress(SQLAlchemyError):
                ends = studies.epochs(self.sandbox, study)
                return studies.is_steady(ends, count, sizes.steady_seconds)
            return False

        ended = self._launch(
            study,
            objective,
            *self._slots(kind, count),
            *("--trials", count, "--epochs", _ENDLESS, "--pruner", "none", "--sampler", "random"),
            *("--param", f"batch_size={BATCH}", "--param", "optimizer=sgd"),
            seconds=seconds,
            enough=enough,
        )
        rate = studies.steady_rate(studies.epochs(self.sandbox, study), self._images(objective))
        self.found[objective] = max(rate or 0.0, self.found.get(objective, 0.0))
        self.report.raw[study] = {"seconds": ended.seconds, "code": ended.code, "images/s": rate}
        if rate is None:
            return {"result": ended.words, "seconds": ended.seconds}
        flops = self.peak.get(objective)
        share = None if flops is None else rate * flops / (1e12 * self.peak["tflops"])
        return {"images/s": rate, "of peak": share, "seconds": ended.seconds}

    def _slots(self, kind: str, count: int) -> list[object]:
        """Return the options of processes, or of the lanes of one process."""
        if kind == "lanes":
            return ["--workers", 1, "--lanes", count]
        return ["--workers", count, *(["--lanes", 1] if self.has_lanes else [])]

    def _launch(
        self,
        study: str,
        objective: str,
        *arguments: object,
        seconds: float,
        enough: Callable[[], bool] | None = None,
    ) -> Ended:
        limit = [] if self.sizes.limit is None else ["--limit", self.sizes.limit]
        named = ("launch", "--study", study, "--objective", objective)
        return studies.hpo(self.sandbox, *named, *limit, *arguments, seconds=seconds, enough=enough)

    def _search(self, deadline: float) -> None:
        """Search with lanes, or else with processes, and for some time one trial at a time."""
        assert self.real is not None
        sizes = self.sizes
        epochs = [] if sizes.search_epochs is None else ["--epochs", sizes.search_epochs]
        alone = min(sizes.alone_seconds, (deadline - time.monotonic()) / 2)
        if not self.has_lanes:
            self.report.note(f"search with lanes {NO_LANES}; {sizes.processes} processes instead.")
        ways: dict[str, tuple[list[object], float]] = {
            "search": (
                self._slots("lanes", self._best_lanes())
                if self.has_lanes
                else ["--workers", sizes.processes],
                deadline - time.monotonic() - alone,
            ),
            "search-alone": (
                [*self._slots("processes", 1), "--timeout", f"{alone:.0f}s"],
                alone + studies.END_SECONDS,
            ),
        }
        rows: list[Row] = []
        for study, (options, seconds) in ways.items():
            ended = self._launch(
                study, sizes.searched, *options, "--trials", sizes.trials, *epochs, seconds=seconds
            )
            found = studies.status(self.sandbox, study)
            finished = found.get("finished", 0)
            row = {"slots": " ".join(map(str, options)), "finished": finished, "seconds": ended.seconds}
            row |= {"trials an hour": 3600 * finished / ended.seconds, "best": found.get("best_value")}
            row["images/s"] = self._search_rate(study)
            if ended.code not in (0, None) and not finished:
                row["result"] = ended.words
            rows.append(row)
            if len(rows) == 2:
                # Not of trials: the pruner ends many of a whole search, and none of the first minute's.
                rows[0]["of one"] = ratio(rows[0]["images/s"], rows[1]["images/s"])
            self.report.table(f"Search of {sizes.searched}, {sizes.trials} trials", rows)
            self._keep()
        self.found |= {
            "times": rows[0].get("of one"),
            "search": rows[0]["images/s"],
            "seconds": rows[0]["seconds"],
        }

    def _best_lanes(self) -> int:
        """Return the number of lanes with the highest rate of the objective that is searched; a guess without any."""
        title = _RATES.format(self.sizes.searched)
        rows = next((table.rows for table in self.report.tables if table.title == title), ())
        lanes = [row for row in rows if row["as"] == "lanes" and row.get("images/s")]
        return (
            max(lanes, key=lambda row: float(row["images/s"]))["trials at once"]
            if lanes
            else self.sizes.lanes
        )

    def _search_rate(self, study: str) -> float | None:
        """Return the images a second of a search between its first and its last completed epoch."""
        ends = sorted(at for _, _, at in studies.epochs(self.sandbox, study))
        if len(ends) < 2:
            return None
        return (len(ends) - 1) * self._images(self.sizes.searched) / (ends[-1] - ends[0])

    def _images(self, objective: str) -> int:
        """Return the training images of an epoch, in whole batches."""
        return min(_IMAGES[objective][1], self.sizes.limit or 10**9) // BATCH * BATCH

    def _retrain(self, deadline: float) -> None:
        """Retrain the best of the search over several seeds, and open the test set once."""
        sizes, options = self.sizes, ["--workers", self.sizes.seeds]
        if studies.offers(self.sandbox, "retrain", "--lanes"):
            options = ["--workers", 1, "--lanes", sizes.seeds]
        else:
            self.report.note(
                "retrain in lanes skipped: hpo retrain --help has no option --lanes; processes instead."
            )
        ended = studies.hpo(
            self.sandbox,
            *("retrain", "--study", "search", "--seeds", sizes.seeds, *options),
            seconds=deadline - time.monotonic(),
        )
        row: Row = {"seeds": sizes.seeds, "seconds": ended.seconds}
        accuracy = studies.read_summary(self.sandbox, "search").get("test_accuracy")
        if accuracy is None:
            row["result"] = ended.words
        elif "cifar10" in self.real or self.report.quick:
            row |= {"test accuracy": accuracy["mean"], "n": accuracy["n"], "interval": accuracy["interval95"]}
        else:
            row["result"] = "no accuracy: the images are made up"
        self.report.table("Retrain of the best of the search", [row])
        if accuracy is not None:
            self.found |= {"accuracy": row.get("test accuracy"), "retrain seconds": ended.seconds}

    def goals(self) -> None:
        """Compare the measurements with the goals."""
        self.report.table("Goals", goals.rows(self.found, self.sizes.searched))
