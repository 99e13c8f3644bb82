"""`hpo data explore` as its user runs it."""

from tests.acceptance.fork_server import ForkServer
from tests.acceptance.service import Service

PROGRAM = """
import sys
from hpo.cli.main import run
code = run(["data", "explore", "digits"])
assert "numpy" in sys.modules
print("frameworks:", *{"keras", "tensorflow"} & sys.modules.keys(), file=sys.stderr)
sys.exit(code)
"""


def test_explore_of_bundled_data_needs_no_tensorflow(service: Service, drawing_commands: ForkServer) -> None:
    ended = service.python(drawing_commands, "-c", PROGRAM)
    assert ended.err == "frameworks:\n"
    for title in ("Classes", "Pixels", "Normalization", "Duplicates", "Labels"):
        assert f"\n{title}\n" in ended.out
    folder = service.folder / "results" / "data-digits"
    assert f"wrote {folder / 'explore.html'}" in ended.out
    assert len(list((folder / "pictures").iterdir())) > 12


def test_an_unknown_data_set_is_one_line(service: Service) -> None:
    assert "digits, mnist, cifar10" in service.hpo("data", "explore", "minst").complaint(2)
