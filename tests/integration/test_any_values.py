"""Objectives may report, save, record, raise, print and choose anything: it is kept as given, or refused by name.

Examples run through a trainer's run, its pipe, an agent and PostgreSQL; whatever they hold, the agent lives and the
trial is counted.
"""

from __future__ import annotations

import math
import os
import uuid
from collections.abc import Iterator, Mapping
from contextlib import redirect_stdout, suppress
from dataclasses import dataclass, field
from io import BytesIO, TextIOWrapper
from multiprocessing import Pipe
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis.extra import numpy as arrays
from optuna.distributions import CategoricalDistribution

from hpo.agent.agent import Agent
from hpo.agent.attempts import AttemptTable
from hpo.agent.cleanup import Cleanup
from hpo.agent.store.trial_store import TrialStore
from hpo.document.document import Document
from hpo.document.html import render_page
from hpo.document.parts import LEFT_OUT
from hpo.export.config import Config
from hpo.outcomes import Outcome
from hpo.process.signals import SignalHandler
from hpo.report.retraining_sections import retraining_sections
from hpo.report.study_report import report_files
from hpo.retrain.results import SeedResult, write_results
from hpo.study.dataframes import frames_of
from hpo.study.history import StudyHistory, read_history
from hpo.trainer import trainer
from hpo.trainer.ends.exits import Event
from hpo.trainer.messages import EpochRecord, Finished, Start
from hpo.trainer.pipe import TrainerPipe, decode
from hpo.trainer.run import TrainerRun
from hpo.trainer.supervisor import Supervisor
from hpo.trainer.testing import FakePool, prepared
from objectives import values
from objectives.base import Objective, Params, Run
from objectives.device import Device
from objectives.errors import DivergedError
from objectives.runs.records import plain_records
from objectives.spaces.choices import declared
from objectives.spaces.space import stored_space
from objectives.validation import problem
from storage import retrains
from storage.connection.retry import Retry
from storage.engine import Database
from storage.leases import LeaseTimes
from tests.integration.rows import StudyRows
from tests.integration.stores import StoredStudy
from tests.odd_values import ODD, ODD_ERRORS, ODD_TEXTS
from tests.properties import HealthCheck, Phase, given, settings, st
from tests.specs import SPACE, spec

# Shrinking a failure would take minutes. The suite tries the same examples each time; FUZZ=1000 tries others.
ANY = settings(
    max_examples=int(os.environ.get("FUZZ", "30")),
    derandomize="FUZZ" not in os.environ,
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


class Odd:
    """An object that has no text and cannot be pickled."""

    def __str__(self) -> str:
        raise RuntimeError

    def __reduce__(self) -> str:
        raise RuntimeError


class Wordless(Exception):
    def __str__(self) -> str:
        raise RuntimeError


text = st.text(st.characters(exclude_categories=()), max_size=12)
numbers = st.one_of(
    st.floats(),
    st.sampled_from([1.7e308, -1.7e308, 1e308, 5e-324]),
    st.integers(),
    st.integers(min_value=10**300, max_value=10**320),
    st.booleans(),
    st.integers(0, 2**32 - 1).map(lambda bits: np.uint32(bits).view(np.float32)),
    st.integers(-100, 100).map(np.int64),
    st.fractions(max_denominator=100),
    st.decimals(),
    st.floats().map(np.array),
)
DTYPES = st.sampled_from(["f4", "f8", "f2", "i8", "u1", "?", "U3", "c16", "M8[s]", "S2"])
odd = st.one_of(
    st.none(),
    text,
    st.binary(max_size=5),
    st.complex_numbers(),
    st.sets(st.integers(), max_size=2),
    arrays.arrays(DTYPES, arrays.array_shapes(max_dims=2, max_side=2)),
    st.builds(Odd),
    st.just(lambda: 1),
    st.just(10**400),
)
leaves = numbers | odd
anything = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=2),
        st.tuples(inner),
        st.dictionaries(text | st.integers(), inner, max_size=2),
    ),
    max_leaves=4,
)
known = st.sampled_from(
    [
        "test_accuracy",
        "test_seed",
        "confusion",
        "classes",
        "calibration",
        "wrong",
        "wrong_images",
        "n_test",
        "seconds",
    ]
)
names = text | known | st.sampled_from(["number", "epoch", "seed", "loss", "val_loss", "self", "metrics"])
errors = st.one_of(
    st.none(),
    st.builds(ValueError, text),
    st.builds(DivergedError, text),
    st.builds(Wordless),
    st.sampled_from([KeyboardInterrupt(), SystemExit(0), GeneratorExit(), ValueError("e" * 10**6)]),
    st.builds(OSError, st.integers(1, 200), text),
)


