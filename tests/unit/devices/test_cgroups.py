"""Limits of control groups, read from files such as containers of both versions show."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hpo.devices import cgroups, cores

FILES = dict[str, str]
V2 = "0::/a.slice/b.scope"
KUBELET = "0::/kubepods.slice/kubepods-podab.slice/cri-containerd-cd.scope"
V1 = "4:memory:/a/b\n3:cpu,cpuacct:/a/b\n0::/"


@pytest.fixture
def group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Return a function that lays out the files below the mount, for a content of /proc/self/cgroup."""
    monkeypatch.setattr(cgroups, "MOUNT", tmp_path)
    monkeypatch.setattr(cgroups, "OWN_GROUPS", tmp_path / "own")

    def lay_out(own: str, files: FILES) -> None:
        (tmp_path / "own").write_text(own)
        for name, content in files.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(content)

    return lay_out


def v1(folder: str, quota: int, period: int = 100_000) -> FILES:
    return {f"{folder}cpu.cfs_quota_us": f"{quota}\n", f"{folder}cpu.cfs_period_us": f"{period}\n"}


@pytest.mark.parametrize(
    ("own", "files", "quota"),
    [
        ("0::/", {"cpu.max": "100000 100000\n"}, 1.0),
        ("0::/", {"cpu.max": "max 100000\n"}, None),
        ("0::/", {}, None),
        ("", {"cpu.max": "50000 100000"}, 0.5),
        # The smallest quota on the path to the root.
        (V2, {"a.slice/b.scope/cpu.max": "max 100000", "a.slice/cpu.max": "250000 100000"}, 2.5),
        (V2, {"a.slice/b.scope/cpu.max": "300000 100000", "a.slice/cpu.max": "400000 100000"}, 3.0),
        # The host's path, with the container's own group at the root; a group outside the container's view.
        (V2, {"cpu.max": "150000 50000"}, 3.0),
        ("0::/../other", {"cpu.max": "150000 100000"}, 1.5),
        ("0::/", {"cpu.max": "damaged"}, None),
        (V1, v1("cpu,cpuacct/", 200_000), 2.0),
        (V1, v1("cpu/", 200_000), 2.0),
        (V1, v1("cpu/a/b/", -1) | v1("cpu/a/", 150_000) | v1("cpu/", -1), 1.5),
        ("", v1("cpu/", 100_000), 1.0),
        # Kubernetes: the pod's limit around the container's; a guaranteed and a burstable pod, drivers of both kinds.
        (
            KUBELET,
            {
                "kubepods.slice/kubepods-podab.slice/cpu.max": "200000 100000",
                "kubepods.slice/kubepods-podab.slice/cri-containerd-cd.scope/cpu.max": "100000 100000",
            },
            1.0,
        ),
        ("5:cpuacct,cpu:/kubepods/burstable/podab/cd", v1("cpu/kubepods/burstable/podab/", 50_000), 0.5),
        ("5:cpu,cpuacct:/kubepods/podab/cd", v1("cpu,cpuacct/", 200_000), 2.0),
        # A slice of systemd, with a user's session below it.
        (
            "0::/user.slice/user-1000.slice/session-3.scope",
            {"user.slice/user-1000.slice/cpu.max": "120000 100000", "user.slice/cpu.max": "max 100000"},
            1.2,
        ),
        # Both versions at the same time: processor time is limited by either.
        ("4:memory:/a\n0::/a/b", {"unified/a/cpu.max": "70000 100000"}, 0.7),
        ("3:cpu,cpuacct:/a\n0::/a", v1("cpu,cpuacct/a/", 90_000) | {"unified/a/cpu.max": "max 100000"}, 0.9),
    ],
)
def test_cpu_quota_is_the_smallest_on_the_path_to_the_root(group, own, files, quota):
    group(own, files)
    assert cgroups.cpu_quota() == quota


@pytest.mark.parametrize(
    ("own", "files", "limit"),
    [
        ("0::/", {"memory.max": "max"}, None),
        (V2, {"a.slice/b.scope/memory.max": "max", "a.slice/memory.max": "2048"}, 2048),
        (
            V1,
            {"memory/a/memory.limit_in_bytes": "1024", "memory/memory.limit_in_bytes": str(2**63 - 4096)},
            1024,
        ),
    ],
)
def test_memory_limit_is_the_smallest_on_the_path_to_the_root(group, own, files, limit):
    group(own, files)
    assert cgroups.memory_limit() == limit


@pytest.mark.parametrize(
    ("quota", "count"),
    [("10000", 1), ("100000", 1), ("150000", 2), ("350000", 4), ("400000", 4), ("800000", 4), ("max", 4)],
)
def test_slots_are_pinned_only_where_no_quota_is_below_the_cores(group, monkeypatch, quota, count):
    group("0::/", {"cpu.max": f"{quota} 100000"})
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {2, 3, 6, 7}, raising=False)
    found = cores.usable_cores()
    assert (found.usable, found.count, found.pinned) == (
        (2, 3, 6, 7),
        count,
        quota in ("400000", "800000", "max"),
    )


@pytest.mark.parametrize(
    ("own", "files", "left"),
    [
        ("0::/a/b", {"a/pids.max": "100", "a/pids.current": "60", "a/b/pids.max": "max"}, 40),
        ("4:pids:/job", {"pids/job/pids.max": "50", "pids/job/pids.current": "10"}, 40),
        ("0::/", {"pids.max": "max", "pids.current": "10"}, None),
    ],
)
def test_processes_left_are_the_fewest_on_the_path_to_the_root(group, own, files, left):
    group(own, files)
    assert cgroups.processes_left() == left
