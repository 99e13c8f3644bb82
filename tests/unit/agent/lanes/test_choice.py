"""`--lanes auto` measures once, keeps what it has found, and says what it has chosen and why."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hpo.agent.lanes import choice as choice_module
from hpo.agent.lanes import kept_speeds
from hpo.agent.lanes.choice import LaneChoice
from hpo.errors import UsageError
from hpo.options.hosts import AgentOptions, SlotOptions
from hpo.outcomes import Outcome
from hpo.trainer.ends.exits import Event, SpawnFailed, TrainerExited
from hpo.trainer.messages import Finished, LaneSpeed
from hpo.trainer.template.messages import Load
from hpo.trainer.testing import FakePool
from objectives.base import DataOptions
from objectives.description import Description

AUTO = AgentOptions(slots=SlotOptions(lanes="auto"))
DESCRIPTION = Description(
    name="o", metric="loss", direction="minimize", epochs=3, space={}, builds_models=True, code="1"
)
SPEEDS = [LaneSpeed(1, 100.0), LaneSpeed(2, 190.0), LaneSpeed(4, 300.0), LaneSpeed(8, 310.0)]
DONE = Finished(Outcome.COMPLETE)


class Host:
    """A host whose trainer measures `events`."""

    def __init__(self, home: Path, monkeypatch: pytest.MonkeyPatch, backend: str = "jax") -> None:
        monkeypatch.setenv("KERAS_BACKEND", backend)
        self.home = home

    def choose(
        self,
        events: Sequence[Event] = (*SPEEDS, DONE),
        trials: int = 50,
        *,
        options: AgentOptions = AUTO,
        params: dict[str, Any] | None = None,
        description: Description = DESCRIPTION,
        slots: int = 1,
        in_rounds: bool = False,
    ) -> FakePool:
        pool = FakePool(slots=slots, scripts=[lambda _: events])
        load = Load("o", DataOptions(), final=False)
        LaneChoice(pool, load, options, description, self.home).apply(
            lambda: params or {"x": 1}, trials, lambda: None, in_rounds=in_rounds
        )
        assert not pool.busy
        assert not list((self.home / "logs").glob("*"))
        return pool


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Host:
    caplog.set_level(logging.INFO)
    return Host(tmp_path, monkeypatch)


def test_slots_are_divided_into_the_lanes_that_are_fastest(host: Host, caplog) -> None:
    pool = host.choose()
    assert [(device.lane, device.lanes) for device in pool.devices] == [(lane, 4) for lane in range(4)]
    assert pool.starts[0].most_lanes == 50
    assert caplog.messages == [
        "--lanes auto: measuring how many trials of o train fastest at once, for up to 5 minutes",
        "--lanes auto: 4 trials a process (images/s 1: 100, 2: 190, 4: 300, 8: 310)",
    ]


def test_speeds_are_measured_again_only_after_a_change(host: Host, caplog, monkeypatch) -> None:
    host.choose()
    caplog.clear()
    assert len(host.choose().starts) == 0
    assert caplog.messages[0].startswith(
        "--lanes auto: 4 trials a process (images/s 1: 100, 2: 190, 4: 300, 8: 310, measured 20"
    )
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "/any")
    assert len(host.choose().starts) == 0
    # Fewer lanes than were measured in the end do, too, and more do not change where it ended.
    assert len(host.choose(trials=100).starts) == 0
    assert len(host.choose(trials=8).starts) == 0
    assert len(host.choose(trials=4).starts) == 0
    # Both are kept.
    seven = [*SPEEDS[:3], LaneSpeed(7, 305.0), DONE]
    assert [len(host.choose(seven, trials).starts) for trials in (7, 7, 50)] == [1, 0, 0]
    for change in (
        {"params": {"x": 2}},
        {"description": replace(DESCRIPTION, code="2")},
    ):
        assert len(host.choose(**change).starts) == 1
    monkeypatch.setattr(kept_speeds, "versions", lambda _: {"jax": "0.0"})
    assert len(host.choose().starts) == 1
    monkeypatch.setenv("XLA_FLAGS", "--xla_made_up")
    assert len(host.choose().starts) == 1
    [latest, *_] = kept_speeds.all_kept(host.home)
    assert latest.objective == "o"


def test_damaged_file_is_measured_again(host: Host) -> None:
    host.choose()
    for path in (host.home / "lanes").iterdir():
        path.write_text("[]")
    assert len(host.choose().starts) == 1
    assert len(kept_speeds.all_kept(host.home)) == 1


def test_one_trial_is_not_measured(host: Host, caplog) -> None:
    assert host.choose(trials=1).starts == []
    assert caplog.messages == [
        "--lanes auto: one trial a process, because no slot has more than one to train"
    ]


def test_no_more_lanes_than_trials(host: Host) -> None:
    pool = host.choose(trials=3, events=[LaneSpeed(1, 1.0), LaneSpeed(2, 2.0), DONE], slots=2)
    assert pool.starts[0].most_lanes == 2
    assert [(device.lane, device.lanes) for device in pool.devices] == [(0, 2), (1, 2), (0, 2)]
    # Five runs in four lanes would take two rounds.
    speeds = [LaneSpeed(1, 100.0), LaneSpeed(2, 150.0), LaneSpeed(4, 200.0), LaneSpeed(5, 205.0), DONE]
    assert len(host.choose(speeds, 5, in_rounds=True).devices) == 5
    assert len(host.choose(speeds, 5).devices) == 4


@pytest.mark.parametrize(
    ("events", "reason"),
    [
        ([Finished(Outcome.INFEASIBLE, "a layer is unknown")], "a layer is unknown"),
        ([Finished(Outcome.BUG, "ValueError: x")], "the measurement failed: ValueError: x"),
        ([SpawnFailed("no room")], "the process that measured has ended: no room"),
    ],
)
def test_without_a_speed_each_trial_has_a_process_of_its_own(host: Host, caplog, events, reason) -> None:
    pool = host.choose(events)
    assert [device.lane for device in pool.devices] == [None]
    assert caplog.messages[-1] == f"--lanes auto: one trial a process, because {reason}"
    assert kept_speeds.all_kept(host.home) == []


@pytest.mark.parametrize(
    ("end", "kept", "reason"),
    [
        # As the kernel ends one that takes too much memory.
        (TrainerExited("killed", -9, True), 1, ""),
        (Finished(Outcome.OUT_OF_MEMORY, "RESOURCE_EXHAUSTED"), 1, ""),
        (TrainerExited("killed", -9, False), 0, "the process that measured has ended: killed"),
        (Finished(Outcome.BUG, "ValueError: x"), 0, "the measurement failed: ValueError: x"),
        (None, 0, "its time, 5 minutes, was over: give --lanes N to choose yourself"),
    ],
)
def test_end_before_the_last_speed_is_used_and_kept_only_if_it_would_repeat(
    host: Host, caplog, monkeypatch, end: Event | None, kept: int, reason: str
) -> None:
    if end is None:
        monkeypatch.setattr(choice_module, "MOST_SECONDS", 300.0)
        times = iter((0.0, 1.0, 400.0))
        monkeypatch.setattr(choice_module.ListeningClock, "now", lambda _: next(times))
    pool = host.choose([*SPEEDS[:2], *([] if end is None else [end])])
    assert len(pool.devices) == 2
    assert len(kept_speeds.all_kept(host.home)) == kept
    more = f"; no more of them are known: {reason}" if reason else ""
    assert caplog.messages[-1] == f"--lanes auto: 2 trials a process (images/s 1: 100, 2: 190{more})"


def test_measurement_that_takes_too_long_ends(host: Host, caplog, monkeypatch) -> None:
    monkeypatch.setattr(choice_module, "MOST_SECONDS", 0.0)
    assert len(host.choose([]).devices) == 1
    assert caplog.messages[-1].startswith(
        "--lanes auto: one trial a process, because its time, 0 minutes, was over:"
    )


@pytest.mark.parametrize(
    ("backend", "options", "description", "reason"),
    [
        ("tensorflow", AUTO, DESCRIPTION, "lanes need JAX, and Keras uses tensorflow (--backend jax)"),
        (
            "jax",
            replace(AUTO, memory_bytes=1),
            DESCRIPTION,
            "--memory-per-worker limits a process, and the trials of all lanes share one",
        ),
        ("jax", replace(AUTO, fresh_processes=True), DESCRIPTION, "--fresh-processes asks for it"),
        (
            "jax",
            AUTO,
            replace(DESCRIPTION, builds_models=False),
            "o does not train by the loop of KerasObjective",
        ),
    ],
)
def test_lanes_that_cannot_be_are_not_measured(
    host: Host, caplog, monkeypatch, backend, options, description, reason
) -> None:
    monkeypatch.setenv("KERAS_BACKEND", backend)
    pool = host.choose(options=options, description=description)
    assert (pool.starts, len(pool.devices)) == ([], 1)
    assert caplog.messages == [f"--lanes auto: one trial a process, because {reason}"]


def test_number_of_lanes_is_not_measured(host: Host) -> None:
    options = AgentOptions(slots=SlotOptions(lanes=4))
    assert host.choose(options=options).starts == []
    with pytest.raises(UsageError, match="which --lanes 4 needs"):
        host.choose(options=options, description=replace(DESCRIPTION, builds_models=False))
