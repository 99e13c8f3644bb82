"""Imports that users rely on: the three names of the package, and modules under their former names."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

import objectives
from objectives import loader

SLOW = """
import sys
import objectives
print({'keras', 'tensorflow', 'numpy', 'optuna', 'sqlalchemy'} & set(sys.modules))
import objectives.backend
print({'keras', 'tensorflow', 'jax', 'torch'} & set(sys.modules))
from objectives import loader
[loader.describe(name) for name in loader.names()]
print({'keras', 'tensorflow', 'sklearn', 'sqlalchemy'} & set(sys.modules))
import numpy as np
from objectives.data.conversion.objects import as_array
from objectives.data.returned.arrays_of import array_of
as_array(array_of(np.zeros((3, 2))), 'x')
print({'numpy.ma', 'numpy.testing', 'pandas', 'scipy'} & set(sys.modules))
"""
"""Prints the slow modules that the package, its backends, the description of every objective and arrays import."""


def test_slow_modules_are_not_imported_before_they_are_used():
    done = subprocess.run([sys.executable, "-c", SLOW], check=True, capture_output=True, text=True)
    assert done.stdout.splitlines() == ["set()"] * 4


def test_objective_base_classes_come_from_the_package():
    from objectives import Augmentation, KerasObjective, Objective
    from objectives.augment import Augmentation as OfAugment
    from objectives.base import Objective as OfBase
    from objectives.keras_objective import KerasObjective as OfKeras

    assert (Augmentation, KerasObjective, Objective) == (OfAugment, OfKeras, OfBase)
    assert sorted(objectives._HOMES) == objectives.__all__
    with pytest.raises(ImportError, match="cannot import name 'Nothing'"):
        from objectives import Nothing  # noqa: F401


@pytest.mark.parametrize(("former", "present"), objectives._MOVED.items())
def test_moved_module_is_found_under_its_former_name(former, present):
    found = importlib.import_module(former)
    assert found is importlib.import_module(present)
    assert found.__name__ == found.__spec__.name == present


@pytest.mark.parametrize("name", [name for name in loader.names() if not name.startswith("image-")])
def test_former_reference_of_a_shipped_objective_loads(name):
    former = loader.SHIPPED[name].replace("objectives.shipped.", "objectives.")
    assert loader.resolve(former) == former
    assert loader.load(former) is loader.load(name)


def test_copy_of_a_shipped_objective_with_former_imports_loads(tmp_path):
    (tmp_path / "mine.py").write_text(
        "from objectives.mnist_cnn import MnistCNN\n"
        "from objectives.splits import Data\n"
        "class Wide(MnistCNN):\n"
        '    "Subclass."\n'
        "    widths = (64, 128)\n"
    )
    assert loader.load(f"{tmp_path / 'mine.py'}:Wide").widths == (64, 128)
