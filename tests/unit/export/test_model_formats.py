"""The formats of models, without a framework."""

from __future__ import annotations

import importlib.util
import subprocess
import sys

import pytest

from hpo.errors import MissingDependencyError
from hpo.export.model_formats import FORMATS


def test_check_of_a_format_starts_no_framework() -> None:
    code = (
        "import sys; from hpo.export.model_formats import FORMATS; FORMATS['tflite'].check_installed();"
        " assert 'tensorflow' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_only_the_format_of_keras_is_written_without_tensorflow(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda package: None if package == "tensorflow" else True
    )
    form = FORMATS[name]
    if name == "keras":
        form.check_installed()
        return
    with pytest.raises(MissingDependencyError, match=f"--format {name} needs tensorflow: pip install"):
        form.check_installed()
