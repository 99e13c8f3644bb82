"""Attempts of one lane host, a real process: each has its own pipe, log and end."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from hpo.process.identity import is_running
from hpo.trainer.ends.exits import Blame, Event, TrainerExited
from hpo.trainer.lanes import pooled_host
from hpo.trainer.messages import Command, Continue, Epoch, Finished, Start, Started
from hpo.trainer.pool import TrainerPool
from hpo.trainer.template.messages import Load
from hpo.trainer.testing import start_message
from objectives.base import DataOptions
from objectives.device import Device

LANES = 3

OBJECTIVE = """
import logging
import os
import subprocess
import sys
import time
from pathlib import Path

from optuna.distributions import FloatDistribution

from objectives.base import Objective
from objectives.errors import SharedFailureError

LOG = logging.getLogger("own")
LOG.addHandler(logging.StreamHandler())


class Lane(Objective):
    metric, direction, epochs, space = "loss", "minimize", 3, {"x": FloatDistribution(0, 1)}

    def train(self, params, run):
        self.own = params["name"]
        done = run.state["done"] if run.state else 0
        for epoch in run.epochs():
            assert epoch == done + 1
            print(f"{params['name']} trains epoch {epoch}")
            print("a note", file=sys.stderr)
            LOG.warning("a warning")
            Path(params["gate"] + "-reached").touch()
            while not Path(params["gate"]).exists():
                time.sleep(0.01)
                if not params.get("stuck"):
                    run.tick(0, 1)
            assert self.own == params["name"], "attributes are those of one attempt"
            match params.get("ends"):
                case "bug":
                    raise ValueError(params["name"])
                case "shared":
                    raise SharedFailureError("the program has failed")
                case "exit":
                    os._exit(7)
                case "crash":
                    os.write(2, b"last words\\n")
                    os.abort()
                case "native":
                    subprocess.run(["echo", "printed by a child"], check=True)
            done = epoch
            run.save({"done": done})
            run.report(loss=1.0 / epoch)
