"""Passwords, blotted out of text that others may read: messages, tracebacks, log files."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from urllib.parse import unquote

_URLS = ("HPO_STORAGE",)
_PASSWORDS = ("PGPASSWORD", "HPO_DASHBOARD_PASSWORD")

# The examples of our own messages.
_EXAMPLE = re.compile(r"(postgresql://user:password@host(?::5432)?/(?:database|name)(?![\w@]))")
# To the last @: a password may hold one, and / too.
_IN_URL = re.compile(r"(://[^\s:/@]*:)\S*@")
# As libpq writes it, as a keyword argument, and in dictionaries printed by Python or as JSON.
_NAMED = re.compile(
    r"""(password\\?['"]?\s*(?:=|:(?=\s*\\?['"]))\s*)('(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*"|(?:\\.|[^\s&])+)""",
    re.IGNORECASE | re.DOTALL,
)

# At the ends of a word, unless that is no letter.
_START, _END = r"(?:(?<!\w)|(?!\w))", r"(?:(?!\w)|(?<!\w))"
_LEAST = 5
_LONG = 8
"""Characters of a password that is blotted out wherever it is a word, and of one that is within words too."""
_ORDINARY = frozenset(
    {"database", "optuna", "password", "postgres", "postgresql", "server", "storage", "study"}
)
"""Words of messages: where one is missing, everybody sees which."""


def passwords_given(arguments: Sequence[str], environment: Mapping[str, str]) -> frozenset[str]:
    """What a process was given that is a password, or would be one in a reading of it, as it was written."""
    texts = [environment.get(name, "") for name in _URLS]
    for index, argument in enumerate(arguments):
        # A URL whose @ is missing was split by the shell at a space in its password.
        split = "://" in argument and "@" not in argument
        texts.append(" ".join(arguments[index:]) if split else argument)
    found = {password for text in texts for password in _passwords_in(text)}
    return frozenset(found | {environment.get(name, "") for name in _PASSWORDS}) - {""}


def redacted(text: str, passwords: Iterable[str] = ()) -> str:
    """`text` without these passwords, however they are encoded there, and without what looks like one.

    A password that is short or an ordinary word is blotted out only where passwords stand: elsewhere that would
    garble the text, and tell it by the gaps.
    """
    forms = {_normal(form) for password in passwords for form in (password, unquote(password))} - {""}
    # The longer first: what is left of one whose beginning was blotted out would not be found.
    known = sorted(forms, key=len, reverse=True)
    parts = _EXAMPLE.split(text)
    return "".join(part if index % 2 else _mask(part, known) for index, part in enumerate(parts))


def _mask(text: str, known: Iterable[str]) -> str:
    for password in known:
        spelled = "".join(_spelled(one) for one in password)
        text = re.sub(rf"(://[^\s:/@]*:|password=){spelled}{_END}", r"\1***", text)
        text = re.sub(rf"{_START}{spelled}@", "***@", text)
        if len(password) >= _LEAST and password.lower() not in _ORDINARY:
            alone = spelled if len(password) >= _LONG else f"{_START}{spelled}{_END}"
            text = re.sub(alone, "***", text)
    return _NAMED.sub(r"\1***", _IN_URL.sub(r"\1***@", text))


def _passwords_in(text: str) -> Iterator[str]:
    """Of URLs, to the first @, as it is read, and to the last, as it was perhaps meant; and of `password=…`."""
    for found in re.finditer(r"://[^\s:/@]*:(.*@)", text, re.DOTALL):
        for password in (found[1].partition("@")[0], found[1].rpartition("@")[0]):
            # Both in one argument, or the shell has split it.
            yield from (password, *password.split(" ", 1))
    for found in re.finditer(r"[?&](?:ssl)?password=([^&]*)", text):
        yield found[1]
    for found in _NAMED.finditer(text):
        yield found[2].strip("'\"")


def _normal(password: str) -> str:
    """Without what is lost where lines are joined and paths are normalized: of spaces, slashes, all but the first."""
    return re.sub(r"([\s+/\\])\1+", r"\1", password.strip())


def _spelled(one: str) -> str:
    """A pattern of what a character is in URLs, paths and strings as Python and JSON show them, one in another too."""
    if one.isalnum() and one.isascii():
        return one
    encoded = "".join(f"%(?:25)*{byte:02x}" for byte in one.encode(errors="surrogateescape"))
    if one.isspace() or one == "+":
        return rf"(?:[\s+]|%(?:25)*20|(?i:{encoded}))+"
    if one in "/\\":
        return rf"(?:{re.escape(one)}|(?i:{encoded}))+"
    return rf"(?:\\*(?:{re.escape(one)}|{re.escape(json.dumps(one)[1:-1])})|(?i:{encoded}))"
