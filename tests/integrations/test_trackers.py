"""One suite for all trackers: the real ones, read back with their own tools, and the fake of `hpo.trackers.testing`."""

from __future__ import annotations

import json
import math
import os
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Protocol

import pytest

from hpo.trackers.runs import Confusion, Logged, Run, news_of
from hpo.trackers.target import Target
from hpo.trackers.testing import FakePlace, FakeTracker
from hpo.trackers.tracker import TrackedStudy, Tracker, open_tracker
from tests.unit.trackers.runs import run

STUDY = TrackedStudy(name="demo", uid="0a1b2c3d", objective="o")
KEY = "0a1b2c3d-trial-0"
Curve = list[tuple[int, float]]

pytestmark = pytest.mark.filterwarnings("default")


class Place(Protocol):
    """A tracker as its user sees it."""

    replaces: bool
    """Whether an epoch that is trained again gets its new value."""

    def open(self) -> Tracker: ...

    def curve(self, key: str, name: str) -> Curve: ...

    def params(self, key: str) -> Mapping[str, Any]: ...

    def failed(self, key: str) -> bool: ...

    def artefacts(self, key: str) -> set[str]: ...


class Fake:
    replaces = False

    def __init__(self, _: Path) -> None:
        self.place = FakePlace()

    def open(self) -> Tracker:
        return FakeTracker(self.place)

    def curve(self, key: str, name: str) -> Curve:
        return [(epoch, metrics[name]) for epoch, metrics in self.place.curves[key] if name in metrics]

    def params(self, key: str) -> Mapping[str, Any]:
        return self.place.ends[key].params

    def failed(self, key: str) -> bool:
        return self.place.ends[key].failed

    def artefacts(self, key: str) -> set[str]:
        run = self.place.ends[key]
        return {
            *(Path(path).name for path in run.files),
            *(["confusion_matrix.png"] if run.confusion else []),
        }


class RealTensorBoard:
    replaces = True

    def __init__(self, folder: Path) -> None:
        pytest.importorskip("tensorboardX")
        pytest.importorskip("tensorboard")
        self.folder = folder / "runs"

    def open(self) -> Tracker:
        return open_tracker(Target("tensorboard", str(self.folder)), STUDY)

    def events(self, key: str) -> Any:
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        return EventAccumulator(str(self.of(key))).Reload()

    def of(self, key: str) -> Path:
        return self.folder / "demo@0a1b2c3d" / key.removeprefix("0a1b2c3d-")

    def curve(self, key: str, name: str) -> Curve:
        return [(event.step, event.value) for event in self.events(key).Scalars(name)]

    def session(self, key: str) -> Any:
        """Return the run as the HPARAMS tab lists it."""
        from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider
        from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
        from tensorboard.context import RequestContext
        from tensorboard.plugins.hparams import api_pb2, backend_context, list_session_groups

        multiplexer = EventMultiplexer().AddRunsFromDirectory(str(self.folder)).Reload()
        provider = MultiplexerDataProvider(multiplexer, str(self.folder))
        context = backend_context.Context(SimpleNamespace(data_provider=provider))
        request = api_pb2.ListSessionGroupsRequest(
            start_index=0,
            slice_size=100,
            allowed_statuses=[1, 2, 3],
            col_params=[
                api_pb2.ColParams(hparam=name) for name in ("x", "optimizer", "nesterov", "hpo.seed")
            ],
        )
        groups = list_session_groups.Handler(RequestContext(), context, "", request).run().session_groups
        return next(group for group in groups if group.sessions[0].name.endswith(self.of(key).name))

    def params(self, key: str) -> Mapping[str, Any]:
        session = self.session(key)
        return {name: getattr(value, value.WhichOneof("kind")) for name, value in session.hparams.items()}

    def failed(self, key: str) -> bool:
        return self.session(key).sessions[0].status == 2

    def artefacts(self, key: str) -> set[str]:
        assert self.events(key).Images("confusion_matrix")
        return {path.name for path in self.of(key).iterdir() if "tfevents" not in path.name}


