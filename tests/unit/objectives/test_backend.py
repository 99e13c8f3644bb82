"""Recognizing that memory ran out, and saying what a result depends on."""

from __future__ import annotations

import os

import pytest

from objectives import backend
from objectives.base import Device


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


@pytest.mark.parametrize(
    ("flags", "asked", "expected"),
    [
        ("fpu avx512f avx512_bf16", "auto", "bfloat16"),
        ("fpu amx_bf16 amx_tile", "auto", "bfloat16"),
        ("fpu avx512f avx2", "auto", "float32"),
        ("fpu avx512f avx2", "bfloat16", "bfloat16"),
        ("fpu avx512_bf16", "float32", "float32"),
    ],
)
def test_precision_follows_the_processor(flags, asked, expected, tmp_path, monkeypatch):
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(f"processor\t: 0\nflags\t\t: {flags}\n\nprocessor\t: 1\n", encoding="utf-8")
    monkeypatch.setattr(backend, "_CPUINFO", cpuinfo)
    monkeypatch.setattr(backend, "name", lambda: "tensorflow")
    assert backend.precision(Device(precision=asked)) == expected


def test_precision_where_nothing_is_known_of_the_processor(tmp_path, monkeypatch):
    monkeypatch.setattr(backend, "_CPUINFO", tmp_path / "missing")
    assert backend.precision(Device()) == "float32"


@pytest.mark.parametrize("other", ["torch", "jax"])
def test_other_backends_stay_in_float32_on_processors(other, monkeypatch):
    monkeypatch.setattr(backend, "name", lambda: other)
    monkeypatch.setattr(backend, "_processor_flags", lambda: frozenset({"avx512_bf16"}))
    assert backend.precision(Device()) == "float32"


@pytest.mark.parametrize(("capability", "expected"), [(7.5, "float32"), (8.0, "bfloat16"), (9.0, "bfloat16")])
def test_precision_follows_the_gpu(capability, expected, monkeypatch):
    monkeypatch.setattr(backend, "_compute_capability", lambda: capability)
    assert backend.precision(Device("gpu:0", gpu="0")) == expected


def test_a_process_sees_its_device_alone(monkeypatch):
    shares = ("XLA_PYTHON_CLIENT_MEM_FRACTION", "XLA_CLIENT_MEM_FRACTION", "XLA_PYTHON_CLIENT_PREALLOCATE")
    for name in ("CUDA_VISIBLE_DEVICES", *shares):
        monkeypatch.setenv(name, "set by somebody")
    backend.bind(Device("cpu:0", cores=(0,)))
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "-1"
    backend.bind(Device("gpu:0", gpu="GPU-8f2a"))
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "GPU-8f2a"
    # Alone on its GPU: the user's own limit stays.
    assert [os.environ[name] for name in shares] == ["set by somebody"] * 3
    backend.bind(Device("gpu:0", gpu="GPU-8f2a", gpu_memory_fraction=0.4875))
    assert os.environ["XLA_PYTHON_CLIENT_MEM_FRACTION"] == "0.4875"
    assert os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] == "true"
    # JAX refuses to be given both.
    assert "XLA_CLIENT_MEM_FRACTION" not in os.environ


@pytest.mark.parametrize("limit", [None, 19 * 2**30])
def test_tensorflow_keeps_to_its_share_of_the_gpu(limit, monkeypatch):
    """The calls, on a GPU that is made up: what it then does with real memory is TensorFlow's."""
    import tensorflow as tf

    called = []
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [f"{kind} 0"])
    monkeypatch.setattr(tf.config, "set_logical_device_configuration", lambda *args: called.append(args))
    monkeypatch.setattr(
        tf.config.experimental, "set_memory_growth", lambda *args: called.append(("growth", *args))
    )
    monkeypatch.setattr(tf.config.threading, "set_intra_op_parallelism_threads", lambda _: None)
    monkeypatch.setattr(tf.config.threading, "set_inter_op_parallelism_threads", lambda _: None)
    backend._configure_tensorflow(Device("gpu:0", gpu="0", gpu_memory_bytes=limit))
    if limit is None:
        assert called == [("growth", "GPU 0", True)]
    else:
        ((gpu, (logical,)),) = called
        assert (gpu, logical.memory_limit) == ("GPU 0", 19 * 1024)
