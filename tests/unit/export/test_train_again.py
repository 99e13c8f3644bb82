"""The script of `hpo export`, without a training."""

from __future__ import annotations

import os
from typing import Any

import pytest

from hpo.export import train_again
from objectives.base import Objective, Params, Run
from objectives.device import Device

NOISE = (
    "WARNING: All log messages before absl::InitializeLog() is called are written to STDERR\n"
    "I0000 00:00:1795899127.189822    5563 port.cc:153] oneDNN custom operations are on. You may see slightly"
    " different numerical results\n"
)


class Fast(Objective):
    def train(self, params: Params, run: Run) -> None: ...


def test_start_messages_of_tensorflow_are_not_printed(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def load(_: Any) -> type[Fast]:
        os.write(2, f"{NOISE}a line of yours\n".encode())
        return Fast

    monkeypatch.setattr(train_again, "load", load)
    assert isinstance(train_again._loaded("fast", Device()), Fast)
    assert capfd.readouterr() == ("", "a line of yours\n")
