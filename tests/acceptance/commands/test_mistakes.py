"""A user's mistake is one line on stderr, with the right exit code, and loses nothing."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.acceptance.service import OBJECTIVES, Service

LAUNCH = ("launch", "--study", "s", "--objective", f"{OBJECTIVES}:Counted", "--trials", 1, "--workers", 1)


def assert_nothing_left(service: Service) -> None:
    """Check that a refused launch has left no study behind, in Optuna's tables either."""
    assert (
        service.value("SELECT (SELECT count(*) FROM hpo.studies) + (SELECT count(*) FROM public.studies)")
        == 0
    )


WRONG: list[tuple[tuple[object, ...], str]] = [
    (("launch", "--study", "digits-cn"), "did you mean digits-cnn"),
    (("launch", "--study", "s", "--objective", "nowhere.py:Mine"), "there is no file"),
    (("launch", "--study", "s", "--objective", f"{OBJECTIVES}"), ":MyObjective"),
    (("launch", "--study", "s/t"), "invalid study name 's/t'"),
    (("launch", "--study", "s", "--sampler", "tpee"), "did you mean tpe"),
    (("launch", "--study", "s", "--pruner", "medien"), "did you mean median"),
    (("launch", "--study", "s", "--trials", "0"), "--trials"),
    (("worker", "--study", "s"), "no study 's'"),
    (("retrain", "--study", "s"), "no study 's'"),
    (("launch", "--study", "s", "--storage", "sqlite:///x.db"), "PostgreSQL"),
    (("launch", "--study", "s", "--storage", "journal.log"), "PostgreSQL"),
    ((*LAUNCH, "--param", "letters=a"), "did you mean letter"),
    ((*LAUNCH, "--param", "x=1..9"), "lies outside -5..5"),
]
"""Command lines that name what there is not, or a value that may not be, and what the refusal says."""


def test_wrong_name_or_value_is_refused(service: Service) -> None:
    for arguments, message in WRONG:
        ended = service.hpo(*arguments)
        assert message in ended.complaint(2)
        assert_nothing_left(service)


def test_objective_file_that_raises_on_import_is_reported(service: Service) -> None:
    broken = service.folder / "broken.py"
    broken.write_text("import numpy\n\nnumpy.no_such_thing\n")
    ended = service.hpo("launch", "--study", "s", "--objective", f"{broken}:Mine")
    assert f"{broken}, line 3: AttributeError" in ended.complaint()
    assert_nothing_left(service)


def test_missing_class_lists_objectives_of_the_file(service: Service) -> None:
    ended = service.hpo("launch", "--study", "s", "--objective", f"{OBJECTIVES}:Count")
    assert "objectives in it: Counted, Crowded, " in ended.complaint()


@pytest.fixture
def nowhere() -> Iterator[dict[str, int]]:
    """Ports on which no database answers, by reason."""
    with ExitStack() as held:
        refused, silent, full = (held.enter_context(socket.socket()) for _ in range(3))
        for door in (refused, silent, full):
            door.bind(("127.0.0.1", 0))
        # A server that hangs: the kernel accepts connections for it, and nothing answers.
        silent.listen()
        # A black hole: once the queue of such a server is full, the kernel drops all further packets.
        full.listen(0)
        for _ in range(4):
            caller = held.enter_context(socket.socket())
            caller.setblocking(False)
            caller.connect_ex(full.getsockname())
        doors = {"refused": refused, "silent": silent, "black hole": full}
        yield {why: door.getsockname()[1] for why, door in doors.items()}


def test_unreachable_database_fails_after_timeout(service: Service, nowhere: dict[str, int]) -> None:
    """Commands that train retry for ten seconds, others for half a second; a connection takes five more at most."""
    commands = {}
    for why, port in nowhere.items():
        service.set(HPO_STORAGE=f"postgresql://hpo:secret@127.0.0.1:{port}/hpo")
        for words in (LAUNCH, ("worker", "--study", "s"), ("ls",)):
            commands[why, words[0]] = service.start(*words)
    # All at once, because they only wait. Without a timeout a connection takes minutes, or never ends.
    for (why, word), command in commands.items():
        ended = command.wait(60.0)
        assert ended.code == 1, (why, word)
        assert f"the database at 127.0.0.1:{nowhere[why]} does not answer" in ended.complaint(), (why, word)
        assert ("trying again for 10 s" in ended.out) == (word != "ls"), (why, word)
        assert "secret" not in ended.err + ended.out


def test_conflicting_option_of_existing_study_is_refused(service: Service) -> None:
    assert service.hpo(*LAUNCH, "--epochs", 2).code == 0
    for option, value, began in (("--epochs", 3, "2"), ("--pruner", "none", "median"), ("--seed", 5, "0")):
        ended = service.hpo("launch", "--study", "s", option, value)
        assert f"was created with {option} {began}, not {value}" in ended.complaint()
    other = service.hpo("launch", "--study", "s", "--objective", f"{OBJECTIVES}:Moody")
    assert other.code == 1
    service.check_records(1, epochs=2)


