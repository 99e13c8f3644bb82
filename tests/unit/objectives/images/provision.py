"""Provides images as a launch does, and loads them as a trial does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from hpo.errors import HpoError
from objectives.base import DataOptions
from objectives.data.splits import split
from objectives.images.cache import Cache
from objectives.images.provision import Provided, mapped, provided


class Spy:
    """Counts the files of each stage, and calls a hook at the first."""

    def __init__(self, hook: Callable[[], None] = lambda: None) -> None:
        self.done: dict[str, int] = {}
        self._hook = hook

    def __call__(self, stage: str, done: int, total: int) -> None:  # noqa: ARG002
        if stage == "decoding" and done == 0:
            self._hook()
        self.done[stage] = done


def provide(
    source: Path, folder: Path, watch: Spy | None = None, most: int = 1 << 30, **options: object
) -> Provided:
    with provided(DataOptions(source=str(source), **options), Cache(folder, most), watch or Spy()) as found:
        return found


def load(found: Provided, folder: Path, final: bool = False):
    options = DataOptions(source="gone", digest=found.digest, cache_dir=str(folder))
    arrays, classes = mapped(options, final)
    return split(arrays, options, final, classes)


def refused(error: type[HpoError], *args: object, **options: object) -> str:
    with pytest.raises(error) as caught:
        provide(*args, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.endswith((".lock", ".json")))
