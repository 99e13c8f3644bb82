"""The command that runs for a call from Python, and the messages between the two."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

import hpo
from hpo.errors import HpoError, ObjectiveFailedError, UnknownStudyError, UsageError
from hpo.outcomes import Outcome
from hpo.python import child, command, display
from hpo.python.messages import Closed, Ended, Failed, Line, Message, decode, encode
from hpo.settings import OF_OBJECTIVE, Settings
from hpo.terminal.progress import SlotView, View
from hpo.terminal.trial_lines import TrialEnd
from storage.budget import Counts

END = TrialEnd(
    number=1, outcome=Outcome.COMPLETE, value=0.25, epochs=2, seconds=1.0, params={"x": "[1]"}, new_best=True
)
VIEW = View(
    study="<b>s",
    metric="loss",
    counts=Counts(budget=3, complete=1, running=1),
    best=(0, 0.5, {"x": 1}),
    slots=[SlotView(device="cpu:0", run="1", epoch=1, epochs=None)],
    elapsed_seconds=1.0,
)
MESSAGES: list[Message] = [
    Line("a\x1b[2Jb"),
    VIEW,
    Ended(END, Counts(budget=3, complete=2)),
    Ended(END, None),
    Closed(),
    Failed("UsageError", "wrong: do better", ("Traceback",)),
]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_message_is_one_line_and_stays_as_it_is(message: Message) -> None:
    line = encode(message)
    assert line.count(b"\n") == 1
    assert decode(line) == message


def test_cell_shows_the_view_with_the_last_trials() -> None:
    shown = display.render(VIEW, [END])
    assert "1/3 trials" in shown["text/plain"]
    assert 'trial 1: complete 0.2500 after 2 epochs, 1.0 s: x="[1]" new best' in shown["text/plain"]
    assert "&lt;b&gt;s" in shown["text/html"]
    assert "<b>" not in shown["text/html"]


def test_cell_ends_with_final_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[dict[str, str]] = []
    handle = SimpleNamespace(update=lambda content, **_: shown.append(content))
    module = SimpleNamespace(display=lambda content, **_: shown.append(content) or handle)
    monkeypatch.setitem(sys.modules, "IPython.display", module)
    cell = display.CellDisplay()
    cell.update(VIEW)
    cell.trial_ended(END, Counts(budget=3, complete=3))
    cell.close()
    cell.close()
    last = shown[-1]["text/plain"]
    assert len(shown) == 3
    assert "3/3 trials" in last
    assert "best: 0.2500 in trial 1" in last
    assert "cpu:0" not in last


def test_plain_output_has_a_line_for_each_trial(capsys: pytest.CaptureFixture[str]) -> None:
    plain = display.open_display()
    plain.update(VIEW)
    plain.trial_ended(END, Counts(budget=3, complete=2))
    plain.line("next: do")
    plain.close()
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("trial 1: complete")
    assert first.endswith("[2/3]")
    assert second == "next: do"


def test_error_of_a_command_is_raised_with_its_class(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HPO_HOME", str(tmp_path))
    settings = Settings.from_environment()
    with pytest.raises(UsageError, match=r"'0' is not a whole number from 1 to 1000000"):
        command.run_command(["launch", "--study=s", "--trials=0"], settings)
    with pytest.raises(UsageError, match="invalid study name 'a/b'"):
        command.run_command(["retrain", "--study=a/b"], settings)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("failed", "cls"),
    [
        (Failed("UnknownStudyError", "no study"), UnknownStudyError),
        (Failed("ObjectiveFailedError", "no study", ("Traceback",)), ObjectiveFailedError),
        (Failed("sys", "no study"), HpoError),
    ],
)
def test_error_keeps_class_message_and_traceback(failed: Failed, cls: type) -> None:
    error = command._error(failed)
    assert type(error) is cls
    assert str(error) == "no study"
    assert tuple(getattr(error, "__notes__", ())) == failed.notes


def test_command_that_dies_is_described() -> None:
    printed = io.BytesIO(b"Fatal\nerror")
    assert command._describe_end("launch", -9, printed) == (
        "the process of this launch ended (signal 9): Fatal error"
    )
    assert command._describe_end("launch", 3, io.BytesIO()).endswith(
        "(exit code 3): call it again to continue"
    )


def test_sender_waits_for_no_reader() -> None:
    read, write = os.pipe()
    sender = child.Sender(os.fdopen(write, "wb"))
    os.close(read)
    for _ in range(100):
        sender.send(Line("x" * 10_000))
    sender.close()


def test_launch_inside_an_objective_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(OF_OBJECTIVE, "1")
    with pytest.raises(UsageError, match='put the call under if __name__ == "__main__":'):
        hpo.launch("digits-cnn", study="s")


def test_launch_while_its_module_is_imported_is_refused(tmp_path: Path) -> None:
    (tmp_path / "search.py").write_text(
        "import hpo\n\ndef objective(trial):\n    return 1.0\n\nhpo.launch(objective, study='s')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", "import search"],
        cwd=tmp_path,
        env={**os.environ, "HPO_HOME": str(tmp_path / "home")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert f"hpo.launch() was called while {tmp_path}/search.py was imported (line 6): put" in done.stderr
    assert not (tmp_path / "home").exists()


def test_metric_of_a_keras_objective_is_an_option_of_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[list[str]] = []
    monkeypatch.setattr(command, "run_command", lambda arguments, _: given.append(arguments))
    hpo.launch("digits-cnn", study="s", metric="val_auc")
    assert "--metric=val_auc" in given[0]
