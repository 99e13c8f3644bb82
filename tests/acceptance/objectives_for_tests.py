"""Objectives that train nothing, in milliseconds; most verify that every epoch ran exactly once."""

from __future__ import annotations

import ctypes
import errno
import hashlib
import math
import os
import subprocess
import time
from dataclasses import replace
from enum import Enum
from pathlib import Path

import numpy as np
from optuna import TrialPruned
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from objectives.base import DataOptions, Objective, Params, Run, State
from objectives.data import datasets
from objectives.description import Description
from objectives.errors import Infeasible
from objectives.spaces.conditions import When, at_least

EPOCH_SECONDS = float(os.environ.get("TEST_EPOCH_SECONDS", "0"))
HURRY = Path(os.environ.get("TEST_HURRY", "hurry"))
"""File from which on epochs take no time: a test lets them take long only until it has done its part."""
HELD = frozenset(os.environ.get("TEST_HOLD", "").split())
"""Epochs, or `SEED:EPOCH`, that last until the run is asked to end, or the test allows them (`Service.allow`)."""
HIGH = float(os.environ.get("TEST_HIGH", "5"))
"""Upper bound of x, to change the space between two launches."""
LETTERS = os.environ.get("TEST_LETTERS", "ab")
CHILDREN = Path(os.environ.get("TEST_CHILDREN", "children"))
"""File to which `Parent` writes its child processes, and which `Stubborn` touches before it blocks."""
GATE = Path(os.environ.get("TEST_GATE", "/"))
"""File for which `Loud` waits in its second epoch, so that a test can inspect the first."""
ILL = os.environ.get("TEST_ILL", "")
"""How a `Moody` trial with mood `fine` ends, to break and fix the objective between two launches."""

RAW = b"NUL \0, not UTF-8 \xff, UTF-8 caf\xc3\xa9"


def is_ending(run: Run) -> bool:
    """Return whether the agent has asked the run to end."""
    return getattr(run, "stop_outcome", None) is not None


class Counted(Objective):
    """Keeps a running sum of its epochs in the checkpoint, and fails if an epoch was skipped or repeated."""

    metric, direction, epochs = "loss", "minimize", 4
    space = {"x": FloatDistribution(-5.0, HIGH), "letter": CategoricalDistribution(list(LETTERS))}
    first = [{"x": 2.0, "letter": "a"}]

    def train(self, params: Params, run: Run) -> None:
        done = int(run.state["done"]) if run.state else 0
        total = int(run.state["weights"].sum()) if run.state else 0
        for epoch in run.epochs():
            if epoch != done + 1:
                raise AssertionError(f"epoch {epoch} follows epoch {done}")
            self.spend(run, epoch)
            self.misbehave(params, epoch)
            done, total = epoch, total + epoch
            self.save(run, {"done": done, "weights": np.array([total, 0])})
            self.close(params, run, epoch, total)
        if run.final:
            run.record(test_accuracy=0.9 + (run.seed % 7) / 100, test_images=360)
            run.record(confusion=[[3, 1], [0, 4]], classes=["a", "b"])
            if run.output:
                (run.output / "model.keras").write_text(f"total {total}")

    def spend(self, run: Run, epoch: int) -> None:
        """Let `EPOCH_SECONDS` pass in small batches, unless the test is in a hurry; wait in an epoch that is held."""
        began = time.monotonic()
        while (passed := time.monotonic() - began) < EPOCH_SECONDS and not HURRY.exists():
            run.tick(round(1000 * passed), round(1000 * EPOCH_SECONDS))
            time.sleep(min(0.01, EPOCH_SECONDS))
        held, allowed = not HELD.isdisjoint({f"{epoch}", f"{run.seed}:{epoch}"}), Path(f"allowed-{epoch}")
        while held and not is_ending(run) and not allowed.exists():
            run.tick(0, 1)
            time.sleep(0.01)

    def misbehave(self, params: Params, epoch: int) -> None:
        """Do nothing; subclasses fail here."""

    def save(self, run: Run, state: State) -> None:
        run.save(state)

    def close(self, params: Params, run: Run, epoch: int, total: int) -> None:
        run.report(loss=(params["x"] - 2) ** 2 + 1 / epoch, total=total)


