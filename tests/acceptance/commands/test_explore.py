"""`hpo data explore` as its user runs it."""

import re

from tests.acceptance.service import Service


def test_explore_of_bundled_data_needs_no_tensorflow(service: Service) -> None:
    service.set(PYTHONPROFILEIMPORTTIME="1")
    ended = service.hpo("data", "explore", "digits")
    assert ended.code == 0
    # The module's name in a line of -X importtime; `objectives.backend.tensorflow` does not import it.
    assert re.search(r"\| +tensorflow$", ended.err, re.M) is None
    assert re.search(r"\| +numpy$", ended.err, re.M)
    for title in ("Classes", "Pixels", "Normalization", "Duplicates", "Labels"):
        assert f"\n{title}\n" in ended.out
    folder = service.folder / "results" / "data-digits"
    assert f"wrote {folder / 'explore.html'}" in ended.out
    assert len(list((folder / "pictures").iterdir())) > 12


def test_an_unknown_data_set_is_one_line(service: Service) -> None:
    assert "digits, mnist, cifar10" in service.hpo("data", "explore", "minst").complaint(2)