@dataclass
class Given(Objective):
    """Reports the values of an example."""

    space = SPACE

    loss: Any = 0.5
    metrics: Mapping[str, Any] = field(default_factory=dict)
    state: Mapping[Any, Any] | None = None
    records: Mapping[str, Any] = field(default_factory=dict)
    printed: str = ""
    error: BaseException | None = None
    saved: Mapping[str, Any] | None = None
    """State as the run's checkpoint holds it."""

    def train(self, params: Params, run: Run) -> None:  # noqa: ARG002 - the contract's signature
        for _ in run.epochs():
            run.log(self.printed)
            if self.state is not None:
                run.save(self.state)
            run.report(**{"loss": self.loss, **self.metrics})
            if self.error is not None:
                raise self.error
        run.record(**self.records)


examples = st.builds(
    Given,
    loss=numbers | st.just(0.5) | odd,
    metrics=st.dictionaries(names.filter(lambda name: name != "self"), numbers | odd, max_size=2),
    state=st.none() | st.dictionaries(text | st.integers(), anything, max_size=2),
    records=st.dictionaries(names.filter(lambda name: name != "self"), anything, max_size=3),
    printed=text,
    error=errors,
)


@dataclass(frozen=True)
class OddOne:
    """A value that is made only when it is handed over, because Hypothesis would read it too."""

    number: int
    name: str | None = None

    def make(self) -> Any:
        return ODD[self.number]() if self.name is None else ODD_TEXTS[self.number](self.name)


def made(value: Any) -> Any:
    if isinstance(value, list):
        return [made(item) for item in value]
    if isinstance(value, dict):
        return {made(name): made(item) for name, item in value.items()}
    return value.make() if isinstance(value, OddOne) else value


class OddGiven(Given):
    """Hands over odd values and raises odd errors."""

    def train(self, params: Params, run: Run) -> None:
        self.records = made(self.records)
        error = None if self.error is None else ODD_ERRORS[self.error]()  # type: ignore[call-overload]
        example = Given(
            made(self.loss), made(self.metrics), made(self.state), self.records, made(self.printed), error
        )
        example.train(params, run)


odd_values = st.builds(OddOne, st.integers(0, len(ODD) - 1))
odd_names = text | st.builds(OddOne, st.sampled_from(range(len(ODD_TEXTS))), text)
odd_parts = odd_values | st.lists(odd_values, max_size=2)
odd_examples = st.builds(
    OddGiven,
    loss=st.just(0.5) | odd_values,
    metrics=st.dictionaries(odd_names, odd_values, max_size=2),
    state=st.none() | st.dictionaries(text, odd_parts, max_size=2) | odd_values,
    records=st.dictionaries(odd_names, odd_parts, max_size=2),
    printed=text | st.just("\ud800" * 10**6),
    error=st.none() | st.integers(0, len(ODD_ERRORS) - 1),
)


@dataclass
class Progress:
    """An agent's view that shows nothing."""

    ended: list[Any] = field(default_factory=list)

    def update(self, view: Any) -> None:
        """Show nothing."""

    def trial_ended(self, trial: Any, _counts: object) -> None:
        self.ended.append(trial)


class Renewal:
    last_error: str | None = None

    def heartbeat(self) -> None:
        """Renew nothing: the test is short."""

    def fenced(self) -> frozenset[int]:
        return frozenset()


