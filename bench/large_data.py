"""Data that are larger than memory: private memory and speed of four concurrent trials, next to data that fit.

    python -m bench.large_data [--gib 10] [--memory-gib 4] [--rounds 3]

It makes two folders of .npy files with random images, one of `--gib` and one of 1 GiB, and tunes the same objective on
each in turn (`hpo launch --data`, 4 slots, batches of random rows of the whole data set). Each launch runs in a control
group with `--memory-gib` of memory for processes and page cache together, and starts with no page of its data in
memory. Private memory is the sum of Private_Clean and Private_Dirty in smaps_rollup over agent, template and trainers,
sampled each second; of it, Private_Clean are pages of files that only one process maps, which the kernel may drop.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import psutil

from bench.jobs import large_data_job
from bench.options import parser
from bench.report import Report, Row, median
from bench.sandbox import Sandbox

GIB = 1 << 30
SLOTS = 4
SIDE = 96
SMALL_GIB = 1.0

_GROUPS = Path("/sys/fs/cgroup/memory")


def make(folder: Path, gib: float) -> None:
    """Write images of random noise, which compress to nothing less, and drop them from memory."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    block = rng.integers(0, 256, (2048, SIDE, SIDE, 3), dtype=np.uint8)
    blocks = round(gib * GIB / block.nbytes)
    for split, count in (("train", blocks), ("val", 1), ("test", 1)):
        labels = rng.integers(0, 10, count * len(block))
        np.save(folder / f"y_{split}.npy", labels)
        with (folder / f"x_{split}.npy").open("wb") as file:
            header = {"descr": "|u1", "fortran_order": False, "shape": (len(labels), *block.shape[1:])}
            np.lib.format.write_array_header_1_0(file, header)
            for _ in range(count):
                file.write(block.data)
    drop(folder)


def drop(folder: Path) -> None:
    """Write the files of a folder to disk, and drop their pages from memory."""
    for path in folder.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


@contextmanager
def limited(gib: float) -> Iterator[str]:
    """Run this process, and those that it starts, with so much memory; yield a sentence on it."""
    own = next(
        line.split(":", 2)[2]
        for line in Path("/proc/self/cgroup").read_text().splitlines()
        if ":memory:" in line or line.startswith("0::")
    )
    parent = _GROUPS / own.lstrip("/")
    group = parent / f"bench-{os.getpid()}"
    try:
        group.mkdir()
        (group / "memory.limit_in_bytes").write_text(str(int(gib * GIB)))
        (group / "cgroup.procs").write_text(str(os.getpid()))
    except OSError as exc:
        with suppress(OSError):
            group.rmdir()
        yield f"No control group could be made ({exc.strerror}), so the page cache was not limited."
        return
    try:
        yield f"Each launch had {gib:g} GiB for processes and page cache, by a control group."
    finally:
        (parent / "cgroup.procs").write_text(str(os.getpid()))
        for _ in range(100):
            with suppress(OSError):
                group.rmdir()
                break
            time.sleep(0.1)


def private(root: psutil.Process) -> tuple[float, float]:
    """Return the private memory in GiB of a process and its descendants, and the part that is not a page of a file."""
    total = dirty = 0
    for process in [root, *root.children(recursive=True)]:
        with suppress(psutil.Error, OSError):
            if "postgres" in process.name():
                continue
            for line in Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines():
                if line.startswith(("Private_Clean", "Private_Dirty")):
                    total += int(line.split()[1])
                    dirty += int(line.split()[1]) * line.startswith("Private_Dirty")
    return total / 2**20, dirty / 2**20


def run(data: Path, seconds: float) -> Row:
    """Tune on a folder; return speed and memory."""
    drop(data)
    began_at = time.perf_counter()
    with Sandbox() as sandbox:
        rates = sandbox.folder / "rates"
        arguments = ["launch", "--study", "bench", "--objective", f"{large_data_job.__file__}:Large"]
        arguments += ["--data", str(data), "--workers", str(SLOTS), "--trials", str(SLOTS), "--device", "cpu"]
        environment = sandbox.environment(BENCH_SECONDS=seconds, BENCH_RATES=rates)
        process = sandbox.start(["-m", "hpo.cli", *arguments, "--pruner", "none"], environment)
        highest = highest_dirty = 0.0
        while process.poll() is None:
            time.sleep(1.0)
            total, dirty = private(psutil.Process(process.pid))
            highest, highest_dirty = max(highest, total), max(highest_dirty, dirty)
        found = [float(line) for line in rates.read_text().split()] if rates.exists() else []
        if process.returncode or len(found) != SLOTS:
            raise RuntimeError(f"the launch ended with {process.returncode}: {sandbox.log_tail()}")
    return {
        "images/s": sum(found),
        "private memory, GiB": highest,
        "of it no pages of files, GiB": highest_dirty,
        "seconds in all": time.perf_counter() - began_at,
    }


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--gib", type=float, default=10.0, help="size of the large data set")
    made.add_argument("--memory-gib", type=float, default=4.0, help="memory of a launch with its page cache")
    made.add_argument("--seconds", type=float, default=60.0, help="seconds in which each trial trains")
    made.add_argument(
        "--folder", type=Path, default=None, help="folder of the data; default: a temporary one"
    )
    options = made.parse_args()
    if options.quick:
        options.gib, options.seconds, options.rounds = 1.5, 5.0, 1
    report = Report(
        "large_data", f"{SLOTS} concurrent trials on data larger than memory", quick=options.quick
    )
    with Sandbox() as sandbox, limited(options.memory_gib) as sentence:
        folder = options.folder or sandbox.folder
        sizes = {"fits": min(SMALL_GIB, options.gib / 2), "larger": options.gib}
        for name, gib in sizes.items():
            make(folder / name, gib)
        rows: dict[str, list[Row]] = {name: [] for name in sizes}
        for _ in range(options.rounds):
            for name in sizes:
                rows[name].append(run(folder / name, options.seconds))
                print(name, rows[name][-1], flush=True)
    medians = {
        name: {key: median([row[key] for row in found]) for key in found[0]} for name, found in rows.items()
    }
    speed = {name: median([row["images/s"] for row in found]) or 0.0 for name, found in rows.items()}
    report.table(
        f"{SLOTS} slots, images of {SIDE}×{SIDE}×3, each trial {options.seconds:.0f} s",
        [{"data": f"{name}, {sizes[name]:g} GiB", **row} for name, row in medians.items()],
    )
    report.note(
        f"Speed on the larger data: {speed['larger'] / speed['fits']:.0%} of that on the data that fit.",
        f"{sentence} Medians of n = {options.rounds}, the two in turn.",
    )
    report.raw = {"rounds": rows}
    report.write()


if __name__ == "__main__":
    main()
