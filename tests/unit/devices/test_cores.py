"""Claims on cores by agents that know nothing of each other."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from hpo.devices import cores
from hpo.devices.cores import Cores, claim_cores, cores_of_agent
from hpo.errors import FileNotWritableError

CLAIM = """
import sys
from pathlib import Path
from hpo.devices.cores import claim_cores
print(*claim_cores(int(sys.argv[1]), range(4), Path(sys.argv[2])), flush=True)
sys.stdin.read()
"""


class Agent:
    """Another process that claims cores and holds them."""

    def __init__(self, count: int, folder: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", CLAIM, str(count), str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.cores = [int(core) for core in self.process.stdout.readline().split()]

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


def test_claimed_cores_are_released_at_exit(tmp_path: Path) -> None:
    first, second = Agent(2, tmp_path), Agent(1, tmp_path)
    try:
        assert (first.cores, second.cores) == ([0, 1], [2])
        # One is free; the other is shared.
        third = Agent(2, tmp_path)
        assert len(third.cores) == 2
        assert 3 in third.cores
        third.kill()
        first.kill()
        fourth = Agent(3, tmp_path)
        assert fourth.cores == [0, 1, 3]
        fourth.kill()
    finally:
        first.kill()
        second.kill()


def test_missing_cores_are_shared(tmp_path: Path) -> None:
    assert claim_cores(8, (4, 5), tmp_path / "claims") == (4, 5)


def test_unusable_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(FileNotWritableError, match="leave --cores out"):
        claim_cores(1, (0,), tmp_path / "file")


@pytest.mark.parametrize("kind", ["link", "open", "file"])
def test_folder_that_others_may_have_made_is_refused(tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "claims"
    if kind == "link":
        (tmp_path / "elsewhere").mkdir(mode=0o700)
        folder.symlink_to(tmp_path / "elsewhere")
    elif kind == "open":
        folder.mkdir()
        folder.chmod(0o777)
    else:
        folder.touch()
    with pytest.raises(FileNotWritableError, match=r"cannot claim cores in .*leave --cores out"):
        claim_cores(1, range(4), folder)
    assert not list(tmp_path.glob("*/*"))


HOST, CONTAINER = "pid:[4026531836] mnt:[4026531840]", "pid:[4026532301] mnt:[4026532298]"
PRIVATE_MOUNTS = "pid:[4026531836] mnt:[4026532298]"


@pytest.mark.parametrize(
    ("namespaces", "count", "requested", "expected"),
    [
        (HOST, 4, 2, ((0, 1), 2)),
        (HOST, 4, 8, ((0, 1, 2, 3), 4)),
        # The claims of other containers, and of services with a /tmp of their own, cannot be seen.
        (CONTAINER, 4, 1, ((0, 1, 2, 3), 1)),
        (PRIVATE_MOUNTS, 4, 2, ((0, 1, 2, 3), 2)),
        # A quota leaves the choice of cores to the kernel.
        (HOST, 2, 1, ((0, 1, 2, 3), 1)),
        (CONTAINER, 2, 8, ((0, 1, 2, 3), 2)),
    ],
)
def test_cores_are_claimed_only_where_other_agents_see_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, namespaces: str, count: int, requested: int, expected
) -> None:
    for name, target in zip(("pid", "mnt"), namespaces.split(), strict=True):
        (tmp_path / name).symlink_to(target)
    monkeypatch.setattr(cores, "NAMESPACES", tmp_path)
    monkeypatch.setattr(cores.tempfile, "gettempdir", lambda: str(tmp_path))
    found = cores_of_agent(requested, Cores(usable=(0, 1, 2, 3), count=count, pinned=count == 4))
    assert (found.usable, found.count) == expected
    assert found.pinned == bool(list(tmp_path.glob("hpo-cores-*"))) == (namespaces == HOST and count == 4)
