"""Memory of a GPU: shares are kept, and want of it is recognized. Each test computes in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hpo.devices.gpus import visible_gpus

pytestmark = pytest.mark.gpu

ROOT = Path(__file__).parents[2]
SHARE = 0.1
SECONDS = 120

needs_gpu = pytest.mark.skipif(not visible_gpus(), reason="no GPU")


def started(code: str, share: float | None = None) -> subprocess.Popen[str]:
    """Start code in a trainer's environment on the first GPU, or on the processor."""
    gpus = visible_gpus()
    device = f"Device('gpu:0', gpu={gpus[0].address!r}, gpu_memory_fraction={share})" if gpus else "Device()"
    head = (
        "import json\nfrom objectives import backend\nfrom objectives.device import Device\n"
        f"backend.before_import()\nbackend.bind({device})\n"
    )
    return subprocess.Popen(
        [sys.executable, "-c", head + code],
        env=os.environ | {"PYTHONPATH": str(ROOT), "KERAS_BACKEND": "jax"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def printed(process: subprocess.Popen[str]) -> dict[str, Any]:
    """Return the JSON that a process prints last."""
    try:
        output, errors = process.communicate(timeout=SECONDS)
    finally:
        process.kill()
    assert process.returncode == 0, errors[-2000:]
    result: dict[str, Any] = json.loads(output.splitlines()[-1])
    return result


def computed(code: str, share: float | None = None) -> dict[str, Any]:
    """Return the JSON that code prints last."""
    return printed(started(code, share))


def test_want_of_memory_of_jax_is_recognized():
    found = computed("""
import jax.numpy as jnp
try:
    jnp.ones((1 << 45,), jnp.float32).block_until_ready()
except BaseException as error:
    print(json.dumps({"oom": backend.is_out_of_memory(error), "text": str(error)}))
""")
    assert found["oom"], found["text"]


@needs_gpu
def test_jax_keeps_to_its_share():
    found = computed(
        """
import jax, jax.numpy as jnp
stats = jax.local_devices()[0].memory_stats()
kept, oom, step = [], False, 1 << 28
try:
    while len(kept) * step < 2 * stats["bytes_limit"]:
        kept.append(jnp.ones((step // 4,), jnp.float32).block_until_ready())
except BaseException as error:
    oom = backend.is_out_of_memory(error)
print(json.dumps({"limit": stats["bytes_limit"], "taken": len(kept) * step, "oom": oom}))
""",
        SHARE,
    )
    total = visible_gpus()[0].memory_bytes
    assert total is not None
    assert found["oom"]
    assert found["taken"] <= found["limit"] <= SHARE * total * 1.01


@needs_gpu
def test_torch_keeps_to_its_share():
    found = computed(
        """
try:
    import torch
except ImportError:
    print(json.dumps({"missing": True})); raise SystemExit
total = torch.cuda.mem_get_info()[1]
kept, oom, step = [], False, 1 << 28
try:
    while len(kept) * step < total:
        kept.append(torch.ones(step // 4, device="cuda"))
except BaseException as error:
    oom = backend.is_out_of_memory(error)
print(json.dumps({"total": total, "taken": len(kept) * step, "oom": oom}))
""",
        SHARE,
    )
    if "missing" in found:
        pytest.skip("no PyTorch")
    assert found["oom"]
    assert found["taken"] <= SHARE * found["total"]


@needs_gpu
def test_two_processes_compute_next_to_each_other():
    code = """
import jax.numpy as jnp
kept = jnp.ones((1 << 26,), jnp.float32).block_until_ready()
print(json.dumps({"sum": float((kept * 2).sum())}))
"""
    processes = [started(code, 0.4) for _ in range(2)]
    assert [printed(process) for process in processes] == [{"sum": float(1 << 27)}] * 2
