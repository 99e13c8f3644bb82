"""Recognizing that memory ran out, and saying what a result depends on."""

from __future__ import annotations

import pytest

from objectives import backend


class ResourceExhaustedError(Exception):
    """Stands for TensorFlow's."""


class XlaRuntimeError(RuntimeError):
    """Stands for JAX's."""


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        ResourceExhaustedError("OOM when allocating tensor"),
        XlaRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 1 bytes"),
        RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"),
    ],
)
def test_memory_ran_out(error):
    assert backend.is_out_of_memory(error)
    outer = ValueError("while training")
    outer.__cause__ = error
    assert backend.is_out_of_memory(outer)


@pytest.mark.parametrize(
    "error", [None, ValueError("out of memory is what I like to say"), RuntimeError("shapes differ")]
)
def test_something_else_went_wrong(error):
    assert not backend.is_out_of_memory(error)


def test_an_error_that_causes_itself_ends_the_search():
    first, second = ValueError(), ValueError()
    first.__cause__, second.__cause__ = second, first
    assert not backend.is_out_of_memory(first)


def test_versions_name_the_backend():
    assert {"python", "backend", "keras", "numpy", "optuna"} <= backend.versions().keys()
