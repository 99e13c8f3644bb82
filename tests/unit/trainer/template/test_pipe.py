"""Messages of templates as bytes: read back as they were, and nothing else is read."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace
from typing import Any

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from hpo.errors import DataMissingError, ObjectiveBrokenError
from hpo.trainer.pipe import UnreadableMessageError
from hpo.trainer.template.messages import (
    Described,
    Exited,
    Forked,
    FromTemplate,
    ImportEnded,
    LoadFailed,
    NotForked,
    Preload,
    Ready,
    Unforkable,
)
from hpo.trainer.template.pipe import decode, encode, error_class
from objectives import loader
from objectives.description import Description
from objectives.spaces.choices import categorical

DESCRIPTION = Description(
    name="file.py:Mine",
    metric="val/auc %",
    direction="maximize",
    value="best",
    epochs=10**12,
    space={
        "x": FloatDistribution(1e-5, 1.0, log=True),
        "n": IntDistribution(0, 2**53),
        "c": categorical([1, 1.0, True, None, "ü", [1, [2]], {"a": 1}]),
    },
    first=({"x": 0.1, "n": 2**53, "c": [1, [2]]},),
    code="c0de",
)


@pytest.mark.parametrize(
    "message",
    [
        Described(DESCRIPTION),
        Described(replace(DESCRIPTION, epochs=None, space={}, first=(), open_space=True)),
        *(Described(loader.describe(name)) for name in loader.names()),
        Ready({"python": "3.11", "keras": "3"}, "no test set"),
        LoadFailed("DataMissingError", "gone", "Traceback …"),
        Unforkable("3 threads of JAX", Preload.IMPORTS, ("keras", "jax")),
        ImportEnded("importing keras starts 1 thread"),
        Forked(1, 2),
        NotForked(1, "Resource temporarily unavailable"),
        Exited(2, 3),
        Exited(2, -9),
    ],
)
def test_message_is_read_back(message: FromTemplate) -> None:
    assert decode(encode(message)) == message


def test_choices_that_compare_equal_stay_apart() -> None:
    read = decode(encode(Described(DESCRIPTION)))
    assert isinstance(read, Described)
    choices = read.description.space["c"]
    assert isinstance(choices, CategoricalDistribution)
    assert list(map(type, choices.choices)) == [int, float, bool, type(None), str, list, dict]
    assert choices.to_internal_repr(True) == 2


def forged(kind: str, **values: Any) -> bytes:
    return json.dumps([kind, values]).encode()


def described(**changes: Any) -> bytes:
    kind, values = json.loads(encode(Described(DESCRIPTION)))
    return forged(kind, **values | changes)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\x00",
        b"[" * 100_000,
        pickle.dumps(Forked(1, 2)),
        forged("Nothing"),
        forged("Forked", serial=1, pid=-1),
        forged("Forked", serial=1, pid=True),
        forged("Exited", pid=1, status="9"),
        forged("Exited", pid=1, status=2**40),
        forged("Ready", versions=["3"]),
        forged("Unforkable", threads="1", preload="MORE", modules=[]),
        forged("LoadFailed", error=1, message="", traceback=""),
        described(direction="up"),
        described(epochs="3"),
        described(metric="a\0"),
        described(space={"x": {"name": "OwnDistribution", "attributes": {}}}),
        described(space={"x": {"name": "FloatDistribution", "attributes": {"low": 2.0, "high": 1.0}}}),
        described(first=[[1]]),
        described(code=None),
    ],
)
def test_other_bytes_are_refused(content: bytes) -> None:
    with pytest.raises(UnreadableMessageError):
        decode(content)


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("DataMissingError", DataMissingError),
        ("annotations", ObjectiveBrokenError),
        ("HpoErrors", ObjectiveBrokenError),
        ("__loader__", ObjectiveBrokenError),
    ],
)
def test_error_has_a_class_of_ours(name: str, found: type[Exception]) -> None:
    assert error_class(name) is found
