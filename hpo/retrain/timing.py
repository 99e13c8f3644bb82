"""Wall time of work that may be interrupted, killed and resumed by another process."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class WallTime:
    """Total time of all sessions, without the pauses between them."""

    seconds: float
    sessions: int


class SessionLog:
    """Measures the time from its construction to `end()`, and adds earlier sessions in the same folder.

    A session that was killed counts up to the last file that it wrote there.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / "sessions.json"
        self._earlier: list[float] = []
        with suppress(OSError, ValueError, TypeError, KeyError):
            kept = json.loads(self._path.read_text())
            self._earlier = [float(seconds) for seconds in kept["seconds"]]
            if kept["open_since"] is not None:
                written = [path.stat().st_mtime for path in folder.rglob("*.npz")]
                self._earlier.append(max(0.0, max(written, default=0.0) - float(kept["open_since"])))
        self._began_at = time.monotonic()
        self._write(self._earlier, time.time())

    def end(self) -> WallTime:
        """End the session and store its time in the folder."""
        every = [*self._earlier, time.monotonic() - self._began_at]
        self._write(every, None)
        return WallTime(sum(every), len(every))

    def _write(self, seconds: list[float], open_since: float | None) -> None:
        self._path.write_text(json.dumps({"seconds": seconds, "open_since": open_since}))