"""


@dataclass
class Lanes:
    """A pool with one lane host, and its events so far."""

    pool: TrainerPool
    folder: Path
    events: dict[int, list[Event]] = field(default_factory=dict)
    starts: dict[int, Start] = field(default_factory=dict)

    def start(self, slot: int, name: str, *, alone: bool = False, **params: object) -> None:
        gate = str(self.folder / f"gate-{name}")
        self.events[slot] = []
        self.starts[slot] = start_message(
            params={"name": name, "gate": gate, **params},
            device=self.pool.devices[slot],
            checkpoints=str(self.folder / f"trial-{name}"),
            log=str(self.folder / f"log-{name}"),
            alone=alone,
        )
        self.pool.start(slot, self.starts[slot])

    def open(self, name: str) -> None:
        (self.folder / f"gate-{name}").touch()

    def log(self, name: str) -> str:
        return (self.folder / f"log-{name}").read_text()

    def wait_for(self, condition: Callable[[], bool]) -> None:
        """Answer epochs until a condition holds."""
        for _ in range(600):
            if condition():
                return
            for slot, event in self.pool.wait(0.05):
                self.events[slot].append(event)
                if isinstance(event, Epoch):
                    self.pool.send(slot, Continue(event.record.epoch))
        raise AssertionError(self.events)

    def of(self, slot: int, kind: type[Event]) -> list[Event]:
        return [event for event in self.events[slot] if isinstance(event, kind)]

    def outcome(self, slot: int) -> str | None:
        finished = self.of(slot, Finished)
        return finished[0].outcome if finished else None

    def pid(self, slot: int) -> int:
        self.wait_for(lambda: bool(self.of(slot, Started)))
        return self.of(slot, Started)[0].pid


@pytest.fixture
def lanes(tmp_path: Path) -> Iterator[Lanes]:
    file = tmp_path / "lane_objective.py"
    file.write_text(OBJECTIVE)
    devices = [Device(lane=lane, lanes=LANES) for lane in range(LANES)]
    with TrainerPool(
        Load(f"{file}:Lane", DataOptions(), final=False), devices, tmp_path / "template.log"
    ) as pool:
        lanes = Lanes(pool, tmp_path)
        lanes.wait_for(lambda: pool.ready)
        yield lanes


def test_attempts_of_one_process_have_their_own_logs_outcomes_and_successors(lanes: Lanes) -> None:
    for slot, (name, ends) in enumerate({"fine": "", "ill": "bug", "other": ""}.items()):
        lanes.start(slot, name, ends=ends)
    assert len({lanes.pid(slot) for slot in range(LANES)}) == 1
    lanes.open("ill")
    lanes.wait_for(lambda: lanes.outcome(1) == "bug")
    assert lanes.pool.free_slots() == [1]
    lanes.start(1, "next")
    lanes.open("next")
    lanes.wait_for(lambda: lanes.outcome(1) == "complete")
    assert lanes.pid(1) == lanes.pid(0)
    lanes.pool.send(0, Command.PRUNE)
    lanes.open("fine")
    lanes.wait_for(lambda: lanes.outcome(0) == "pruned")
    lanes.open("other")
    lanes.wait_for(lambda: lanes.outcome(2) == "complete")
    assert lanes.log("next").splitlines() == [
        line for epoch in (1, 2, 3) for line in (f"next trains epoch {epoch}", "a note", "a warning")
    ]
    assert "ValueError: ill" in lanes.log("ill")
    assert "fine trains epoch 2" not in lanes.log("fine")


def test_killed_attempt_leaves_its_lane_to_another_and_its_neighbours_alone(lanes: Lanes) -> None:
    lanes.start(0, "killed"), lanes.start(1, "stays")
    pid = lanes.pid(0)
    lanes.pid(1)
    lanes.pool.kill(0)
    assert 0 not in lanes.pool.free_slots(), "its lane is not free yet"
    lanes.wait_for(lambda: 0 in lanes.pool.free_slots())
    assert not lanes.of(0, Finished)
    assert "Traceback" not in lanes.log("killed")
    assert not (lanes.folder / "trial-killed").exists() or not list((lanes.folder / "trial-killed").iterdir())
    lanes.start(0, "after")
    assert lanes.pid(0) == pid
    for name in ("after", "stays"):
        lanes.open(name)
    lanes.wait_for(lambda: lanes.outcome(0) == lanes.outcome(1) == "complete")


def test_attempt_that_does_not_end_costs_its_neighbours_no_blame(
    lanes: Lanes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pooled_host, "END_SECONDS", 0.3)
    lanes.start(0, "stuck", stuck=True), lanes.start(1, "stays")
    pid = lanes.pid(0)
    lanes.pid(1)
    # Before, it would leave its lane when it begins the epoch.
    lanes.wait_for((lanes.folder / "gate-stuck-reached").exists)
    lanes.pool.kill(0)
    lanes.wait_for(lambda: bool(lanes.of(1, TrainerExited)))
    (exited,) = lanes.of(1, TrainerExited)
    assert exited.blame is Blame.NONE
    assert not is_running(pid)
    lanes.start(1, "stays")
    lanes.open("stays")
    lanes.wait_for(lambda: lanes.outcome(1) == "complete")
    assert lanes.pid(1) != pid


@pytest.mark.parametrize("how", ["killed", "exits by itself", "killed without its template"])
def test_attempts_that_die_with_their_process_share_the_blame(lanes: Lanes, how: str) -> None:
    lanes.start(0, "one", ends="exit"), lanes.start(1, "other")
    pid = lanes.pid(0)
    lanes.pid(1)
    if how == "exits by itself":
        lanes.open("one")
    else:
        if how.endswith("template"):
            lanes.pool.replace_template()
            lanes.wait_for(lambda: not lanes.pool.ready)
        os.kill(pid, signal.SIGKILL)
    lanes.wait_for(lambda: bool(lanes.of(0, TrainerExited) and lanes.of(1, TrainerExited)))
    assert {lanes.of(slot, TrainerExited)[0].blame for slot in (0, 1)} == {Blame.SHARED}
    lanes.wait_for(lambda: lanes.pool.ready)
    lanes.start(1, "other")
    lanes.open("other")
    lanes.wait_for(lambda: lanes.outcome(1) == "complete")


@pytest.mark.parametrize(("ends", "words"), [("native", "printed by a child"), ("crash", "last words")])
def test_what_no_lane_has_printed_is_in_the_logs_of_all(lanes: Lanes, ends: str, words: str) -> None:
    lanes.start(0, "one", ends=ends), lanes.start(1, "other")
    lanes.pid(0), lanes.pid(1)
    lanes.open("one")
    lanes.wait_for(lambda: bool(lanes.of(0, TrainerExited) or lanes.of(0, Finished)))
    for name in ("one", "other"):
        text = lanes.log(name)
        assert text.count(f"{words}\n") == text.count("[hpo: printed by the process of this trial and others")
        assert words in text


def test_only_attempt_of_a_process_is_to_blame(lanes: Lanes) -> None:
    lanes.start(0, "one", ends="exit")
    lanes.open("one")
    lanes.wait_for(lambda: bool(lanes.of(0, TrainerExited)))
    assert lanes.of(0, TrainerExited)[0].blame is Blame.OWN


def test_attempt_that_trains_alone_has_a_process_of_its_own(lanes: Lanes) -> None:
    lanes.start(0, "one"), lanes.start(1, "alone", alone=True)
    assert lanes.pid(0) != lanes.pid(1)
    lanes.open("one"), lanes.open("alone")
    lanes.wait_for(lambda: lanes.outcome(0) == lanes.outcome(1) == "complete")


def test_failure_of_what_lanes_share_is_given_back(lanes: Lanes) -> None:
    lanes.start(0, "one", ends="shared")
    lanes.open("one")
    lanes.wait_for(lambda: lanes.outcome(0) == "yielded")
    assert lanes.of(0, Finished)[0].shared
    assert "the program has failed" in lanes.log("one")


def test_host_ends_with_its_pool(lanes: Lanes) -> None:
    lanes.start(0, "one", stuck=True)
    pid = lanes.pid(0)
    lanes.pool.kill_all()
    lanes.wait_for(lambda: not is_running(pid))