class InLanes:
    """Makes an objective pass for one of Keras, so that it trains in lanes."""

    @classmethod
    def describe(cls, name: str) -> Description:
        return replace(super().describe(name), builds_models=True)  # type: ignore[misc]


class Laned(InLanes, Counted):
    """Trains nothing, in lanes."""


class Lethal(InLanes, Counted):
    """The trial of its first configuration kills its process in the second epoch."""

    first = [{"x": x, "letter": "a"} for x in (4.9, 1.0, 2.0, 3.0)]

    def misbehave(self, params: Params, epoch: int) -> None:
        if params["x"] == self.first[0]["x"] and epoch == 2:
            os.abort()


class Extended(Counted):
    """Has no schedule, so it goes on after any epoch."""

    @classmethod
    def takes_restarts(cls) -> bool:
        return True


class Kernels(Objective):
    """Has choices of several types, and parameters and a metric that are called like columns of tables."""

    metric, direction, epochs = "loss", "minimize", 2
    space = {
        "state": CategoricalDistribution([(3, 3), (5, 5)]),
        "value": CategoricalDistribution(["1", 1, True, "a,b", None]),
    }

    def train(self, params: Params, run: Run) -> None:
        if type(params["state"]) is not tuple:
            raise TypeError(f"{params['state']!r} is not a tuple")
        for _ in run.epochs():
            run.report(loss=params["state"][0] + len(repr(params["value"])) / 10, epoch=7.0)
        if run.final:
            run.record(test_loss=0.5)


class Sized(Objective):
    """Measures a size before it trains, which is better the larger it is."""

    metric, direction, epochs = "loss", "minimize", 2
    space = {"size": IntDistribution(1, 40)}
    first = [{"size": 40}]

    def train(self, params: Params, run: Run) -> None:
        run.measure(parameters=params["size"])
        for _ in run.epochs():
            run.report(loss=1 / params["size"], odd=params["size"] % 2)


class Shape(Enum):
    """Shape of something."""

    ROUND, FLAT = "round", "flat"


class Shaped(Kernels):
    """Has choices that are objects, and parameters that are active only for some values of others."""

    space = {
        **Kernels.space,
        "depth": When("shape", Shape.FLAT, When("reduce", at_least, IntDistribution(1, 3))),
        "shape": CategoricalDistribution(list(Shape)),
        "reduce": When("shape", [Shape.FLAT], CategoricalDistribution([at_least, max])),
    }
    first = [
        {"state": (3, 3), "value": True, "shape": Shape.ROUND},
        {"state": (3, 3), "value": 1, "shape": Shape.FLAT, "reduce": max},
        {"state": (3, 3), "value": "1", "shape": Shape.FLAT, "reduce": at_least, "depth": 2},
    ]

    def train(self, params: Params, run: Run) -> None:
        flat = params["shape"] is Shape.FLAT
        given = {name: params[name] for name in self.space if name in params}
        if ("reduce" in given, "depth" in given) != (flat, flat and params["reduce"] is at_least):
            raise ValueError(f"other parameters than the active ones: {given}")
        super().train(params, run)


def last_saved(seed: int, epoch: int) -> int:
    """Return the last epoch after which `Traced` has saved its state; 0 if it has saved none.

    Of five trials, three save every epoch, one of them after its report, one every third and one none.
    """
    match seed % 5:
        case 3:
            return epoch - epoch % 3
        case 4:
            return 0
    return epoch


def link(chain: int, epoch: int) -> int:
    """Return the link that an epoch adds to a chain: no other epoch, order or trial gives the same."""
    return int.from_bytes(hashlib.blake2b(f"{chain} {epoch}".encode(), digest_size=6).digest(), "big")


def first_link(params: Params, seed: int) -> int:
    """Return the beginning of a trial's chain."""
    return link(seed, round(params["x"] * 10**9))


