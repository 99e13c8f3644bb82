"""Choice of the backend, precision and environment variables, without importing a backend."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest

from hpo.errors import UsageError
from hpo.options import hosts
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


def test_option_names_each_backend():
    assert tuple(interface.BACKENDS) == hosts.BACKENDS


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


@pytest.mark.usefixtures("unset")
def test_jax_takes_its_share_as_it_needs_it_where_others_may_need_the_rest():
    backend.bind(replace(SHARED, gpu_memory_grows=True))
    assert (os.environ[JAX[0]], os.environ[JAX[2]]) == ("0.4875", "false")


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