class RealMLflow:
    replaces = False

    def __init__(self, folder: Path) -> None:
        pytest.importorskip("mlflow")
        self.uri = f"sqlite:///{folder}/mlflow.db"

    def open(self) -> Tracker:
        return open_tracker(Target("mlflow", self.uri), STUDY)

    def find(self, key: str) -> tuple[Any, Any]:
        from mlflow.tracking import MlflowClient

        client = MlflowClient(tracking_uri=self.uri)
        ids = [one.experiment_id for one in client.search_experiments()]
        (found,) = client.search_runs(ids, f"tags.`hpo.key` = '{key}'")
        return client, found

    def curve(self, key: str, name: str) -> Curve:
        client, found = self.find(key)
        points = client.get_metric_history(found.info.run_id, name)
        return sorted((point.step, point.value) for point in points)

    def params(self, key: str) -> Mapping[str, Any]:
        params = self.find(key)[1].data.params
        return {name: value if name == "optimizer" else json.loads(value) for name, value in params.items()}

    def failed(self, key: str) -> bool:
        return bool(self.find(key)[1].info.status == "FAILED")

    def artefacts(self, key: str) -> set[str]:
        client, found = self.find(key)
        return {one.path for one in client.list_artifacts(found.info.run_id)}


class OfflineWandb:
    replaces = False

    def __init__(self, folder: Path) -> None:
        pytest.importorskip("wandb")
        self.folder = folder

    def open(self) -> Tracker:
        return open_tracker(Target("wandb", "project"), STUDY)

    def records(self, key: str) -> Iterator[Any]:
        from wandb.proto import wandb_internal_pb2

        for path in sorted(self.folder.glob(f"wandb/offline-run-*/run-{key}.wandb")):
            for data in leveldb_records(path.read_bytes()):
                record = wandb_internal_pb2.Record()
                record.ParseFromString(data)
                yield record

    def curve(self, key: str, name: str) -> Curve:
        found: Curve = []
        for record in self.records(key):
            items = {
                item.key or ".".join(item.nested_key): json.loads(item.value_json)
                for item in record.history.item
            }
            if name in items:
                found.append((record.history.step.num or items["_step"], float(items[name])))
        return found

    def params(self, key: str) -> Mapping[str, Any]:
        return {
            update.key or update.nested_key[0]: json.loads(update.value_json)
            for record in self.records(key)
            for update in (*record.run.config.update, *record.config.update)
        }

    def failed(self, key: str) -> bool:
        return [r.exit.exit_code for r in self.records(key) if r.WhichOneof("record_type") == "exit"][-1] == 1

    def artefacts(self, key: str) -> set[str]:
        entries = {entry.path for record in self.records(key) for entry in record.artifact.manifest.contents}
        pictures = self.folder.glob(f"wandb/offline-run-*-{key}/files/confusion_matrix.png")
        return entries | {path.name for path in pictures}


def leveldb_records(content: bytes) -> Iterator[bytes]:
    """Yield the records of a log in the format of LevelDB, after W&B's header of seven bytes."""
    position, parts = 7, b""
    while position + 7 <= len(content):
        left = 32768 - position % 32768
        if left < 7:
            position += left
            continue
        _, length, kind = struct.unpack_from("<IHB", content, position)
        parts += content[position + 7 : position + 7 + length]
        position += 7 + length
        # 1: whole, 4: last part.
        if kind in (1, 4):
            yield parts
            parts = b""


