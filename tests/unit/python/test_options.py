"""Keyword arguments in the spelling of the command line."""

from __future__ import annotations

import math
from enum import Enum
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest

from hpo.cli.commands.run.launch import launch as launch_command
from hpo.cli.main import cli
from hpo.errors import UsageError
from hpo.options.launch_request import LaunchRequest
from hpo.options.retrain_request import RetrainRequest
from hpo.python.launch import launch, load_study
from hpo.python.options import arguments_of


def test_options_are_those_of_the_command() -> None:
    given = {
        "study": "s",
        "trials": np.int64(5),
        "timeout": "2h",
        "trial_timeout": None,
        "max_failed": 3,
        "gpus": [0, 1],
        "run": False,
        "hung_after": "5m",
        "target": -1.5,
    }
    arguments = arguments_of(LaunchRequest, "launch", given)
    # The root's settings: Click keeps the help option of a command's first context for all later ones.
    with click.Context(cli, info_name="hpo", **cli.context_settings) as root:
        found = launch_command.make_context("launch", [*arguments], parent=root).params
    assert (found["study"], found["trials"], found["timeout_seconds"], found["run"]) == (
        "s",
        5,
        7200.0,
        False,
    )
    assert (found["gpus"], found["hung_seconds"], found["target"]) == ("0,1", 300.0, -1.5)
    assert arguments_of(RetrainRequest, "retrain", {"config": Path("a b.yaml")}) == ["--config=a b.yaml"]
    logged = arguments_of(LaunchRequest, "launch", {"log_to": ["tensorboard:a b", "mlflow"]})
    assert logged == ["--log-to=tensorboard:a b", "--log-to=mlflow"]
    named = arguments_of(LaunchRequest, "launch", {"learn_from": ["one", "two"]})
    assert named == ["--learn-from=one,two"]
    bounds = ["parameters<=5", "loss<=1"]
    assert arguments_of(LaunchRequest, "launch", {"constraint": bounds}) == [
        "--constraint=parameters<=5",
        "--constraint=loss<=1",
    ]
    assert arguments_of(LaunchRequest, "launch", {"constraint": 3}) == ["--constraint=3"], (
        "the command refuses it"
    )
    for value, option in ((True, "--stop-when-flat"), (False, "--no-stop-when-flat")):
        assert arguments_of(LaunchRequest, "launch", {"stop_when_flat": value}) == [option]
    assert "--no-run" not in arguments_of(LaunchRequest, "launch", {"run": True})


def test_every_option_has_a_keyword() -> None:
    keywords = {
        max(option.opts, key=len).removeprefix("--").removeprefix("no-").replace("-", "_")
        for option in launch_command.params
        if isinstance(option, click.Option)
    }
    others = {"verbose", "log_format", "data_dir", "storage", "param"}
    for keyword in keywords - others:
        assert arguments_of(LaunchRequest, "launch", {keyword: None}) == []


def test_params_are_choices_ranges_and_values() -> None:
    params = {
        "units": [32, np.int32(64)],
        "lr": (1e-4, 1e-2),
        "batch": 32,
        "kernel": "[3, 3]",
        "bias": [True, None],
        "act": ["relu", "a,b"],
        "own": math.tanh,
    }
    assert arguments_of(LaunchRequest, "launch", {"params": params}) == [
        "--param=units=32,64",
        "--param=lr=0.0001..0.01",
        "--param=batch=32",
        "--param=kernel=[3, 3]",
        "--param=bias=true,null",
        '--param=act="relu","a,b"',
        "--param=own=math.tanh",
    ]


def test_unknown_options_and_values_are_refused() -> None:
    with pytest.raises(TypeError, match=r"launch\(\) got an unexpected keyword argument 'trails'.* trials"):
        arguments_of(LaunchRequest, "launch", {"trails": 3})
    with pytest.raises(UsageError, match=r"lr=\(1, 2, 3\) is not a range \(low, high\)"):
        arguments_of(LaunchRequest, "launch", {"params": {"lr": (1, 2, 3)}})
    with pytest.raises(UsageError, match=r"a value of kind is a class to which its name .* does not lead"):
        arguments_of(LaunchRequest, "launch", {"params": {"kind": Enum("Kind", "A").A}})
    with pytest.raises(UsageError, match=r"params is an object of type list: give a dict of values by name"):
        arguments_of(LaunchRequest, "launch", {"params": ["lr=1"]})


@pytest.mark.parametrize("name", [None, 3])
def test_name_that_is_no_text_is_refused(name: Any) -> None:
    with pytest.raises(UsageError, match="invalid study name"):
        launch(lambda _: 1.0, study=name)
    with pytest.raises(UsageError, match="the name of a study is text"):
        load_study(name)