class Traced(Counted):
    """Writes the start and the trained epochs of each attempt to the file `TEST_TRACE`: see `trace.py`.

    Its state and every report carry a chain over the trial and all of its epochs.
    """

    def train(self, params: Params, run: Run) -> None:
        self.chain = int(run.state["chain"]) if run.state else first_link(params, run.seed)
        self.note(run, "after", int(run.state["done"]) if run.state else 0)
        super().train(params, run)

    def close(self, params: Params, run: Run, epoch: int, total: int) -> None:
        # Before the epoch is saved: it has been trained even if it is lost.
        self.note(run, "trained", epoch)
        run.report(loss=(params["x"] - 2) ** 2 + 1 / epoch, total=total, chain=self.chain)
        if run.seed % 5 == 2:
            run.save(self.state)

    def save(self, run: Run, state: State) -> None:
        self.chain = link(self.chain, state["done"])
        self.state = {**state, "chain": self.chain}
        if last_saved(run.seed, state["done"]) == state["done"] and run.seed % 5 != 2:
            run.save(self.state)

    def note(self, run: Run, word: str, epoch: int) -> None:
        with Path(os.environ["TEST_TRACE"]).open("a") as trace:
            trace.write(f"{run.seed} {os.getpid()} {word} {epoch}\n")


class Gated(Counted):
    """Waits in its last epoch for the file `TEST_GATE`, if that is set."""

    def misbehave(self, params: Params, epoch: int) -> None:  # noqa: ARG002
        gate = os.environ.get("TEST_GATE")
        while gate and epoch == 16 and not Path(gate).exists():
            time.sleep(0.01)


class Lucky(Counted):
    """Gives x = 3 a better value with the seeds of trials; with other seeds, x = 2 is best."""

    first = [{"x": 3.0, "letter": "a"}, {"x": 2.0, "letter": "a"}]

    def prepare(self, options: DataOptions, final: bool) -> None:  # noqa: ARG002 - the contract's signature
        self.has_test_set = final

    def train(self, params: Params, run: Run) -> None:
        if self.has_test_set != run.final:
            raise AssertionError("only a final run may have the test set")
        super().train(params, run)

    def close(self, params: Params, run: Run, epoch: int, total: int) -> None:
        with Path(os.environ["TEST_TALLY"]).open("a") as tally:
            tally.write(f"{params['x']} {run.seed} {epoch}\n")
        luck = 5.0 if run.seed < 1000 and params["x"] == 3.0 else run.seed % 7 / 100
        run.report(loss=(params["x"] - 2) ** 2 + 1 / epoch - luck, total=total)


class Moody(Counted):
    """Ends in the second epoch as its parameter `mood` determines."""

    space = {
        "x": FloatDistribution(-5.0, 5.0),
        "mood": CategoricalDistribution(
            [
                "fine",
                "hopeless",
                "diverged",
                "oom",
                "impossible",
                "gives up",
                "bug",
                "disk",
                "silent",
                "hang",
                "die",
            ]
        ),
    }
    first = [
        {"x": 2.0, "mood": mood}
        for mood in (
            *("fine", "fine", "fine", "fine", "hopeless", "diverged", "oom", "impossible", "gives up", "bug"),
        )
    ]

    def misbehave(self, params: Params, epoch: int) -> None:
        mood = ILL if ILL and params["mood"] == "fine" else params["mood"]
        if epoch < 2:
            return
        match mood:
            case "oom":
                raise MemoryError("the model is too large")
            case "impossible":
                raise Infeasible("a kernel of 7 in an image of 5")
            case "gives up":
                raise TrialPruned
            case "bug":
                raise ValueError("the objective is broken")
            case "disk":
                raise OSError(errno.ENOSPC, "No space left on device")
            case "hang":
                time.sleep(3600)
            case "die":
                os.abort()

    def close(self, params: Params, run: Run, epoch: int, total: int) -> None:
        match params["mood"]:
            case "silent" if epoch == 2:
                return
            case "diverged" if epoch == 2:
                run.report(loss=math.nan, total=total)
            case "hopeless":
                run.report(loss=1000.0, total=total)
            case _:
                super().close(params, run, epoch, total)


class Pinned(Counted):
    """Logs the GPUs that its trainer sees, and those that the template saw."""

    def prepare(self, options: DataOptions, final: bool) -> None:
        super().prepare(options, final)
        self.template = _gpus_seen()

    def misbehave(self, params: Params, epoch: int) -> None:  # noqa: ARG002
        print(f"template: {self.template}; trainer: {_gpus_seen()}", flush=True)


