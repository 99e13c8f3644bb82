"""Choice of the backend, precision, environment variables and out-of-memory errors, without importing a backend."""

from __future__ import annotations

import errno
import os
import sys
from types import SimpleNamespace

import pytest

from hpo.errors import UsageError
from objectives import backend
from objectives.backend import interface
from objectives.device import Device

JAX = ("XLA_PYTHON_CLIENT_MEM_FRACTION", "XLA_CLIENT_MEM_FRACTION", "XLA_PYTHON_CLIENT_PREALLOCATE")
SHARED = Device("gpu:0", gpu="GPU-8f2a", gpu_memory_fraction=0.4875)


@pytest.fixture
def unset(monkeypatch):
    """Backends that have set no variable, in an environment without any of theirs."""
    for found in interface.BACKENDS.values():
        monkeypatch.setattr(found, "_given", {})
        monkeypatch.setattr(found, "_share", None, raising=False)
    for variable in (*JAX, "CUDA_VISIBLE_DEVICES", "TF_FORCE_GPU_ALLOW_GROWTH"):
        monkeypatch.setenv(variable, "")
        monkeypatch.delenv(variable)
    return monkeypatch


class ResourceExhaustedError(Exception):
    """Stands in for TensorFlow's."""


class XlaRuntimeError(RuntimeError):
    """Stands in for JAX's."""


class InternalError(Exception):
    """Stands in for TensorFlow's."""


class UnprintableError(Exception):
    """Its message cannot be made."""

    def __str__(self) -> str:
        raise ValueError


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        ResourceExhaustedError("OOM when allocating tensor"),
        XlaRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 1 bytes"),
        RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes"),
        RuntimeError("MPS backend out of memory (MPS allocated: 1 GiB)"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"),
        RuntimeError("cusolver error: CUSOLVER_STATUS_ALLOC_FAILED"),
        RuntimeError("cuFFT error: CUFFT_ALLOC_FAILED"),
        RuntimeError("cudaErrorMemoryAllocation: out of resources"),
        RuntimeError("rocblas error: rocblas_status_memory_error"),
        RuntimeError("std::bad_alloc"),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
        ExceptionGroup("two threads", [ValueError("first"), MemoryError()]),
        InternalError("Failed copying input tensor from CPU:0 to GPU:0 in order to run _EagerConst"),
        InternalError("Dst tensor is not initialized."),
        InternalError("Failed to allocate 2147483648 bytes for new constant"),
        InternalError("failed to create cublas handle: CUBLAS_STATUS_ALLOC_FAILED"),
        InternalError("CUDNN_STATUS_ALLOC_FAILED in tensorflow/stream_executor/cuda/cuda_dnn.cc"),
        InternalError("CUDA runtime implicit initialization on GPU:0 failed. Status: out of memory"),
        InternalError("cudaErrorOutOfMemory"),
        InternalError("Resource exhausted: Failed to allocate request for 1.0GiB on device ordinal 0"),
        XlaRuntimeError(
            "INTERNAL: Attempting to allocate 2.00G. That was not possible. There are 1.00G free."
        ),
        XlaRuntimeError("Ran out of memory in memory space hbm. Used 17G of 16G hbm."),
        XlaRuntimeError("INTERNAL: Unable to allocate scratch space"),
    ],
)
def test_out_of_memory_errors_and_their_consequences_are_recognized(error):
    assert backend.is_out_of_memory(error)
    outer = ValueError("while training")
    outer.__cause__ = error
    assert backend.is_out_of_memory(outer)


@pytest.mark.parametrize(
    "error",
    [
        None,
        ValueError("out of memory is in a user's message"),
        RuntimeError("shapes differ"),
        RuntimeError("a room when allocating desks"),
        OSError(errno.ENOENT, "out of memory"),
        InternalError("CUDNN_STATUS_BAD_PARAM"),
        UnprintableError(),
        ExceptionGroup("two threads", [ValueError("first")]),
    ],
)
def test_other_errors_are_not_out_of_memory(error):
    assert not backend.is_out_of_memory(error)


@pytest.mark.parametrize(
    ("user", "gpu", "expected"),
    [(None, "0", "true"), ("false", "0", "false"), (None, None, None)],
)
def test_tensorflow_of_any_objective_grows_into_a_gpu_unless_the_user_chose(unset, user, gpu, expected):
    if user is not None:
        unset.setenv("TF_FORCE_GPU_ALLOW_GROWTH", user)
    backend.bind(Device("gpu:0", gpu=gpu))
    assert os.environ.get("TF_FORCE_GPU_ALLOW_GROWTH") == expected
    assert os.environ.get("XLA_PYTHON_CLIENT_PREALLOCATE") == (None if gpu is None else "false")


