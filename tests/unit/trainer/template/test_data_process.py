"""The process that calls a data function: its results, its ends, and that it leaves nothing behind."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import tempfile
import threading
import types
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hpo.errors import DataMissingError, DiskFullError, ObjectiveBrokenError
from hpo.process.process_groups import adopt_orphans
from hpo.trainer.template.data_process import DataProcess, traceback_in_function
from hpo.trainer.template.fork_safety import ThreadCheck
from objectives.data.returned import module_state, seeding, store
from objectives.data.returned.module_state import UnshareableError

REPOSITORY = Path(__file__).parents[4]
LARGE = np.arange(3 * (store.MOST_INLINE_BYTES // 4), dtype=np.int32).reshape(-1, 4)


@pytest.fixture
def process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DataProcess:
    # Other tests may have started TensorFlow here, which a fork cannot use.
    monkeypatch.setattr(seeding, "FRAMEWORKS", ())
    # All modules of the tests before would count as the user's, next to the function.
    monkeypatch.setattr(module_state, "_FOREIGN", (*module_state._FOREIGN, str(REPOSITORY)))
    return DataProcess(tmp_path / "cache", 0, lambda *_: None, ThreadCheck())


def pair(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return x, np.arange(len(x), dtype=np.int32)


def small() -> Any:
    return pair(np.zeros((3, 2)))


@pytest.mark.parametrize("dtype", [np.int32, np.float32, np.float64])
def test_arrays_arrive_in_files_without_names(process: DataProcess, tmp_path: Path, dtype: type) -> None:
    found = process(lambda: (pair(LARGE.astype(dtype)), pair(LARGE[:3]))).splits
    assert list(found) == ["train", "test"]
    for split, rows in (("train", LARGE), ("test", LARGE[:3])):
        np.testing.assert_array_equal(found[split][0], rows)
        np.testing.assert_array_equal(found[split][1], np.arange(len(rows)))
    assert found["train"][0].dtype == (np.float32 if dtype == np.float64 else dtype)
    assert not any((tmp_path / "cache").iterdir())
    # A change is this process's own.
    found["train"][0][0] = 7


@pytest.mark.parametrize("mode", ["r", "r+", "c"])
def test_array_that_is_mapped_already_is_not_copied(
    process: DataProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: Any
) -> None:
    np.save(tmp_path / "x.npy", LARGE)
    monkeypatch.setattr(store._FileColumn, "append", lambda *_: os._exit(3))

    def mapped() -> Any:
        return pair(np.asarray(np.load(tmp_path / "x.npy", mmap_mode=mode))[5:])

    if mode == "c":
        # It may differ from its file.
        with pytest.raises(ObjectiveBrokenError, match="exit code 3"):
            process(mapped)
    else:
        np.testing.assert_array_equal(process(mapped).splits["train"][0], LARGE[5:])


def test_deleted_file_of_a_mapped_array_is_copied(process: DataProcess) -> None:
    def mapped() -> Any:
        with tempfile.TemporaryDirectory() as folder:
            np.save(f"{folder}/x.npy", LARGE)
            return pair(np.load(f"{folder}/x.npy", mmap_mode="r"))

    np.testing.assert_array_equal(process(mapped).splits["train"][0], LARGE)


def test_file_that_has_replaced_that_of_a_mapped_array_is_not_read(
    process: DataProcess, tmp_path: Path
) -> None:
    def mapped() -> Any:
        rows = []
        for factor in (1, 2):
            np.save(tmp_path / "new.npy", LARGE * factor)
            (tmp_path / "new.npy").replace(tmp_path / "x.npy")
            rows.append(np.load(tmp_path / "x.npy", mmap_mode="r"))
        return pair(rows[0]), pair(rows[1])

    found = process(mapped).splits
    for split, factor in (("train", 1), ("test", 2)):
        np.testing.assert_array_equal(found[split][0], LARGE * factor)


class OddError(Exception):
    """An error of user code."""


@pytest.mark.parametrize(
    ("error", "same_class"),
    [
        (ValueError("two\n  lines"), True),
        (FileNotFoundError(errno.ENOENT, "No such file", "pets.npz"), True),
        (SystemExit(3), True),
        (KeyboardInterrupt(), True),
        (DataMissingError("gone"), True),
        (OddError("odd"), False),
    ],
)
def test_exception_arrives_with_class_text_and_traceback(
    process: DataProcess, error: BaseException, same_class: bool
) -> None:
    def load_pets() -> None:
        raise error

    with pytest.raises(BaseException) as caught:  # noqa: PT011 - its text is compared below
        process(load_pets)
    assert str(caught.value).split() == str(error).split()
    assert type(caught.value).__name__ == type(error).__name__
    assert (type(caught.value) is type(error)) == same_class
    shown = traceback_in_function(caught.value)
    assert shown is None if isinstance(error, DataMissingError) else "in load_pets" in str(shown)


@pytest.mark.parametrize(
    ("end", "message"),
    [
        (lambda: os._exit(3), "its process ended with exit code 3: see its log"),
        (lambda: os.kill(os.getpid(), signal.SIGKILL), "its process was ended by SIGKILL: see its log"),
    ],
)
def test_end_of_the_process_is_one_line(process: DataProcess, end: Callable[[], None], message: str) -> None:
    def load_pets() -> None:
        # A process that it has started keeps the pipe open.
        if not os.fork():
            threading.Event().wait()
        end()

    with pytest.raises(ObjectiveBrokenError) as caught:
        process(load_pets)
    assert str(caught.value).startswith(f"data function load_pets returned nothing, because {message}")
    assert "\n" not in str(caught.value)


def test_kill_for_memory_is_named(process: DataProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    kills = iter([0, 1])
    monkeypatch.setattr("hpo.trainer.template.data_process.oom_kills", lambda: next(kills))
    with pytest.raises(ObjectiveBrokenError, match="no memory left: return smaller arrays, or arrays that"):
        process(lambda: os.kill(os.getpid(), signal.SIGKILL))


def test_full_disk_is_one_line(process: DataProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(store.os, "write", full)
    with pytest.raises(DiskFullError, match=r"cache has no space left .*HPO_HOME$"):
        process(lambda: pair(LARGE))


def test_function_may_leave_threads_processes_and_forks(process: DataProcess, tmp_path: Path) -> None:
    def load_pets() -> Any:
        os.fork()
        threading.Thread(target=threading.Event().wait, daemon=True).start()
        for own_session in (False, True):
            left = subprocess.Popen(["sleep", "1000"], start_new_session=own_session)
            with (tmp_path / "pids").open("a") as pids:
                pids.write(f"{left.pid}\n")
        return small()

    before = set(threading.enumerate())
    # As templates do.
    adopt_orphans()
    assert process(load_pets).splits["train"][0].shape == (3, 2)
    assert set(threading.enumerate()) == before
    for pid in (tmp_path / "pids").read_text().split():
        while is_running(pid):
            threading.Event().wait(0.01)


def is_running(pid: str) -> bool:
    with suppress(OSError):
        # A zombie waits for its reaper.
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    return False


def test_function_is_called_here_where_threads_run_already(process: DataProcess) -> None:
    finish = threading.Event()
    thread = threading.Thread(target=finish.wait)
    thread.start()
    called: list[int] = []
    assert process(lambda: (called.append(os.getpid()), small())[1]).splits["train"][0].shape == (3, 2)
    assert called == [os.getpid()]
    finish.set()
    thread.join()


def test_thread_of_jemalloc_is_no_obstacle() -> None:
    check, finish = ThreadCheck(), threading.Event()
    thread = threading.Thread(target=finish.wait)
    thread.start()
    assert check.cause() is not None
    Path(f"/proc/self/task/{thread.native_id}/comm").write_text("jemalloc_bg_thd")
    assert check.cause() is None
    finish.set()
    thread.join()


def test_progress_of_reading_is_reported(process: DataProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    stages: list[tuple[str, int, int]] = []
    monkeypatch.setattr(process, "_watch", lambda *stage: stages.append(stage))

    def rows() -> Any:
        loader = type(
            "DataLoader", (), {"__module__": "torch", "batch_size": 2, "dataset": [], "__iter__": None}
        )
        loader.__iter__ = lambda _: iter([pair(np.zeros((2, 3)))] * 3)  # type: ignore[method-assign]
        return loader()

    assert len(process(rows).splits["train"][1]) == 6
    assert stages[0] == ("reading train", 0, 0)


MODULE = """
import collections
import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
import numpy as np

