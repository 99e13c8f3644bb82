"""Folders of probes."""

from __future__ import annotations

import os
from pathlib import Path

from hpo.planning.folders import folder_name, remove_abandoned


def test_folders_and_logs_of_probes_that_were_killed_are_deleted(tmp_path: Path) -> None:
    own = folder_name()
    host = own.split("-")[1]
    # A process id that no process has.
    dead = f"plan-{host}-{2**22 + 1}"
    for name in (own, dead, f"plan-00000000-{2**22 + 1}", "plan-mine", "s@1234abcd"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "epoch-1.npz").touch()
    for name in (f"{own}-first-0.log", f"{dead}-first-0.log"):
        (tmp_path / name).touch()
    remove_abandoned(tmp_path, tmp_path / "missing")
    assert own.endswith(str(os.getpid()))
    assert {path.name for path in tmp_path.iterdir()} == {
        own,
        f"{own}-first-0.log",
        f"plan-00000000-{2**22 + 1}",
        "plan-mine",
        "s@1234abcd",
    }
