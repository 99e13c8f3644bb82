"""The programs that JAX has compiled on this host: later processes load them in place of compiling them again.

A trial compiles some fifty programs before its first step, most of them to make its weights. XLA needs seconds of
processor time for them, and a tenth of that to load them.
"""

from __future__ import annotations

import hashlib
import platform
from collections.abc import MutableMapping
from contextlib import suppress
from pathlib import Path

MOST_BYTES = 1 << 30
"""Size of the folder beyond which the oldest programs are removed, until half of it is left."""
_FOLDER = "JAX_COMPILATION_CACHE_DIR"
_LEAST_SECONDS = "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"


def keep_programs(environment: MutableMapping[str, str], home: Path) -> None:
    """Let JAX keep its programs in a home, unless this environment names another folder; it makes the folder itself."""
    if _FOLDER in environment:
        return
    folder = home / "compiled"
    trim(folder)
    # Hosts may share a home, and the instructions of a program are those of the processor that it was compiled for.
    environment[_FOLDER] = str(folder / _processor())
    environment.setdefault(_LEAST_SECONDS, "0")


def trim(folder: Path, most_bytes: int = MOST_BYTES) -> None:
    """Remove the oldest programs of a folder that is larger than `most_bytes`, until half of that is left."""
    found = []
    # Another process may remove the same files, and a home may not exist.
    with suppress(OSError):
        found = [(one.stat(), one) for one in folder.glob("*/*") if one.is_file()]
    total = sum(status.st_size for status, _ in found)
    if total <= most_bytes:
        return
    for status, path in sorted(found, key=lambda one: one[0].st_mtime):
        with suppress(OSError):
            path.unlink()
        total -= status.st_size
        if total <= most_bytes // 2:
            return


def _processor() -> str:
    """Return a name of all instructions that the processor of this host has."""
    with suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        named = sorted({line for line in lines if line.startswith(("flags", "Features", "model name"))})
        return hashlib.blake2b("\n".join(named).encode(), digest_size=8).hexdigest()
    return f"{platform.system()}-{platform.machine()}"
