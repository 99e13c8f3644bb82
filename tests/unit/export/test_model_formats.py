"""The formats of models, without a framework."""

from __future__ import annotations

import subprocess
import sys


def test_check_of_a_format_starts_no_framework() -> None:
    code = (
        "import sys; from hpo.export.model_formats import FORMATS; FORMATS['tflite'].check_installed();"
        " assert 'tensorflow' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