@pytest.fixture(scope="session", autouse=True)
def wandb_imported(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Import W&B, which then makes temporary folders for as long as its process lives, away from those of the tests."""
    with pytest.MonkeyPatch.context() as patch, suppress(ImportError):
        patch.setattr(tempfile, "tempdir", str(tmp_path_factory.mktemp("wandb")))
        import_module("wandb")


@pytest.fixture(params=[Fake, RealTensorBoard, RealMLflow, OfflineWandb])
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith(("WANDB_", "MLFLOW_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DATA_DIR", str(tmp_path))
    made: Callable[[Path], Place] = request.param
    yield made(tmp_path)
    if request.param is OfflineWandb:
        # Its process keeps the folder of its first run.
        sys.modules["wandb"].teardown()


def log(place: Place, *states: Run) -> None:
    """Log states of runs as a new process would."""
    tracker = place.open()
    logged = tracker.logged()
    for state in states:
        news = news_of(state, logged.get(state.key, Logged()))
        if news is not None:
            tracker.write(news)
            logged[state.key] = news.after
    tracker.close()


def assert_curve(place: Place, key: str, losses: Sequence[float]) -> None:
    """Check that the loss has one point for each epoch."""
    steps, values = zip(*place.curve(key, "loss"), strict=True)
    assert steps == tuple(range(1, len(losses) + 1))
    assert values == pytest.approx(losses)


def test_run_is_continued_by_another_process(place: Place) -> None:
    log(place, run([7]), run([7, 7]))
    log(place, run([7, 7]), run([7, 7, 7]))
    log(place, run([7, 7, 7, 7], "complete"))
    log(place, run([7, 7, 7, 7], "complete"))
    assert_curve(place, KEY, [1.0, 0.5, 1 / 3, 0.25])
    tracker = place.open()
    assert tracker.logged()[KEY].outcome == "complete"
    tracker.close()


def test_process_that_died_is_continued(place: Place) -> None:
    tracker = place.open()
    news = news_of(run([7, 7]), Logged())
    assert news is not None
    tracker.write(news)
    # Not closed: it was killed. The process of W&B ends with it.
    if isinstance(place, OfflineWandb):
        sys.modules["wandb"].teardown()
    log(place, run([7, 7, 7], "complete"))
    assert [step for step, _ in place.curve(KEY, "loss")] == [1, 2, 3]


@pytest.mark.parametrize("in_one_process", [True, False])
def test_epochs_trained_again_appear_once(place: Place, in_one_process: bool) -> None:
    again = {2: 5.0, 3: 6.0, 4: 7.0}
    states = [run([7, 7, 7]), run([7, 8], losses=again), run([7, 8, 8, 8], "pruned", losses=again)]
    for part in [states] if in_one_process else [[state] for state in states]:
        log(place, *part)
    values = [1.0, 5.0, 6.0, 7.0] if place.replaces else [1.0, 0.5, 1 / 3, 7.0]
    assert_curve(place, KEY, values)


def test_parameters_keep_their_types_and_outcomes_are_shown(place: Place) -> None:
    params = {"x": 0.5, "optimizer": "adam", "nesterov": True}
    log(
        place,
        run([7], "complete", params=params),
        run([7], "bug", 1, params=params, failed=True, error="E: x"),
    )
    found = place.params(KEY)
    assert {name: found[name] for name in params} == params
    assert {name: type(found[name]) for name in params} == {
        name: type(value) for name, value in params.items()
    }
    assert (place.failed(KEY), place.failed("0a1b2c3d-trial-1")) == (False, True)


def test_values_and_names_of_any_kind_are_taken(place: Place) -> None:
    log(place, run([7], params={"größe": [3, 3], "none": None, "a/b=c": "x" * 9000, "text": "two words"}))
    log(place, run([7, 7], "complete", losses={2: math.nan}, params={"größe": [3, 3]}))
    log(place, run([], "infeasible", 1))
    steps = place.curve(KEY, "loss")
    assert [step for step, _ in steps] == [1, 2]
    assert math.isnan(steps[1][1])


def test_results_of_a_retrain_are_artefacts(place: Place, tmp_path: Path) -> None:
    model = tmp_path / "model.keras"
    model.write_bytes(b"model")
    confusion = Confusion(counts=[[3, 1], [0, 4]], classes=["cat", "dog"])
    whole = run(
        [], "complete", key="0a1b2c3d-retrain-1", name="retrain-1", files=[str(model)], confusion=confusion
    )
    seed = run([1, 1], "complete", key="0a1b2c3d-retrain-1-seed-3", parent=whole.key, name="retrain-1-seed-3")
    log(place, whole, seed)
    assert {"model.keras", "confusion_matrix.png"} <= place.artefacts(whole.key)
    assert_curve(place, seed.key, [1.0, 0.5])


def test_deleted_run_of_tensorboard_is_written_again(tmp_path: Path) -> None:
    import shutil

    place = RealTensorBoard(tmp_path)
    log(place, run([7], "complete"))
    shutil.rmtree(place.of(KEY))
    log(place, run([7], "complete"))
    assert place.curve(KEY, "loss") == [(1, 1.0)]


@pytest.mark.parametrize("target", ["tensorboard:runs", "mlflow:sqlite:///m.db", "wandb"])
def test_no_tracker_imports_tensorflow(target: str, tmp_path: Path) -> None:
    kind, _, address = target.partition(":")
    pytest.importorskip({"tensorboard": "tensorboardX"}.get(kind, kind))
    code = (
        "import sys; from hpo.trackers.tracker import *; from hpo.trackers.target import Target;"
        f" t = open_tracker(Target({kind!r}, {address!r}), TrackedStudy(name='s', uid='u')); t.logged(); t.close();"
        " print(sorted({'tensorflow', 'keras', 'torch'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "WANDB_MODE": "offline"},
        capture_output=True,
    )
    assert done.stdout.decode().strip().endswith("[]"), done.stderr.decode()
