"""Checkpoints and logs of probes: each has a folder of its own, which it deletes at its end."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from contextlib import suppress
from pathlib import Path

from hpo.process.identity import host_name, is_running

_NAME = re.compile(r"plan-([0-9a-f]{8})-(\d+)")
"""Host and process id of a probe. No study has a folder of this name, which would hold its uid."""


def folder_name() -> str:
    """Return the name of the folder of this process, with which the names of its logs begin."""
    return f"plan-{_host()}-{os.getpid()}"


def remove_abandoned(*parents: Path) -> None:
    """Delete what probes that were killed on this host have left in these folders."""
    for path in (path for parent in parents for path in parent.glob("plan-*")):
        found = _NAME.match(path.name)
        if found is None or found[1] != _host() or is_running(int(found[2])):
            continue
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            with suppress(OSError):
                path.unlink()


def _host() -> str:
    return hashlib.sha256(host_name().encode()).hexdigest()[:8]