def test_cyclic_error_causes_are_followed_once():
    first, second = ValueError(), ValueError()
    first.__cause__, second.__cause__ = second, first
    assert not backend.is_out_of_memory(first)


def test_unknown_backend_is_refused(monkeypatch):
    monkeypatch.setattr(interface, "name", lambda: "foo")
    with pytest.raises(UsageError, match=r"unknown KERAS_BACKEND 'foo' \(use tensorflow, jax or torch\)"):
        interface.current()


@pytest.mark.parametrize("known", ["tensorflow", "jax", "torch"])
def test_backend_has_a_module_of_its_name(known, monkeypatch):
    monkeypatch.setattr(interface, "name", lambda: known)
    assert type(interface.current()).__module__ == f"objectives.backend.{known}"
    assert interface.current().package == known


@pytest.mark.parametrize(
    ("flags", "requested", "expected"),
    [
        ("fpu avx512f avx512_bf16", "auto", "bfloat16"),
        ("fpu amx_bf16 amx_tile", "auto", "bfloat16"),
        ("fpu avx512f avx2", "auto", "float32"),
        ("fpu avx512f avx2", "bfloat16", "bfloat16"),
        ("fpu avx512_bf16", "float32", "float32"),
    ],
)
def test_precision_follows_the_processor(flags, requested, expected, tmp_path, monkeypatch):
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(f"processor\t: 0\nflags\t\t: {flags}\n\nprocessor\t: 1\n", encoding="utf-8")
    monkeypatch.setattr(interface, "_CPUINFO", cpuinfo)
    monkeypatch.setattr(interface, "name", lambda: "tensorflow")
    assert backend.precision(Device(precision=requested)) == expected


def test_precision_is_float32_on_an_unknown_processor(tmp_path, monkeypatch):
    monkeypatch.setattr(interface, "_CPUINFO", tmp_path / "missing")
    assert backend.precision(Device()) == "float32"


@pytest.mark.parametrize("other", ["torch", "jax"])
def test_other_backends_stay_in_float32_on_processors(other, monkeypatch):
    monkeypatch.setattr(interface, "name", lambda: other)
    monkeypatch.setattr(interface, "_processor_flags", lambda: frozenset({"avx512_bf16"}))
    assert backend.precision(Device()) == "float32"


@pytest.mark.parametrize(("capability", "expected"), [(7.5, "float32"), (8.0, "bfloat16"), (9.0, "bfloat16")])
def test_precision_follows_the_gpu(capability, expected, monkeypatch):
    monkeypatch.setattr(interface.BACKENDS["tensorflow"], "compute_capability", lambda: capability)
    monkeypatch.setattr(interface, "name", lambda: "tensorflow")
    assert backend.precision(Device("gpu:0", gpu="0")) == expected
    assert backend.precision(Device("gpu:0", gpu="0"), 8.6) == "bfloat16"


def test_process_sees_only_its_device(unset):
    unset.setenv("CUDA_VISIBLE_DEVICES", "set by the user")
    backend.bind(Device("cpu:0", cores=(0,)))
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "-1"
    backend.bind(Device("gpu:0", gpu="GPU-8f2a"))
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "GPU-8f2a"


@pytest.mark.parametrize(
    ("user", "expected"),
    [
        ({}, {JAX[0]: "0.4875", JAX[2]: "true"}),
        # JAX refuses to start with both names of the share.
        ({JAX[1]: "0.3"}, {JAX[1]: "0.3", JAX[2]: "true"}),
        ({JAX[0]: "0.6", JAX[2]: "false"}, {JAX[0]: "0.6", JAX[2]: "false"}),
    ],
)
def test_jax_gets_the_share_of_the_slot_unless_the_user_chose(unset, user, expected):
    for variable, value in user.items():
        unset.setenv(variable, value)
    # Ahead of the fork, in the trainer, and by `configure`.
    for _ in range(2):
        backend.before_import()
        backend.bind(SHARED)
        assert {name: os.environ[name] for name in JAX if name in os.environ} == expected


def test_torch_is_limited_to_its_share_once_it_uses_cuda(unset):
    queued, limits = [], []
    cuda = SimpleNamespace(_lazy_call=queued.append, set_per_process_memory_fraction=limits.append)
    unset.setitem(sys.modules, "torch.cuda", cuda)
    backend.bind(SHARED)
    assert limits == []
    for call in queued:
        call()
    assert limits == [0.4875]


def test_torch_keeps_the_limit_of_the_user(unset):
    unset.setenv("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True,per_process_memory_fraction:0.3")
    unset.setitem(sys.modules, "torch.cuda", SimpleNamespace(_lazy_call=lambda _: pytest.fail("limited")))
    backend.bind(SHARED)