class Host:
    """An agent on a real database, whose trainers run in this process."""

    def __init__(self, database: Database, folder: Path) -> None:
        self.folder = folder
        self.stored = StoredStudy(database, spec(epochs=1, max_failed=10**6), budget=0)
        self.store = self.stored.agent()
        self.finished: Finished | None = None
        self.budget = 0
        self.run(Given())

    def run(self, example: Given) -> Any:
        """Train an example as a trial, and further trials until one counts; return the end of the first."""
        self.budget += 1
        self.stored.execute(f"UPDATE hpo.studies SET budget = {self.budget}")
        pool = FakePool(scripts=[lambda start: self.events(start, example)])
        supervisor: Supervisor[Any] = Supervisor(pool, SignalHandler(), hung_seconds=60.0)  # type: ignore[arg-type]
        cleanup = Cleanup("s", self.store, self.folder / "checkpoints", self.folder / "logs", None)
        table = AttemptTable(self.store.spec, self.store, supervisor, cleanup)
        progress = Progress()
        Agent(self.store, supervisor, table, Renewal(), cleanup, progress).run()  # type: ignore[arg-type]
        return progress.ended[0]

    def events(self, start: Start, example: Given) -> Iterator[Event]:
        """Return the messages of a run of the example, as its agent reads them."""
        ours, theirs = Pipe()
        run = TrainerRun(TrainerPipe(theirs), start)
        with redirect_stdout(TextIOWrapper(BytesIO(), errors="backslashreplace")):
            finished = trainer._outcome(prepared(example), start, run)
        checkpoint = run._folder.newest()
        example.saved = checkpoint.state if checkpoint is not None else None
        run._pipe.send(finished)
        theirs.close()
        messages = []
        while ours.poll():
            try:
                messages.append(decode(ours.recv_bytes()))
            except EOFError:
                break
        ours.close()
        assert isinstance(messages[-1], Finished)
        self.finished = messages[-1]
        return iter(messages)