def _gpus_seen() -> str:
    names = ("CUDA_VISIBLE_DEVICES", "XLA_PYTHON_CLIENT_MEM_FRACTION")
    return " ".join(os.environ.get(name, "none") for name in names)


class Parent(Counted):
    """Forks a process that holds its pipe, and runs a command, as a data loader may do."""

    def train(self, params: Params, run: Run) -> None:
        forked = os.fork()
        if forked == 0:
            time.sleep(600)
        command = subprocess.Popen(["sleep", "600"])
        with CHILDREN.open("a") as file:
            file.write(f"{forked}\n{command.pid}\n")
        super().train(params, run)


class Littering(Counted):
    """Starts a process while it loads, and one that ignores SIGTERM in each trial."""

    def prepare(self, data: DataOptions, final: bool) -> None:
        super().prepare(data, final)
        with CHILDREN.open("a") as file:
            file.write(f"{subprocess.Popen(['sleep', '600']).pid}\n")

    def train(self, params: Params, run: Run) -> None:
        command = subprocess.Popen(["sh", "-c", "trap '' TERM; echo; sleep 600"], stdout=subprocess.PIPE)
        assert command.stdout is not None
        command.stdout.readline()
        with CHILDREN.open("a") as file:
            file.write(f"{command.pid}\n")
        super().train(params, run)


class Crowded(Counted):
    """Fails to fork the first two times, as on a host without room for another process."""

    def prepare(self, data: DataOptions, final: bool) -> None:
        super().prepare(data, final)
        fork, refusals = os.fork, iter(range(2))

        def refuse() -> int:
            if next(refusals, None) is not None:
                raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")
            return fork()

        os.fork = refuse  # type: ignore[assignment]


class Stubborn(Counted):
    """Blocks in its third epoch in native code that holds the GIL."""

    def misbehave(self, _params: Params, epoch: int) -> None:
        if epoch == 3:
            CHILDREN.touch()
            ctypes.PyDLL(None).sleep(600)


class Loud(Objective):
    """Prints as its parameter determines in the first epoch, and a line in each."""

    metric, direction, epochs = "loss", "minimize", 3
    space = {
        "prints": CategoricalDistribution(["raw", "much", "flood", "little"]),
        # Trials that print the same are different configurations.
        "x": FloatDistribution(0.0, 1.0),
    }

    def train(self, params: Params, run: Run) -> None:
        for epoch in run.epochs():
            if epoch == 1:
                self.print(params["prints"])
            os.write(1, f"epoch {epoch} has ended\n".encode())
            while epoch == 2 and not GATE.exists():
                run.tick(0, 1)
                time.sleep(0.02)
            run.save({})
            run.report(loss=1.0 / epoch)

    def print(self, amount: str) -> None:
        match amount:
            case "raw":
                os.write(1, RAW + b"\n")
            case "much":
                for line in range(3000):
                    os.write(1, f"line {line:5} of {'many ' * 8}\n".encode())
            case "flood":
                for _ in range(9):
                    os.write(1, b"x" * (1 << 20))


class LoudWhenLoaded(Loud):
    """Prints a flood while it loads."""

    def prepare(self, options: DataOptions, final: bool) -> None:  # noqa: ARG002 - the contract's signature
        self.print("flood")
        if "TEST_GATE" not in os.environ:
            raise ValueError("there is no gate")


class Greedy(Objective):
    """Allocates 2 GiB in the greedy trial."""

    metric, direction, epochs = "loss", "minimize", 2
    space = {"greedy": CategoricalDistribution(["no", "yes"])}
    first = [{"greedy": "no"}, {"greedy": "yes"}, {"greedy": "no"}]

    def train(self, params: Params, run: Run) -> None:
        for epoch in run.epochs():
            kept = np.ones(2 << 30 if params["greedy"] == "yes" else 1 << 20, dtype=np.uint8)
            run.report(loss=float(kept[0]) / epoch)


class Reader(Counted):
    """Reads MNIST."""

    def prepare(self, options: DataOptions, final: bool) -> None:  # noqa: ARG002 - the contract's signature
        datasets.load("mnist", options.data_dir)
