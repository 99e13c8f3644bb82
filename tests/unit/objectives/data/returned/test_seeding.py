"""Random numbers of data functions do not depend on which module imports a framework, and when."""

from __future__ import annotations

import random
import subprocess
import sys

import numpy as np
import pytest

from objectives.data.returned.calling import call

FRAMEWORK = """
state = None


class random:
    def set_seed(seed):
        global state
        state = seed
"""


def drawn(seed: int) -> list[float]:
    def function() -> tuple[tuple[np.ndarray, np.ndarray]]:
        values = np.array([[random.random(), np.random.rand()]] * 3, np.float64)
        return ((values, np.array([0, 1, 0])),)

    x, _ = call(function, seed).splits["train"]
    return x[0].tolist()


def test_functions_draw_by_the_seed_alone_and_leave_generators_as_they_were() -> None:
    first, before = drawn(1), (random.getstate(), np.random.get_state()[1].tolist())
    assert drawn(1) == first != drawn(2)
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before


@pytest.mark.parametrize("imported", ["before", "within", "after"])
def test_framework_is_seeded_whenever_it_is_imported(tmp_path, imported) -> None:
    (tmp_path / "tensorflow.py").write_text(FRAMEWORK)
    code = f"""
import sys
from objectives.data.returned.seeding import seeded
if {imported == "before"}:
    import tensorflow
finders = list(sys.meta_path)
with seeded(7):
    if {imported == "within"}:
        import tensorflow
    found = getattr(sys.modules.get("tensorflow"), "state", None)
assert sys.meta_path == finders
import tensorflow
print(found, tensorflow.state)
"""
    ended = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={"PYTHONPATH": f"{tmp_path}:{':'.join(filter(None, sys.path))}"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert ended.stdout.split() == (["None", "None"] if imported == "after" else ["7", "7"])
