"""The measurement on a GPU, with commands made up here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.exc import ProgrammingError

from bench.gpu import parts, studies
from bench.gpu.images import SHAPES, made_up, provide
from bench.gpu.parts import PARTS, Bench
from bench.gpu.sizes import Sizes
from bench.gpu.studies import Ended, command, is_steady, steady_rate
from bench.report import Report
from bench.sandbox import Sandbox


def test_rate_counts_epochs_while_all_trials_train():
    # The first compiles until 10, the second until 12; the first ends at 20, the second at 24.
    ends = [(0, 1, 10.0), (0, 2, 14.0), (0, 3, 20.0), (1, 1, 12.0), (1, 2, 18.0), (1, 3, 24.0)]
    assert steady_rate(ends, 1000) == pytest.approx(3 * 1000 / 8)


@pytest.mark.parametrize("ends", [[], [(0, 1, 10.0)], [(0, 1, 10.0), (0, 2, 12.0), (1, 1, 13.0)]])
def test_no_rate_without_epochs_after_compilation(ends: list[tuple[int, int, float]]):
    assert steady_rate(ends, 1000) is None


def test_missing_images_are_made_up(tmp_path: Path):
    given = tmp_path / "given"
    given.mkdir()
    (given / "mnist.npz").write_bytes(b"real")
    assert provide(tmp_path / "data", given, small=True) == {"mnist"}
    assert (tmp_path / "data" / "mnist.npz").read_bytes() == b"real"
    assert (tmp_path / "data" / "cifar10.npz").stat().st_size > 10**6


def test_made_up_images_have_the_shape_of_the_data_set():
    train, test, shape = SHAPES["cifar10"]
    arrays = made_up("cifar10", 100)
    assert (arrays["x_train"].shape, arrays["x_test"].shape) == (
        (train // 100, *shape),
        (test // 100, *shape),
    )
    assert {str(arrays["x_train"].dtype), len(set(arrays["y_test"]))} == {"uint8", 10}


def test_trials_are_steady_once_all_train_at_the_same_time():
    ends = [(0, epoch, 10.0 + epoch) for epoch in range(1, 9)]
    assert is_steady(ends, 1, 4.0)
    assert not is_steady(ends, 2, 4.0)
    other = [(1, 1, 15.0), (1, 2, 16.0)]
    assert not is_steady([*ends, *other], 2, 2.0)
    assert is_steady([*ends, *other, (1, 3, 17.0), (1, 4, 18.0)], 2, 2.0)


def test_commands_end_once_there_is_enough():
    """They end at their deadline, too, and by themselves."""
    # Not entered, which would handle SIGTERM in this process.
    sandbox = Sandbox()
    waits = ("-c", "import time; print('began', flush=True); time.sleep(60)")

    def began() -> bool:
        return any("began" in log.read_text() for log in sandbox.folder.glob("log-*"))

    try:
        ended = command(sandbox, waits, 50.0, began)
        assert (ended.code, "KeyboardInterrupt" in ended.output) == (0, True)
        assert command(sandbox, waits, 1.0).words.startswith("cut off after")
        assert command(sandbox, ("-c", "print('done'); raise SystemExit(3)"), 50.0).code == 3
    finally:
        sandbox.__exit__(None, None, None)


def epochs(_sandbox: object, study: str) -> list[tuple[int, int, float]]:
    """Return epochs of a second; of five seconds where one trial is trained at a time."""
    seconds = 5.0 if study == "search-alone" else 1.0
    return [(0, epoch, epoch * seconds) for epoch in (1, 2, 3)]


class Commands:
    """Commands that end at once, and the studies that they leave."""

    def __init__(self, lanes: bool) -> None:
        self.lanes = lanes
        self.given: list[tuple[str, ...]] = []

    def hpo(self, _sandbox: object, *arguments: object, seconds: float, **_: object) -> Ended:
        assert seconds > 0
        self.given.append(tuple(map(str, arguments)))
        return Ended(0, 10.0, "done")

    def option(self, name: str) -> list[str]:
        """Return the values of an option of all launches."""
        return [
            given[given.index(name) + 1] for given in self.given if given[0] == "launch" and name in given
        ]


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, request: pytest.FixtureRequest) -> Any:
    commands = Commands(lanes=request.param)
    monkeypatch.setattr(studies, "hpo", commands.hpo)
    monkeypatch.setattr(studies, "offers", lambda *_: commands.lanes)
    monkeypatch.setattr(studies, "epochs", epochs)
    monkeypatch.setattr(studies, "status", lambda _, study: {"finished": 2 if "alone" in study else 10})
    monkeypatch.setattr(studies, "read_summary", lambda *_: {})
    monkeypatch.setattr(parts, "provide", lambda *_: {"cifar10", "mnist"})
    # Restored afterwards, whatever the bench makes of it.
    monkeypatch.setenv("HPO_DATA_DIR", "")
    report = Report("gpu", "Measurements on a GPU", quick=True, commit="c")
    sandbox: Any = type("Sandbox", (), {"folder": tmp_path})()
    made = Bench(sandbox=sandbox, report=report, output=tmp_path / "out", sizes=Sizes.small(), seconds=450.0)
    made.commands = commands  # type: ignore[attr-defined]
    return made


@pytest.mark.parametrize("bench", [False], indirect=True)
def test_lanes_are_skipped_with_a_line_where_there_are_none(bench: Any):
    for part in ("rates", "search", "retrain"):
        bench.run(part)
    assert bench.commands.option("--lanes") == []
    text = bench.report.markdown()
    assert "hpo launch --help has no option --lanes" in text
    assert "2 processes instead" in text
    written = json.loads((bench.output / "gpu-quick.json").read_text())
    assert [table["title"] for table in written["tables"]][:2] == [
        "mnist-cnn: training images a second",
        "cifar-resnet: training images a second",
    ]


@pytest.mark.parametrize("bench", [True], indirect=True)
def test_lanes_are_measured_where_there_are_some(bench: Any):
    for part in ("rates", "search", "retrain"):
        bench.run(part)
    assert {"1", "2"} == {*bench.commands.option("--lanes")}
    assert bench.report.raw["rate-mnist-cnn-lanes-2"]["images/s"] == 128.0
    bench.goals()
    (goals,) = (table.rows for table in bench.report.tables if table.title == "Goals")
    assert [row["measured"] for row in goals][:2] == [5.0, 1.0]


@pytest.mark.parametrize("bench", [True], indirect=True)
def test_search_has_the_lanes_with_the_highest_rate(bench: Any):
    assert bench._best_lanes() == 2
    rates = {("lanes", 4): 900.0, ("lanes", 8): 1000.0, ("lanes", 16): None, ("processes", 32): 2000.0}
    rows = [{"trials at once": count, "as": kind, "images/s": rate} for (kind, count), rate in rates.items()]
    bench.report.table("mnist-cnn: training images a second", rows)
    assert bench._best_lanes() == 8


@pytest.mark.parametrize("bench", [True], indirect=True)
def test_parts_after_the_end_are_skipped(bench: Any):
    bench.seconds = 0.0
    for part in PARTS:
        bench.run(part)
    assert bench.commands.given == []
    assert bench.report.notes == [f"{part}: skipped, because the time is over." for part in PARTS]


def test_launch_that_was_cut_off_before_it_made_the_tables_has_no_epochs() -> None:
    class Empty:
        def rows(self, sql: str, **_: Any) -> list[Any]:
            raise ProgrammingError(sql, {}, Exception('relation "hpo.epochs" does not exist'))

    assert studies.epochs(Empty(), "s") == []  # type: ignore[arg-type]
