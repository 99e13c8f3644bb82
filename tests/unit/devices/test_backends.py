"""The choice of Keras' backend by an option, the environment and a study."""

from __future__ import annotations

import os
import sys

import pytest

from hpo.devices import backends
from hpo.devices.backends import choose_backend, gpus_of_backend
from hpo.errors import StudyConflictError, UsageError
from objectives.backend import BACKENDS


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    """The user has made no choice, and each backend is installed."""
    monkeypatch.setenv("KERAS_BACKEND", "")
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setattr(backends.importlib.util, "find_spec", lambda _name: object())


@pytest.mark.parametrize(
    ("requested", "variable", "stored", "chosen"),
    [
        (None, "", "", "tensorflow"),
        ("jax", "", "", "jax"),
        (None, "jax", "", "jax"),
        ("torch", "jax", "", "torch"),
        (None, "", "jax", "jax"),
        ("jax", "torch", "jax", "jax"),
    ],
)
def test_option_precedes_variable_and_study(monkeypatch, requested, variable, stored, chosen) -> None:
    monkeypatch.setenv("KERAS_BACKEND", variable)
    assert choose_backend(requested, stored, "mine") == chosen
    assert os.environ["KERAS_BACKEND"] == ("" if chosen == "tensorflow" else chosen)


@pytest.mark.parametrize(
    ("requested", "variable", "remedy"),
    [
        ("tensorflow", "", "--backend tensorflow would give its trials other random numbers"),
        (None, "tensorflow", "unset KERAS_BACKEND, or give --backend jax"),
    ],
)
def test_study_keeps_its_backend(monkeypatch, requested, variable, remedy) -> None:
    monkeypatch.setenv("KERAS_BACKEND", variable)
    with pytest.raises(StudyConflictError, match=remedy):
        choose_backend(requested, "jax", "mine")
    assert os.environ["KERAS_BACKEND"] == variable


def test_missing_package_names_the_extra(monkeypatch) -> None:
    monkeypatch.setattr(backends.importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(UsageError, match=r"backend jax is not installed: pip install 'hpo-service\[jax\]'"):
        choose_backend("jax")
    with pytest.raises(UsageError, match="unknown KERAS_BACKEND 'openvino'"):
        choose_backend("openvino")


def test_gpus_of_a_backend_are_those_that_it_finds(monkeypatch, tmp_path) -> None:
    script = tmp_path / "python"
    script.write_text(
        "#!/bin/sh\necho 'a warning'\n[ \"$KERAS_BACKEND\" = jax ] && echo '[\"NVIDIA H200\"]'\n"
    )
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(script))
    assert gpus_of_backend("jax") == ["NVIDIA H200"]
    assert gpus_of_backend("torch") is None


def test_options_name_the_backends() -> None:
    from hpo.options.hosts import BACKENDS as NAMES

    assert tuple(BACKENDS) == NAMES