def test_changed_search_space_needs_a_decision(service: Service) -> None:
    assert service.launched("Counted", "--trials", 3, "--workers", 1, "--pruner", "none").code == 0
    finished = [trial.params["x"] for trial in service.study().trials]
    inside = sum(x <= 3.0 for x in finished)

    service.set(TEST_HIGH=3)
    more = ("launch", "--study", "s", "--workers", 1, "--trials")
    refused = service.hpo(*more, 4)
    assert f"{inside} of its 3 finished trials lie in the new one" in refused.complaint()
    assert "--space change" in refused.complaint()
    assert service.value("SELECT count(*) FROM hpo.trials") == 3
    assert service.value("SELECT budget FROM hpo.studies") == 3

    assert service.hpo(*more, 4, "--space", "keep").code == 0
    assert service.value("SELECT spec->'space'->'x'->'attributes'->>'high' FROM hpo.studies") == "5.0"
    # The decision to keep the space is remembered.
    assert service.hpo(*more, 5).code == 0

    assert service.hpo(*more, 6, "--param", "x=-5..3", "--space", "change").code == 0
    assert service.value("SELECT spec->'space'->'x'->'attributes'->>'high' FROM hpo.studies") == "3.0"
    service.check_records(6, epochs=4)
    assert service.study().trials[5].params["x"] <= 3.0

    service.set(TEST_LETTERS="abc")
    choices = service.hpo(*more, 7, "--space", "change")
    assert "letter" in choices.complaint()
    assert "cannot change within a study" in choices.complaint()
    service.check_records(6, epochs=4)


@pytest.mark.parametrize(
    ("options", "content", "messages"),
    [
        ((), b"", ("HPO_DATA_DIR", "hpo data fetch mnist")),
        # The same reader, without TensorFlow.
        (("--objective", f"{OBJECTIVES}:Reader"), b"PK\x03\x04 not the end of it", ("data/mnist.npz",)),
    ],
    ids=["missing", "damaged"],
)
def test_unreadable_data_is_reported(
    service: Service, options: tuple[str, ...], content: bytes, messages: tuple[str, ...]
) -> None:
    data = service.folder / "data"
    data.mkdir()
    # Outside the user's cache, which may hold the data set, and without a network to download it.
    service.set(HPO_DATA_DIR=data, KERAS_HOME=service.folder / "keras", https_proxy="http://127.0.0.1:1")
    if content:
        (data / "mnist.npz").write_bytes(content)
    ended = service.hpo("launch", "--study", "mnist-cnn", *options, "--trials", 1, "--workers", 1)
    assert all(message in ended.complaint() for message in messages)
    assert_nothing_left(service)


def test_launch_whose_objective_fails_to_load_leaves_no_study(service: Service) -> None:
    broken = service.folder / "broken.py"
    broken.write_text(
        "from optuna.distributions import FloatDistribution\n"
        "from objectives.base import Objective\n"
        "class Broken(Objective):\n"
        "    space = {'x': FloatDistribution(0, 1)}\n"
        "    def prepare(self, options, final):\n"
        "        raise RuntimeError('no such camera')\n"
        "    def train(self, params, run):\n"
        "        pass\n"
    )
    failed = service.hpo("launch", "--study", "s", "--objective", f"{broken}:Broken", "--sampler", "random")
    assert failed.code == 1
    assert "no such camera" in failed.err.splitlines()[-1]
    assert 'File "' + str(broken) in failed.err, "the traceback of the user's own code"
    assert_nothing_left(service)
    service.launched("Counted", "--trials", 2, "--workers", 1, "--sampler", "qmc").clean()
    service.check_records(2, epochs=4)


def test_budget_below_started_trials_is_raised(service: Service) -> None:
    assert service.launched("Counted", "--trials", 3, "--workers", 1).code == 0
    service.launched("Counted", "--trials", 1, "--workers", 1).clean()
    assert service.value("SELECT budget FROM hpo.studies") == 3


def test_unwritable_checkpoints_stop_launch(service: Service) -> None:
    service.set(HPO_CHECKPOINTS="/proc/nowhere")
    assert "HPO_CHECKPOINTS" in service.launched("Counted", "--trials", 2).complaint()
    assert_nothing_left(service)


@pytest.mark.parametrize("body", ["raise SystemExit(5)", "import sys; sys.exit(3)"])
def test_objective_file_that_exits_is_reported(service: Service, body: str) -> None:
    (service.folder / "leaves.py").write_text(f"{body}\n")
    ended = service.hpo("launch", "--study", "s", "--objective", f"{service.folder}/leaves.py:Leaves")
    assert "SystemExit" in ended.complaint()
