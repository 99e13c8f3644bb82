"""Lines that TensorFlow prints while it starts, whatever its log level, and that mean nothing for a trial."""

from __future__ import annotations

import re

_WHERE = r"[\w/.]+\.(?:cc|h):\d+\] "
_MESSAGES = (
    r"oneDNN custom operations are on\.",
    r"Could not find cuda drivers on your machine, GPU will not be used\.",
    r"This TensorFlow binary is optimized to use available CPU instructions",
    # Its GPU libraries are linked twice.
    r"Unable to register cu\w+ factory: Attempting to register factory for plugin cu\w+ when one has already",
    r"computation placer already registered\.",
)
_WITHOUT_GPU = (
    r"failed call to cuInit: ",
    r"Could not load dynamic library 'lib(?:cu|nv)[\w.]+'",
    r"Cannot dlopen some GPU libraries\.",
    r"Ignore above cudart dlerror",
)
"""Errors where the trial is to use a GPU."""
_LINES = (
    r"WARNING: All log messages before absl::InitializeLog\(\) is called are written to STDERR",
    r"To enable the following instructions: .*rebuild TensorFlow with the appropriate compiler flags\.",
)


def _pattern(*messages: str) -> re.Pattern[str]:
    """Return the pattern of whole lines: a message with its place in TensorFlow's sources, or one of `_LINES`."""
    placed = rf"(?:[IWE]\d{{4}} |[\d-]{{10}} [\d:.]+: [IWE] )[^\n]*?{_WHERE}(?:{'|'.join(messages)})[^\n]*"
    return re.compile(rf"^(?:{placed}|{'|'.join(_LINES)})(?:\n|\Z)", re.MULTILINE)


_OF_ANY_TRIAL, _OF_A_TRIAL_WITHOUT_GPU = _pattern(*_MESSAGES), _pattern(*_MESSAGES, *_WITHOUT_GPU)


def without_noise(text: str, device: str) -> str:
    """Return output of a trial on `device`, as `Device.owns` describes it, without such lines."""
    return (_OF_ANY_TRIAL if device.startswith("gpu") else _OF_A_TRIAL_WITHOUT_GPU).sub("", text)
