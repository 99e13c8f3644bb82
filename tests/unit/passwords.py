"""Passwords with special characters; each part is `zq` and a digit, so that tests find any leaked part."""

from __future__ import annotations

EVERYTHING = "zq1/zq2 zq3'zq4\"zq5:zq6@zq7%zq8%2Fzq9\\zq0"
PASSWORDS = [
    "zq1/zq2",
    "zq1 zq2",
    "zq1'zq2",
    'zq1"zq2',
    "zq1:zq2",
    "zq1@zq2",
    "zq1%zq2",
    "zq1%2Fzq2",
    "zq1\\zq2",
    "zq1//zq2",
    "zq1?zq2#zq3&zq4",
    "zq1é€zq2",
    EVERYTHING,
]
