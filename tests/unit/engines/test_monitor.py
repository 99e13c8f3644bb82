"""The monitor of agents that run elsewhere, with fake agents and a fake study."""

from __future__ import annotations

import io
import logging
import signal
import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from hpo.engines.monitor import AgentsFailedError, AgentStates, Monitor, MonitorTimes
from hpo.engines.progress_feed import Update
from hpo.outcomes import Outcome
from hpo.process.shutdown import ExitCode
from hpo.terminal.log import TerminalFormatter
from hpo.terminal.progress import PlainProgress
from hpo.terminal.trial_lines import TrialEnd
from storage.budget import Counts

STUDY: Any = SimpleNamespace(name="s", spec=SimpleNamespace(metric="loss"))


@pytest.fixture(autouse=True)
def _log_handlers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove the handlers that a test adds."""
    logger = logging.getLogger("hpo")
    monkeypatch.setattr(logger, "handlers", [])
    monkeypatch.setattr(logger, "level", logging.INFO)
    logger.manager._clear_cache()  # type: ignore[attr-defined]


def ended_trial(number: int, outcome: Outcome) -> TrialEnd:
    return TrialEnd(number=number, outcome=outcome, value=0.5, epochs=4, seconds=1.0, params={"x": 1})


class Agents:
    """A `Placement` that obeys at once."""

    def __init__(self, wanted: int = 2, placed: int = 2, obedient: bool = True) -> None:
        self.wanted, self.placed, self.ended = wanted, placed, 0
        self.obedient = obedient
        self.requests: list[str] = []
        self.errors: list[str] = []
        self.nodes: list[str] = []

    def poll(self) -> AgentStates:
        errors, self.errors = self.errors, []
        return AgentStates(self.wanted, self.placed, self.ended, errors, self.nodes)

    def interrupt(self) -> None:
        self.requests.append("interrupt")

    def stop(self) -> None:
        self.requests.append("stop")
        if self.obedient:
            self.end()

    def end(self) -> None:
        self.placed, self.ended = 0, self.wanted


class Study:
    """A `ProgressFeed` of a study in which one trial ends per poll, until a step changes it."""

    def __init__(self, budget: int = 3) -> None:
        self.budget, self.finished, self.control = budget, 0, "run"
        self.steps: dict[int, Callable[[], object]] = {}
        self.polls = 0
        self.moving = True
        self.hosts: list[str] = []
        self.slots: list[Any] = []

    def poll(self) -> Update:
        self.steps.get(self.polls, lambda: None)()
        self.polls += 1
        ended = []
        if self.moving and self.control == "run" and self.finished < self.budget and self.polls > 1:
            ended = [ended_trial(self.finished, Outcome.COMPLETE)]
            self.finished += 1
        counts = Counts(budget=self.budget, complete=self.finished, running=1)
        return Update(self.status(counts), ended)

    def status(self, counts: Counts) -> Any:
        agents = [SimpleNamespace(host=host) for host in self.hosts]
        return SimpleNamespace(
            desired_state=self.control,
            counts=counts,
            best=None,
            slots=self.slots,
            agents=agents,
            epochs_per_trial=4,
        )


def monitor(
    study: Study, agents: Agents, stream: io.StringIO, timeout: float | None = None, **times: float
) -> Monitor:
    intervals = {"poll_seconds": 0.001, "settle_seconds": 0.02, "stop_seconds": 0.05, **times}
    feed: Any = study
    handler = logging.StreamHandler(stream)
    handler.setFormatter(TerminalFormatter())
    logging.getLogger("hpo").addHandler(handler)
    return Monitor(
        STUDY, feed, agents, PlainProgress(), threading.Event(), timeout, MonitorTimes(**intervals)
    )


def test_agents_end_by_themselves_once_the_budget_is_spent() -> None:
    study, agents, output = Study(), Agents(), io.StringIO()
    study.steps[6] = agents.end
    ending, status = monitor(study, agents, output, settle_seconds=60.0).run()
    assert (ending, status.counts.finished, agents.requests) == (ExitCode.DONE, 3, [])
    ends = [line.partition(":")[0] for line in output.getvalue().splitlines() if line.startswith("trial")]
    assert ends == ["trial 0", "trial 1", "trial 2"]


def test_monitor_does_not_wait_for_agents_without_a_node() -> None:
    study, agents, output = Study(), Agents(wanted=3, placed=2), io.StringIO()

    study.steps[6] = lambda: vars(agents).update(placed=0, ended=2)
    ending, _ = monitor(study, agents, output, settle_seconds=60.0).run()
    assert (ending, agents.requests) == (ExitCode.DONE, [])
    assert "agents: 2 of 3 are placed, 1 waits for a place" in output.getvalue()


def test_unresponsive_agents_are_abandoned() -> None:
    study, agents = Study(), Agents(obedient=False)
    ending, _ = monitor(study, agents, io.StringIO()).run()
    assert (ending, agents.requests) == (ExitCode.DONE, ["stop"])


def test_stopped_study_ends() -> None:
    study, agents, output = Study(budget=100), Agents(), io.StringIO()
    study.steps[2] = lambda: setattr(study, "control", "stop")
    study.steps[4] = agents.end
    ending, _ = monitor(study, agents, output, settle_seconds=60.0).run()
    assert (ending, agents.requests) == (ExitCode.DONE, [])
    assert "the study was stopped: hpo launch continues it" in output.getvalue()


def test_timeout_stops_the_agents() -> None:
    agents, output = Agents(), io.StringIO()
    ending, _ = monitor(Study(budget=10**9), agents, output, timeout=0.01).run()
    assert (ending, agents.requests) == (ExitCode.DONE, ["stop"])
    assert "the time is up" in output.getvalue()


@pytest.mark.parametrize(
    ("signals", "requests"),
    [
        ([signal.SIGINT], ["interrupt"]),
        ([signal.SIGTERM], ["stop"]),
        ([signal.SIGINT, signal.SIGINT], ["interrupt", "stop"]),
        ([signal.SIGINT, signal.SIGTERM], ["interrupt", "stop"]),
    ],
)
def test_signals_become_requests(signals: list[int], requests: list[str]) -> None:
    study, agents = Study(budget=10**9), Agents()
    running = monitor(study, agents, io.StringIO())
    for poll, number in enumerate(signals):
        study.steps[2 + poll] = lambda number=number: running.handle_signal(number)
    study.steps[10] = agents.end
    ending, _ = running.run()
    assert (ending, agents.requests) == (ExitCode.INTERRUPTED, requests)


def test_last_error_is_raised_when_all_agents_fail() -> None:
    study, agents, output = Study(), Agents(), io.StringIO()
    study.moving = False

    def fail() -> None:
        agents.errors = ["the agent on n1 has ended: mnist is missing: hpo data fetch mnist"]
        agents.end()

    study.steps[2] = fail
    with pytest.raises(AgentsFailedError, match="mnist is missing"):
        monitor(study, agents, output).run()
    # Reported as the error only.
    assert "mnist is missing" not in output.getvalue()


def test_trials_ended_since_the_last_poll_are_counted_one_by_one() -> None:
    study, agents, output = Study(), Agents(), io.StringIO()
    ends = [
        ended_trial(n, outcome) for n, outcome in enumerate((Outcome.COMPLETE, Outcome.BUG, Outcome.PRUNED))
    ]
    update = Update(study.status(Counts(budget=2, complete=1, pruned=1, failed=1)), ends)
    study.poll = lambda: update  # type: ignore[method-assign]
    agents.stop()
    monitor(study, agents, output).run()
    assert [
        line.rpartition(" ")[2] for line in output.getvalue().splitlines() if line.startswith("trial")
    ] == [
        "[1/2]",
        "[1/2]",
        "[2/2]",
    ]


def test_lost_node_is_reported() -> None:
    study, agents, output = Study(budget=30), Agents(), io.StringIO()
    study.steps[5] = lambda: setattr(agents, "placed", 1)
    study.steps[9] = lambda: setattr(agents, "placed", 2)
    monitor(study, agents, output).run()
    lines = [line for line in output.getvalue().splitlines() if line.startswith("agents:")]
    assert lines == [
        "agents: 2 of 2 are placed",
        "agents: 1 of 2 are placed, 1 waits for a place",
        "agents: 2 of 2 are placed",
    ]


def test_idle_placed_agents_are_reported() -> None:
    study, agents, output = Study(), Agents(wanted=3, placed=3), io.StringIO()
    study.moving = False
    agents.nodes = ["n1", "n2", "n2"]
    # A separate `hpo worker` is not one of the placed agents.
    study.hosts = ["n1", "n1", "elsewhere"]
    running = monitor(study, agents, output, idle_seconds=0.01)

    def logged(text: str) -> bool:
        return text in output.getvalue()

    def step() -> None:
        if logged("n2 (2)") and study.hosts[-1] == "elsewhere":
            study.hosts = ["n1", "n2", "n2"]
        elif logged("have joined the study and"):
            study.control = "stop"
            agents.end()

    study.steps = dict.fromkeys(range(10_000), step)
    running.run()
    lines = [line for line in output.getvalue().splitlines() if "no trial has been running" in line]
    assert lines[0].endswith(
        "2 of 3 placed agents have not joined the study yet: n2 (2); they are starting or loading the"
        " objective, which takes longer on busy nodes"
    )
    assert lines[-1].endswith("all 3 placed agents have joined the study and load its data")
    # With doubled intervals.
    assert len(lines) < 12


def test_running_or_paused_agents_are_not_reported_as_idle() -> None:
    study, agents, output = Study(), Agents(), io.StringIO()
    study.moving = False
    study.slots = [SimpleNamespace(host="n1", device="cpu", number=0, epoch=0, metric=None)]
    study.steps[20] = lambda: (study.slots.clear(), setattr(study, "control", "pause"))
    study.steps[40] = lambda: setattr(study, "control", "stop")
    study.steps[41] = agents.end
    monitor(study, agents, output, idle_seconds=0.0).run()
    assert "no trial has been running" not in output.getvalue()


def test_study_that_ends_between_two_polls_is_done() -> None:
    """Agents that end between the poll of the study and theirs have not failed."""
    study, agents, output = Study(), Agents(), io.StringIO()
    study.moving = False
    polls = 0

    def ending_at_the_fifth(poll: Callable[[], Any]) -> Callable[[], Any]:
        def polled() -> Any:
            nonlocal polls
            found, polls = poll(), polls + 1
            if polls == 5:
                study.finished = study.budget
                agents.end()
            return found

        return polled

    agents.poll, study.poll = map(ending_at_the_fifth, (agents.poll, study.poll))  # type: ignore[method-assign]
    ending, last = monitor(study, agents, output, settle_seconds=60.0).run()
    assert (ending, last.counts.finished) == (ExitCode.DONE, 3)