@pytest.fixture
def host(database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    monkeypatch.setattr("hpo.agent.attempts.CLAIM_RETRY_SECONDS", 0.0)
    # The traceback of each example.
    monkeypatch.setattr(trainer.os, "write", lambda _descriptor, content: len(content))
    return Host(database, tmp_path)


def same(kept: Any, given: Any) -> bool:
    """Whether a record or part of it is as it was given: equal, in lists and dictionaries."""
    if isinstance(given, np.ndarray):
        given = given.tolist() if given.dtype.kind != "f" else given.astype(float).tolist()
    if isinstance(given, str):
        return bool(kept == given or (values.text(given) != given and kept == values.text(given)))
    if isinstance(given, list | tuple):
        return len(kept) == len(given) and all(map(same, kept, given))
    if isinstance(given, dict):
        return list(kept) == list(given) and all(same(kept[name], given[name]) for name in given)
    if given is None or isinstance(given, bool | np.bool_):
        return bool(kept == given)
    return same_number(kept, given)


def same_number(kept: float, given: Any) -> bool:
    expected = float(given)
    return kept in (given, expected) or (math.isnan(kept) and math.isnan(expected))


def check_epoch(example: Given, metrics: Mapping[str, float]) -> None:
    reported = {"loss": example.loss, **example.metrics}
    assert metrics.keys() == reported.keys()
    assert all(same_number(metrics[name], value) for name, value in reported.items())


def given_names(example: Given) -> list[str]:
    given = [*example.metrics, *example.records, *(example.state or {}), "loss"]
    return [shown for name in given for shown in (ascii(name), repr(name))]


@ANY
@given(example=examples)
def test_given_values_are_kept_or_refused_by_name_and_the_agent_lives(host: Host, example: Given) -> None:
    end = host.run(example)
    finished = host.finished
    assert finished is not None
    history = read_history(host.stored.database, "s")
    row = next(trial for trial in history.trials if trial.number == end.number)
    epochs = history.curves.get(end.number, [])
    assert row.state == end.outcome
    match end.outcome:
        case Outcome.COMPLETE:
            assert finished.results.keys() == example.records.keys()
            assert all(same(finished.results[name], value) for name, value in example.records.items())
            assert same_number(row.value or 0.0, {"loss": example.loss, **example.metrics}["loss"])
        case Outcome.DIVERGED:
            watched = {"loss": example.loss, **example.metrics}
            bad = [name for name in ("loss", "val_loss") if not math.isfinite(float(watched.get(name, 0)))]
            assert bad or isinstance(example.error, DivergedError)
        case Outcome.BUG:
            raised = type(example.error).__name__ if example.error is not None else ""
            error = finished.error
            by_name = (
                any(name in error for name in given_names(example))
                or "the name of a" in error
                or "was given the name" in error
            )
            assert by_name or error.startswith(raised), error
            assert by_name or raised, error
        case _:
            assert isinstance(example.error, OSError | MemoryError)
    if epochs:
        check_epoch(example, epochs[0].metrics)
    if example.saved is not None:
        assert example.saved.keys() == (example.state or {}).keys()
        for name, value in (example.state or {}).items():
            np.testing.assert_equal(example.saved[name], value)


@settings(ANY, max_examples=int(os.environ.get("FUZZ", "15")))
@given(example=odd_examples)
def test_odd_values_end_their_own_trial_only(host: Host, example: Given) -> None:
    end = host.run(example)
    finished = host.finished
    assert finished is not None
    row = next(t for t in read_history(host.stored.database, "s").trials if t.number == end.number)
    assert (row.state, end.outcome) == (end.outcome, finished.outcome)
    if end.outcome is Outcome.COMPLETE:
        assert repr(finished.results) == repr(plain_records(example.records))
    elif example.error is None:
        assert end.outcome in (Outcome.BUG, Outcome.DIVERGED)
        assert end.outcome is Outcome.DIVERGED or finished.error.startswith("ValueRefusedError: "), (
            finished.error
        )


@pytest.fixture
def history(database: Database) -> StudyHistory:
    StoredStudy(database, spec(epochs=1))
    return read_history(database, "s")


@ANY
@given(
    metrics=st.dictionaries(names, numbers, max_size=3),
    runs=st.lists(st.dictionaries(names, anything, max_size=3), min_size=1, max_size=2),
)
def test_given_records_are_written_and_reported(
    database: Database,
    history: StudyHistory,
    tmp_path: Path,
    metrics: dict[str, Any],
    runs: list[dict[str, Any]],
) -> None:
    with suppress(values.ValueRefusedError):
        history_of_run = (EpochRecord(1, values.metrics({"loss": 0.5, **metrics}), 0.1),)
        results = [
            SeedResult(seed, history_of_run, plain_records(recorded), 1.0)
            for seed, recorded in enumerate(runs)
        ]
        check_retrain(database, history, tmp_path, results)


def check_retrain(
    database: Database, history: StudyHistory, tmp_path: Path, results: list[SeedResult]
) -> None:
    config = Config(objective="o", params={}, epochs=1, seed=0, metric="loss", direction="minimize")
    written = write_results(tmp_path / "s", config, results, {}, None)
    study_id = history.study.study_id

    def store(connection: Any) -> None:
        new_id = retrains.begin(connection, retrains.new_id(connection), study_id, config.to_json(), [0])
        retrains.finish(connection, new_id, written)

    database.transaction(store)
    [*_, row] = database.transaction(lambda c: retrains.retrains_of(c, study_id))
    assert row.metrics is not None
    for run, result in zip(row.metrics["runs"], results, strict=True):
        kept = {name for name in result.recorded if name not in ("seed", "seconds", "wrong_images")}
        assert kept <= run.keys()
        assert (run["seed"], run["seconds"]) == (result.seed, 1.0)
    assert LEFT_OUT not in render_page(Document("t", "", retraining_sections(history, row)))


def test_study_of_such_trials_is_reported(host: Host) -> None:
    for value in (1.7e308, -1.7e308, 1e308, 5e-324, 0.0):
        host.run(Given(loss=value, metrics={"number": value, "epoch": math.inf, "seconds": math.nan}))
    host.run(Given(error=ValueError("NUL \0, a byte \udcff \x1b[31m")))
    history = read_history(host.stored.database, "s")
    files = report_files(history)
    assert set(files) >= {"report.html", "report.md", "trials.csv", "epochs.csv"}
    assert all(LEFT_OUT.encode() not in content for content in files.values())
    assert len(frames_of(history).epochs) == 8


@ANY
@given(choices=st.lists(anything | odd_values, min_size=1, max_size=3))
def test_given_choices_arrive_or_are_refused_by_name(database: Database, choices: list[Any]) -> None:
    choices = made(choices)
    try:
        distribution = CategoricalDistribution(choices)
    # Optuna itself refuses it.
    except Exception:  # noqa: BLE001
        return
    space = {"letter": distribution}
    refused = problem(type("Chosen", (Given,), {"space": space, "metric": "loss"}))
    if refused is not None:
        assert "'letter'" in refused
        return
    stored = spec(stored_space(space))
    study = StudyRows(database, uuid.uuid4().hex, spec=stored)
    store = TrialStore(database, study.study_id, study.name, stored, [Device()], Retry(5.0), LeaseTimes())
    claim = store.claim(0, "cpu:0")
    _, _, params = store.sample(claim)  # type: ignore[arg-type]
    arrived = declared(params, space)["letter"]
    assert any(arrived is choice or repr(arrived) == repr(choice) for choice in choices)
