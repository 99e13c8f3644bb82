"""Hosts with IP addresses on one machine: network namespaces around a PostgreSQL server.

The switch and the database are in a namespace too, so the network and the firewall of the machine are not used.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from storage.embedded import paths

DATABASE = "10.77.0.1"
PASSWORD = "over the wire"
STARTUP_SECONDS = "60"


def missing() -> str:
    """Return why hosts cannot be created here; empty if they can."""
    if os.geteuid() != 0:
        return "only root may make network namespaces"
    absent = [program for program in ("ip", "unshare", "setpriv") if shutil.which(program) is None]
    if absent:
        return f"not installed: {', '.join(absent)}"
    probe = f"hpo-probe-{os.getpid()}"
    made = subprocess.run(["ip", "netns", "add", probe], capture_output=True, text=True, check=False)
    if made.returncode:
        return f"ip netns add: {made.stderr.strip()}"
    try:
        link = ["ip", "-n", probe, "link", "add", "probe0", "type", "veth", "peer", "name", "probe1"]
        done = subprocess.run(link, capture_output=True, text=True, check=False)
        return f"no virtual Ethernet: {done.stderr.strip()}" if done.returncode else ""
    finally:
        run("ip", "netns", "delete", probe)


def run(*command: object) -> str:
    """Run a command and return its output; raise AssertionError if it fails."""
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


class Network:
    """Any number of hosts and one PostgreSQL, on a switch."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._name = f"hpo-{os.getpid()}"
        self._hosts: list[str] = []
        self._spaces: list[str] = []
        self._programs: Path | None = None

    @property
    def url(self) -> str:
        """URL of the database for a host."""
        return f"postgresql://hpo:{PASSWORD.replace(' ', '%20')}@{DATABASE}:{paths.PORT}/hpo"

    @property
    def local_url(self) -> str:
        """URL of the database for the test: its Unix socket, which no cut affects."""
        return f"postgresql+psycopg2://postgres@/hpo?host={self._folder}&port={paths.PORT}"

    def start(self, programs: Path) -> None:
        """Create the switch, and a PostgreSQL cluster that requires a password over the network."""
        switch = self._add("db")
        self._ip(switch, "link", "add", "switch", "type", "bridge")
        self._ip(switch, "address", "add", f"{DATABASE}/24", "dev", "switch")
        self._ip(switch, "link", "set", "switch", "up")
        self._programs = programs
        data = self._folder / "data"
        data.mkdir(mode=0o700)
        for path in (self._folder, data):
            paths.own(path)
        self._as_postgres("initdb", "-D", data, "-U", "postgres", "--auth=trust", "--encoding=UTF8")
        (data / "pg_hba.conf").write_text("local all all trust\nhost all all all scram-sha-256\n")
        with (data / "postgresql.conf").open("a") as file:
            file.write(f"listen_addresses = '{DATABASE}'\nunix_socket_directories = '{self._folder}'\n")
        log = self._folder / "log"
        self._as_postgres("pg_ctl", "start", "-w", "-t", STARTUP_SECONDS, "-D", data, "-l", log)

    def host(self, name: str) -> list[str]:
        """Add a host to the switch; returns the prefix of commands that run on it."""
        space, switch = self._add(name), self._space("db")
        number = len(self._hosts)
        self._hosts.append(name)
        self._ip(switch, "link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", space)
        self._ip(switch, "link", "set", name, "master", "switch")
        self._ip(switch, "link", "set", name, "up")
        self._ip(space, "address", "add", f"10.77.0.{11 + number}/24", "dev", "eth0")
        self._ip(space, "link", "set", "eth0", "up")
        named = 'hostname "$1"; shift; exec "$@"'
        return ["ip", "netns", "exec", space, "unshare", "--uts", "sh", "-c", named, "sh", name]

    def cut(self, name: str) -> None:
        """Pull a host's cable: packets are dropped without notice."""
        self._ip(self._space("db"), "link", "set", name, "down")

    def join(self, name: str) -> None:
        """Plug the cable in again."""
        self._ip(self._space("db"), "link", "set", name, "up")

    def close(self) -> None:
        """Stop PostgreSQL and remove every namespace, with the links in it."""
        try:
            if self._programs is not None and (self._folder / "data" / "postmaster.pid").exists():
                self._as_postgres("pg_ctl", "stop", "-w", "-m", "immediate", "-D", self._folder / "data")
        finally:
            for space in reversed(self._spaces):
                run("ip", "netns", "delete", space)
            self._spaces.clear()

    def _space(self, name: str) -> str:
        return f"{self._name}-{name}"

    def _add(self, name: str) -> str:
        space = self._space(name)
        run("ip", "netns", "add", space)
        self._spaces.append(space)
        self._ip(space, "link", "set", "lo", "up")
        return space

    def _ip(self, space: str, *words: object) -> None:
        run("ip", "-n", space, *words)

    def _as_postgres(self, program: str, *words: object) -> None:
        """Run one of its programs as its user, in the namespace of the database."""
        uid, gid = paths.system_user()
        assert self._programs is not None
        command = [
            "ip", "netns", "exec", self._space("db"),
            "setpriv", f"--reuid={uid}", f"--regid={gid}", "--clear-groups",
            self._programs / program, *words,
        ]  # fmt: skip
        # No pipe: the server would keep it open.
        with (self._folder / "output").open("w+") as output:
            done = subprocess.run(
                [str(word) for word in command],
                cwd="/",
                env=os.environ | {"LC_ALL": "C"},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                check=False,
            )
            output.seek(0)
            assert done.returncode == 0, output.read()
