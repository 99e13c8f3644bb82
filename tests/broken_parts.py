"""Documents whose functions raise, one after the other."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from types import ModuleType
from typing import Any, NoReturn

import pytest

from hpo.document import html
from hpo.document.document import Document, Paragraph
from hpo.document.html import render_page
from hpo.document.markdown import render_markdown
from hpo.document.parts import LEFT_OUT


def functions_of(modules: Sequence[ModuleType]) -> Iterator[tuple[ModuleType, str]]:
    """Return the functions of modules, except those that return whole sections or documents."""
    for module in modules:
        for name, function in inspect.getmembers(module, inspect.isfunction):
            whole = str(inspect.signature(function).return_annotation) in ("list[Section]", "Document")
            if function.__module__ == module.__name__ and not whole:
                yield module, name


def fail(*_: Any, **__: Any) -> NoReturn:
    raise KeyError("broken")


def check_parts(
    make: Callable[[], Document], modules: Sequence[ModuleType], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Check that a function which raises costs a document one part at most, and each section loses a part to one."""
    # Half a megabyte in each page.
    monkeypatch.setattr(html, "_script", lambda _: "")
    whole = make()
    lost = set()
    for module, name in functions_of(modules):
        function = getattr(module, name)
        with monkeypatch.context() as patch:
            for user in modules:
                if getattr(user, name, None) is function:
                    patch.setattr(user, name, fail)
            document = make()
        assert "KeyError" in render_page(document) or document == whole, f"{module.__name__}.{name}"
        assert render_markdown(document, "pictures")
        before = {section.title: section for section in whole.sections}
        assert [section.title for section in document.sections] == list(before), name
        for section in document.sections:
            left = [block for block in section.blocks if not _is_line(block)]
            if len(left) < len(section.blocks):
                lost.add(section.title)
                assert all(block in before[section.title].blocks for block in left), name
            else:
                assert section == before[section.title], name
    assert lost == {section.title for section in whole.sections}


def _is_line(block: object) -> bool:
    return isinstance(block, Paragraph) and f" {LEFT_OUT} (KeyError: 'broken')." in block.text