NAMES = ["cat"]
ALSO = NAMES
LENGTHS = np.zeros(3)
SIZES = np.zeros(2, int)
NUMBERS = collections.defaultdict(lambda: len(NUMBERS))
POOL = ThreadPoolExecutor(2)
LOG = logging.getLogger(__name__)
COUNT = 0

class Vocabulary:
    words = None
    def __init__(self):
        self.index = {}
    def load(self):
        self.index["a"] = 1
        return load()
    class Nested:
        words = None

WORDS = Vocabulary()

class Guarded(Vocabulary):
    def __init__(self):
        super().__init__()
        self.lock = threading.Lock()

GUARDED = Guarded()

class Tokens(list):
    longest = 0

TOKENS = Tokens()

def load():
    global ALSO, COUNT, SIZES
    %s
    return np.zeros((3, 2)), np.arange(3)

load.calls = 0

def enclosed():
    seen, count = [], 0
    def load_pets():
        nonlocal count
        seen.append(3)
        count = 5
        return load()
    return load_pets, lambda: (seen, count)
"""


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], types.ModuleType]:
    """Returns a module whose data function runs a statement."""
    monkeypatch.syspath_prepend(tmp_path)

    def make(statement: str) -> types.ModuleType:
        (tmp_path / "module_of_data.py").write_text(MODULE % statement)
        (tmp_path / "imported_later.py").write_text("SEEN = []\nimport threading\nLOCK = threading.Lock()\n")
        for name in ("module_of_data", "imported_later"):
            monkeypatch.delitem(sys.modules, name, raising=False)
        import module_of_data

        return module_of_data

    return make


@pytest.mark.parametrize(
    ("statement", "read"),
    [
        ("COUNT = 5", lambda m: m.COUNT == 5),
        ("NAMES.append('dog')", lambda m: m.NAMES == m.ALSO == ["cat", "dog"] and m.ALSO is m.NAMES),
        ("LENGTHS[1] = 4", lambda m: m.LENGTHS.tolist() == [0, 4, 0]),
        ("WORDS.index['a'] = 1", lambda m: m.WORDS.index == {"a": 1}),
        ("Vocabulary.words = {'a'}", lambda m: m.Vocabulary.words == {"a"}),
        ("globals()['NEW'] = {'a': NAMES}", lambda m: m.NEW == {"a": ["cat"]}),
        ("globals()['json'] = __import__('json')", lambda m: m.json.loads("3") == 3),
        (
            "import imported_later; imported_later.SEEN += [3]",
            lambda _: sys.modules["imported_later"].SEEN == [3],
        ),
        # Another object is not a change of the one before, which has other names.
        ("ALSO = ['dog']", lambda m: (m.ALSO, m.NAMES) == (["dog"], ["cat"])),
        ("NAMES.append('dog'); SIZES = NAMES", lambda m: m.SIZES is m.ALSO is m.NAMES),
        ("SIZES = np.array([0.5, 1.5])", lambda m: m.SIZES.tolist() == [0.5, 1.5]),
        ("TOKENS.append('a'); TOKENS.longest = 1", lambda m: (m.TOKENS, m.TOKENS.longest) == (["a"], 1)),
        ("load.calls = 4", lambda m: m.load.calls == 4),
        ("Vocabulary.Nested.words = 4", lambda m: m.Vocabulary.Nested.words == 4),
        ("POOL.submit(len, NAMES).result()", lambda m: m.POOL is not None),
        ("LOG.setLevel(3)", lambda m: m.LOG.name == "module_of_data" and m.LOG.level == 0),
        ("LOCK = threading.Lock()", lambda m: not hasattr(m, "LOCK")),
    ],
)
def test_variables_that_a_function_sets_are_handed_back(
    process: DataProcess, module: Any, statement: str, read: Callable[[types.ModuleType], bool]
) -> None:
    found = module(statement)
    process(found.load)
    assert read(found)


def test_modules_of_installed_packages_are_left_alone(
    process: DataProcess, module: Any, tmp_path: Path
) -> None:
    (tmp_path / "imported_later-1.0.dist-info").mkdir()
    process(module("import imported_later; imported_later.SEEN += [3]").load)
    assert "imported_later" not in sys.modules


def test_variables_of_a_callable_itself_are_handed_back(process: DataProcess, module: Any) -> None:
    found = module("pass")
    method = found.Vocabulary()
    process(method.load)
    in_partial = found.Vocabulary()
    process(found.partial(found.partial(in_partial.load)))
    assert method.index == in_partial.index == {"a": 1}
    function, read = found.enclosed()
    process(function)
    assert read() == ([3], 5)


@pytest.mark.parametrize(
    ("statement", "name"),
    [("NUMBERS['a']", "NUMBERS"), ("GUARDED.index['a'] = 1", "GUARDED")],
)
def test_change_of_an_object_without_a_pickle_is_named(
    process: DataProcess, module: Any, statement: str, name: str
) -> None:
    with pytest.raises(UnshareableError, match=f"^{name}$"):
        process(module(statement).load)


@pytest.mark.parametrize("value", ["threading.Lock()", "(n for n in NAMES)", "lambda: 3"])
def test_variable_that_cannot_be_handed_back_is_named(process: DataProcess, module: Any, value: str) -> None:
    with pytest.raises(UnshareableError, match=r"^COUNT$"):
        process(module(f"COUNT = {value}").load)


def test_thread_that_watches_progress_bars_is_ended() -> None:
    """Libraries such as Hugging Face's have subclasses of tqdm, each with a monitor of its own."""
    ended = threading.Event()
    monitor = type(
        "TMonitor", (threading.Thread,), {"__module__": "tqdm._monitor", "exit": lambda _: ended.set()}
    )
    check = ThreadCheck()
    monitor(target=ended.wait, daemon=True).start()
    assert check.cause() is None
    assert ended.is_set()
