"""Masking of passwords in text that others may read: messages, tracebacks, log files."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from urllib.parse import unquote

_URLS = ("HPO_STORAGE", "HPO_LOG_TO", "MLFLOW_TRACKING_URI")
_PASSWORDS = (
    "PGPASSWORD",
    "HPO_DASHBOARD_PASSWORD",
    "MLFLOW_TRACKING_PASSWORD",
    "MLFLOW_TRACKING_TOKEN",
    "WANDB_API_KEY",
)

# Example URLs in our own messages.
_EXAMPLE = re.compile(r"(postgresql://user:password@host(?::5432)?/(?:database|name)(?![\w@]))")
# Up to the last @, because a password may contain @ and /.
_IN_URL = re.compile(r"(://[^\s:/@]*:)\S*@")
# In the form of libpq, of a keyword argument, and of a dictionary printed by Python or as JSON.
_NAMED = re.compile(
    r"""(password\\?['"]?\s*(?:=|:(?=\s*\\?['"]))\s*)('(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*"|(?:\\.|[^\s&])+)""",
    re.IGNORECASE | re.DOTALL,
)

# At word boundaries, unless the character there is not a letter.
_START, _END = r"(?:(?<!\w)|(?!\w))", r"(?:(?!\w)|(?<!\w))"
_MIN_LENGTH = 5
"""Length from which a password is masked wherever it occurs as a word."""
_LONG = 8
"""Length from which a password is masked inside words too."""
_ORDINARY = frozenset(
    {"database", "optuna", "password", "postgres", "postgresql", "server", "storage", "study"}
)
"""Common words of messages, which would be guessable if masked."""


def passwords_given(arguments: Sequence[str], environment: Mapping[str, str]) -> frozenset[str]:
    """Return all passwords, in any possible reading, in the arguments and environment of a process."""
    texts = [environment.get(name, "") for name in _URLS]
    for index, argument in enumerate(arguments):
        # The shell splits a URL at a space in its password, which leaves a part without @.
        split = "://" in argument and "@" not in argument
        texts.append(" ".join(arguments[index:]) if split else argument)
    found = {password for text in texts for password in _passwords_in(text)}
    return frozenset(found | {environment.get(name, "") for name in _PASSWORDS}) - {""}


def redacted(text: str, passwords: Iterable[str] = ()) -> str:
    """Return `text` with these passwords masked in any encoding, and everything that looks like a password.

    A password that is short or a common word is masked only in the position of a password: elsewhere the
    masks would garble the text and reveal it.
    """
    forms = {_normal(form) for password in passwords for form in (password, unquote(password))} - {""}
    # Longer ones first: the rest of one whose beginning is masked would not be found.
    known = sorted(forms, key=len, reverse=True)
    parts = _EXAMPLE.split(text)
    return "".join(part if index % 2 else _mask(part, known) for index, part in enumerate(parts))


def _mask(text: str, known: Iterable[str]) -> str:
    for password in known:
        pattern = "".join(_character_pattern(character) for character in password)
        text = re.sub(rf"(://[^\s:/@]*:|password=){pattern}{_END}", r"\1***", text)
        text = re.sub(rf"{_START}{pattern}@", "***@", text)
        if len(password) >= _MIN_LENGTH and password.lower() not in _ORDINARY:
            word = pattern if len(password) >= _LONG else f"{_START}{pattern}{_END}"
            text = re.sub(word, "***", text)
    return _NAMED.sub(r"\1***", _IN_URL.sub(r"\1***@", text))


def _passwords_in(text: str) -> Iterator[str]:
    """Yield passwords of URLs, up to the first @ and up to the last, and values of `password=…`."""
    for found in re.finditer(r"://[^\s:/@]*:(.*@)", text, re.DOTALL):
        for password in (found[1].partition("@")[0], found[1].rpartition("@")[0]):
            # As one argument, or split by the shell.
            yield from (password, *password.split(" ", 1))
    for found in re.finditer(r"[?&](?:ssl)?password=([^&]*)", text):
        yield found[1]
    for found in _NAMED.finditer(text):
        yield found[2].strip("'\"")


def _normal(password: str) -> str:
    """Collapse repeated spaces and slashes, which joined lines and normalized paths lose."""
    return re.sub(r"([\s+/\\])\1+", r"\1", password.strip())


def _character_pattern(character: str) -> str:
    """Return a pattern of a character as written in URLs, paths, and Python and JSON strings, nested too."""
    if character.isalnum() and character.isascii():
        return character
    encoded = "".join(f"%(?:25)*{byte:02x}" for byte in character.encode(errors="surrogateescape"))
    if character.isspace() or character == "+":
        return rf"(?:[\s+]|%(?:25)*20|(?i:{encoded}))+"
    if character in "/\\":
        return rf"(?:{re.escape(character)}|(?i:{encoded}))+"
    return rf"(?:\\*(?:{re.escape(character)}|{re.escape(json.dumps(character)[1:-1])})|(?i:{encoded}))"
