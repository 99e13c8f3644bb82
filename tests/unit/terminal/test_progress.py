"""The live view: texts of the objective are shown verbatim, in 80 columns."""

from __future__ import annotations

import io
import logging
import re
from dataclasses import replace

import pytest

from hpo.outcomes import Outcome
from hpo.terminal.log import configure
from hpo.terminal.progress import LiveProgress, PlainProgress, SlotView, View
from hpo.terminal.trial_lines import TrialEnd
from storage.budget import Counts

ERROR = "ValueError: bad shape [/3, 4] in [bold]x[/bold]"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("LINES", "24")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    return Terminal()


def shown(terminal: Terminal) -> list[str]:
    return [line.rstrip() for line in re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", terminal.getvalue()).splitlines()]


def view(study: str) -> View:
    counts = Counts(budget=100, complete=40, pruned=15, failed=3, running=2, waiting=0)
    busy = SlotView(
        device="[/cpu]", run="3", epoch=1, epochs=5, fraction=0.5, value=0.9, images_per_second=1234.0
    )
    return View(
        study=study,
        metric="val[/x]",
        counts=counts,
        best=(2, 0.9, {"act": "[/relu]"}),
        slots=[busy, SlotView(device="cpu", note="[waits]")],
        elapsed_seconds=3720.0,
        eta_seconds=7620.0,
    )


def test_an_error_with_brackets_is_shown_as_it_is(terminal: Terminal) -> None:
    configure()
    progress = LiveProgress(terminal)
    end = TrialEnd(
        number=7,
        outcome=Outcome.BUG,
        value=None,
        epochs=2,
        seconds=1.5,
        params={"layers": "[/3]"},
        error=ERROR,
    )
    progress.trial_ended(end, None)
    logging.getLogger("hpo").warning("[/also] this")
    progress.close()
    printed = " ".join(" ".join(shown(terminal)).split())
    assert f"trial 7: bug after 2 epochs, 1.5 s: layers=[/3] ({ERROR})" in printed
    assert "[/also] this" in printed
    assert "\x1b[31mbug" in terminal.getvalue()


@pytest.mark.parametrize(("value", "text"), [(-3.5e-05, "-3.5e-05"), (0.97, "0.9700"), (12345.6, "12346")])
def test_value_is_never_rounded_to_zero(terminal: Terminal, caplog, value: float, text: str) -> None:
    end = TrialEnd(number=7, outcome=Outcome.COMPLETE, value=value, epochs=2, seconds=1.5, params={})
    progress = LiveProgress(terminal)
    best = replace(view("s"), best=(7, value, {}), slots=[SlotView(device="cpu", run="7", value=value)])
    progress.update(best)
    progress.trial_ended(end, None)
    progress.close()
    with caplog.at_level(logging.INFO, "hpo"):
        PlainProgress().trial_ended(end, None)
    lines = shown(terminal)
    assert f"best: {text} in trial 7: " in [f"{line} " for line in lines]
    assert any(line.startswith("0 ") and text in line for line in lines)
    assert any(line.startswith(f"trial 7: complete {text} after") for line in lines)
    assert f"complete value={text} epochs=2" in caplog.text


def test_view_of_a_retrain_counts_runs(terminal: Terminal) -> None:
    progress = LiveProgress(terminal)
    slots = [SlotView(device="cpu", run="trial 3, seed 4000000001")]
    progress.update(replace(view("retrain"), unit="run", slots=slots, best=None))
    drawn = [line for line in shown(terminal) if line]
    progress.close()
    assert " 55/100 runs " in drawn[0]
    assert drawn[1] == "2 running"
    assert drawn[2].split()[:4] == ["slot", "device", "run", "epoch"]
    assert "trial 3, seed 4000000001" in drawn[3]
    assert max(map(len, drawn)) <= 80


@pytest.mark.parametrize("study", ["digits-cnn", "a-study-with-a-very-long-name-indeed-1234567890"])
def test_the_head_is_two_lines_of_80_columns(terminal: Terminal, study: str) -> None:
    progress = LiveProgress(terminal)
    progress.update(view(study))
    drawn = [line for line in shown(terminal) if line]
    progress.close()
    assert drawn[0].startswith(study[:8])
    assert drawn[0].endswith("55/100 trials 1h02m, about 2h07m left")
    assert drawn[1] == "15 pruned, 3 failed, 2 running"
    assert "val[/x]" in drawn[2]
    assert "[/cpu]" in drawn[3]
    assert "[waits]" in drawn[4]
    assert drawn[5] == "best: 0.9000 in trial 2: act=[/relu]"
    assert max(map(len, drawn)) <= 80


def test_in_60_columns_names_are_shortened_and_numbers_are_not(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    progress = LiveProgress(terminal)
    busy = SlotView(
        device="gpu:0 NVIDIA H200 80GB, half 2",
        run="31",
        epoch=12,
        epochs=100,
        fraction=0.5,
        value=0.9,
        images_per_second=123456.0,
    )
    params = {"learning_rate": 0.0889, "optimizer": "adam"}
    end = TrialEnd(
        number=7, outcome=Outcome.PRUNED, value=0.5, epochs=2, seconds=1.5, params=params, new_best=True
    )
    progress.trial_ended(end, None)
    progress.update(replace(view("a-study-with-a-long-name"), metric="val_accuracy", slots=[busy], best=None))
    drawn = [line for line in shown(terminal) if line]
    progress.close()
    assert drawn[:2] == [
        "trial 7: pruned 0.5000 after 2 epochs, 1.5 s:",
        "  learning_rate=0.0889 optimizer=adam new best",
    ]
    assert re.fullmatch(r"a-stud\S*… \S+ 55/100 trials 1h02m, about 2h07m left", drawn[2])
    assert drawn[4].split() == ["slot", "device", "trial", "epoch", "val_accuracy", "images/s"]
    assert re.fullmatch(r"0 +gpu:0 \S*… +31 +12/100 50% +0\.9000 +123,456", drawn[5])
    assert max(map(len, drawn)) <= 60
