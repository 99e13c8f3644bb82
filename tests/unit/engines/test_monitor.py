"""When the one who watches ends the agents, and how it ends itself; agents and database are made up here."""

from __future__ import annotations

import io
import logging
import signal
import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from hpo.agent.trial_store import StudySnapshot
from hpo.engines.monitor import AgentsFailedError, Placed, Watch, WatchTimes
from hpo.engines.progress_feed import News
from hpo.outcomes import Outcome
from hpo.process.shutdown import ExitCode
from hpo.terminal.progress import PlainProgress, SlotView, TrialEnd
from storage.budget import Counts

STUDY: Any = SimpleNamespace(name="s", spec=SimpleNamespace(metric="loss"))


@pytest.fixture(autouse=True)
def _log_handlers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove the handlers that a test adds."""
    logger = logging.getLogger("hpo")
    monkeypatch.setattr(logger, "handlers", [])
    monkeypatch.setattr(logger, "level", logging.INFO)
    logger.manager._clear_cache()  # type: ignore[attr-defined]


class Agents:
    """A `Placement` that does at once what it is told."""

    def __init__(self, wanted: int = 2, placed: int = 2, obedient: bool = True) -> None:
        self.wanted, self.placed, self.ended = wanted, placed, 0
        self.obedient = obedient
        self.told: list[str] = []
        self.complaints: list[str] = []
        self.nodes: list[str] = []

    def look(self) -> Placed:
        complaints, self.complaints = self.complaints, []
        return Placed(self.wanted, self.placed, self.ended, complaints, self.nodes)

    def interrupt(self) -> None:
        self.told.append("interrupt")

    def stop(self) -> None:
        self.told.append("stop")
        if self.obedient:
            self.end()

    def end(self) -> None:
        self.placed, self.ended = 0, self.wanted


class Study:
    """A `Feed` of a study whose trials end one a look, until a step changes its course."""

    def __init__(self, budget: int = 3) -> None:
        self.budget, self.finished, self.control = budget, 0, "run"
        self.steps: dict[int, Callable[[], object]] = {}
        self.looks = 0
        self.moving = True
        self.hosts: list[str] = []
        self.slots: list[SlotView] = []

    def news(self) -> News:
        self.steps.get(self.looks, lambda: None)()
        self.looks += 1
        ended = []
        if self.moving and self.control == "run" and self.finished < self.budget and self.looks > 1:
            ended = [TrialEnd(self.finished, Outcome.COMPLETE, 0.5, 4, 1.0, {"x": 1})]
            self.finished += 1
        counts = Counts(self.budget, self.finished, 0, 0, 1, 0)
        return News(StudySnapshot(self.control, counts, None), self.slots, ended, self.hosts)


def watch(
    study: Study, agents: Agents, stream: io.StringIO, timeout: float | None = None, **times: float
) -> Watch:
    patience = {"poll_seconds": 0.001, "settle_seconds": 0.02, "stop_seconds": 0.05, **times}
    feed: Any = study
    logging.getLogger("hpo").addHandler(logging.StreamHandler(stream))
    return Watch(STUDY, feed, agents, PlainProgress(), threading.Event(), timeout, WatchTimes(**patience))


def test_the_budget_is_spent_and_the_agents_end_by_themselves() -> None:
    study, agents, said = Study(), Agents(), io.StringIO()
    study.steps[6] = agents.end
    ending, news = watch(study, agents, said, settle_seconds=60.0).run()
    assert (ending, news.snapshot.counts.finished, agents.told) == (ExitCode.DONE, 3, [])
    assert [line.split()[1] for line in said.getvalue().splitlines() if line.startswith("trial")] == list(
        "012"
    )


def test_agents_that_never_found_a_place_are_not_waited_for() -> None:
    study, agents, said = Study(), Agents(wanted=3, placed=2), io.StringIO()

    def end_both() -> None:
        agents.placed, agents.ended = 0, 2

    study.steps[6] = end_both
    ending, _ = watch(study, agents, said, settle_seconds=60.0).run()
    assert (ending, agents.told) == (ExitCode.DONE, [])
    assert "agents: 2 of 3 are placed, 1 waits for a place" in said.getvalue()


def test_agents_that_do_not_obey_are_left() -> None:
    study, agents = Study(), Agents(obedient=False)
    ending, _ = watch(study, agents, io.StringIO()).run()
    assert (ending, agents.told) == (ExitCode.DONE, ["stop"])


def test_a_stopped_study() -> None:
    study, agents, said = Study(budget=100), Agents(), io.StringIO()
    study.steps[2] = lambda: setattr(study, "control", "stop")
    study.steps[4] = agents.end
    ending, _ = watch(study, agents, said, settle_seconds=60.0).run()
    assert (ending, agents.told) == (ExitCode.DONE, [])
    assert "the study was stopped: hpo launch continues it" in said.getvalue()


def test_the_time_is_up() -> None:
    agents, said = Agents(), io.StringIO()
    ending, _ = watch(Study(budget=10**9), agents, said, timeout=0.01).run()
    assert (ending, agents.told) == (ExitCode.DONE, ["stop"])
    assert "the time is up" in said.getvalue()


@pytest.mark.parametrize(
    ("signals", "told"),
    [
        ([signal.SIGINT], ["interrupt"]),
        ([signal.SIGTERM], ["stop"]),
        ([signal.SIGINT, signal.SIGINT], ["interrupt", "stop"]),
        ([signal.SIGINT, signal.SIGTERM], ["interrupt", "stop"]),
    ],
)
def test_signals(signals: list[int], told: list[str]) -> None:
    study, agents = Study(budget=10**9), Agents()
    watcher = watch(study, agents, io.StringIO())
    for look, number in enumerate(signals):
        study.steps[2 + look] = lambda number=number: watcher.handle_signal(number)
    study.steps[10] = agents.end
    ending, _ = watcher.run()
    assert (ending, agents.told) == (ExitCode.INTERRUPTED, told)


def test_every_agent_has_failed() -> None:
    study, agents, said = Study(), Agents(), io.StringIO()
    study.moving = False

    def fail() -> None:
        agents.complaints = ["the agent on n1 has ended: mnist is missing: hpo data fetch mnist"]
        agents.end()

    study.steps[2] = fail
    with pytest.raises(AgentsFailedError, match="mnist is missing"):
        watch(study, agents, said).run()
    # As the error, and not before it too.
    assert "mnist is missing" not in said.getvalue()


def test_trials_that_ended_since_the_last_look_are_counted_one_by_one() -> None:
    study, agents, said = Study(), Agents(), io.StringIO()
    ends = [
        TrialEnd(n, outcome, None, 1, 1.0, {})
        for n, outcome in enumerate((Outcome.COMPLETE, Outcome.BUG, Outcome.PRUNED))
    ]
    news = News(StudySnapshot("run", Counts(2, 1, 1, 1, 0, 0), None), [], ends, ["n1"])
    study.news = lambda: news  # type: ignore[method-assign]
    agents.stop()
    watch(study, agents, said).run()
    assert [line.rpartition(" ")[2] for line in said.getvalue().splitlines() if line.startswith("trial")] == [
        "[1/2]",
        "[1/2]",
        "[2/2]",
    ]


def test_a_node_that_dies_is_told_of() -> None:
    study, agents, said = Study(budget=30), Agents(), io.StringIO()
    study.steps[5] = lambda: setattr(agents, "placed", 1)
    study.steps[9] = lambda: setattr(agents, "placed", 2)
    watch(study, agents, said).run()
    lines = [line for line in said.getvalue().splitlines() if line.startswith("agents:")]
    assert lines == [
        "agents: 2 of 2 are placed",
        "agents: 1 of 2 are placed, 1 waits for a place",
        "agents: 2 of 2 are placed",
    ]


def test_placed_agents_that_do_not_train_are_told_of() -> None:
    study, agents, said = Study(), Agents(wanted=3, placed=3), io.StringIO()
    study.moving = False
    agents.nodes = ["n1", "n2", "n2"]
    # Somebody's own `hpo worker` stands for none of them.
    study.hosts = ["n1", "n1", "elsewhere"]
    watcher = watch(study, agents, said, idle_seconds=0.01)

    def told(what: str) -> bool:
        return what in said.getvalue()

    def step() -> None:
        if told("n2 (2)") and study.hosts[-1] == "elsewhere":
            study.hosts = ["n1", "n2", "n2"]
        elif told("all have joined"):
            study.control = "stop"
            agents.end()

    for look in range(10_000):
        study.steps[look] = step
    watcher.run()
    lines = [line for line in said.getvalue().splitlines() if "being trained" in line]
    assert lines[0].endswith(
        "2 of 3 placed agents have not joined the study yet: n2 (2); they start or load the objective, and"
        " nodes that are busy keep them from it"
    )
    assert lines[-1].endswith("of 3 placed agents all have joined the study: they load its data")
    # Ever more rarely.
    assert len(lines) < 12


def test_agents_that_train_or_wait_for_a_user_are_not_told_of() -> None:
    study, agents, said = Study(), Agents(), io.StringIO()
    study.moving = False
    study.slots = [SlotView("n1 cpu", 0)]
    study.steps[20] = lambda: (study.slots.clear(), setattr(study, "control", "pause"))
    study.steps[40] = lambda: setattr(study, "control", "stop")
    study.steps[41] = agents.end
    watch(study, agents, said, idle_seconds=0.0).run()
    assert "being trained" not in said.getvalue()


def test_agents_that_finish_the_study_and_end_between_two_questions() -> None:
    """All that happens between the two is the end: whichever is asked first must not make it a failure."""
    study, agents, said = Study(), Agents(), io.StringIO()
    study.moving = False
    look, news = agents.look, study.news
    asked: list[str] = []

    def end_after_the_first(name: str) -> None:
        asked.append(name)
        if len(asked) == 4 + 1:
            study.finished = study.budget
            agents.end()

    def looked() -> Placed:
        found = look()
        end_after_the_first("agents")
        return found

    def read() -> News:
        found = news()
        end_after_the_first("books")
        return found

    agents.look, study.news = looked, read  # type: ignore[method-assign]
    ending, last = watch(study, agents, said, settle_seconds=60.0).run()
    assert (ending, last.snapshot.counts.finished) == (ExitCode.DONE, 3)
