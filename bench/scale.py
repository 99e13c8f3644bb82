"""Load of one PostgreSQL per trial and per agent, and its growth with the number of concurrent trials.

    python -m bench.scale [--quick] [--parts calls,agents,proxy]

- *calls*: an agent's database calls for a trial of three epochs while other trials are running: statements, the
  agent's time, and the processor time of the server's processes.
- *agents*: transactions and connections of a whole `hpo launch` with trials that only wait: while it trains, and while
  it is paused, when only its polling of the study and its leases remain.
- *proxy*: processor time of a pruning decision, directly and through Optuna's gRPC storage proxy.
"""

from __future__ import annotations

import socket
import statistics
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

import optuna
import psutil
from optuna.storages import GrpcStorageProxy
from sqlalchemy import Connection, create_engine, text
from sqlalchemy.pool import NullPool

from bench import idle
from bench.options import parser
from bench.overhead import EPOCHS, Timer, cycle, new_study
from bench.report import Report, Row
from bench.sandbox import Sandbox
from hpo.agent.store.trial_store import TrialStore
from hpo.study.definition.launched_study import LaunchedStudy
from objectives.device import Device
from objectives.spaces.space import stored_space
from storage.agents import join, new_agent_id
from storage.connection.retry import Retry
from storage.leases import LeaseTimes
from storage.optuna.trials import RESERVATION_ATTRIBUTE

_RUNNING = """
INSERT INTO trials (number, study_id, state, datetime_start)
SELECT (SELECT count(*) FROM trials WHERE study_id = :s) + n, :s, 'RUNNING', now() AT TIME ZONE 'UTC'
FROM generate_series(0, :n - 1) AS n;

INSERT INTO trial_params (trial_id, param_name, param_value, distribution_json)
SELECT t.trial_id, p.param_name, p.param_value, p.distribution_json FROM trials t, trial_params p
WHERE t.study_id = :s AND t.state = 'RUNNING' AND p.trial_id = (SELECT min(trial_id) FROM trials WHERE study_id = :s);

INSERT INTO trial_intermediate_values (trial_id, step, intermediate_value, intermediate_value_type)
SELECT trial_id, step, 1.0 / step, 'FINITE' FROM trials, generate_series(1, 10) AS step
WHERE study_id = :s AND state = 'RUNNING';

INSERT INTO hpo.trials (study_id, ordinal, trial_id, number, params, seed, epochs)
SELECT :s, number, trial_id, number, '{}', number, 10 FROM trials WHERE study_id = :s AND state = 'RUNNING';

INSERT INTO trial_user_attributes (trial_id, key, value_json)
SELECT trial_id, :attribute, reservation_id::text FROM hpo.trials WHERE study_id = :s AND outcome IS NULL;

INSERT INTO hpo.attempts (reservation_id, agent_id, slot, device, host, epochs, lease_until)
SELECT reservation_id, :agent, 0, 'cpu', 'bench', 10, now() + interval '1 day' FROM hpo.trials
WHERE study_id = :s AND outcome IS NULL
"""


@dataclass(frozen=True)
class Sizes:
    """Sizes of the measurements."""

    finished: int = 1000
    running: Sequence[int] = (0, 10, 100, 1000)
    cycles: int = 20
    slots: Sequence[int] = (1, 8)
    epoch_seconds: float = 2.0
    seconds: float = 20.0


QUICK = Sizes(finished=20, running=(0, 5), cycles=2, slots=(1,), epoch_seconds=0.2, seconds=2.0)


def run_beside(connection: Connection, study: LaunchedStudy, trials: int) -> None:
    """Insert running trials of another agent into a study, ten epochs each."""
    agent = new_agent_id(connection)
    join(connection, agent, study.study_id, "bench", 0, "boot/pid:0:0", trials, {})
    values = {"s": study.study_id, "n": trials, "agent": agent, "attribute": RESERVATION_ATTRIBUTE}
    for statement in _RUNNING.split(";\n"):
        names = {name: value for name, value in values.items() if f":{name}" in statement}
        connection.execute(text(statement), names)
    connection.execute(text("ANALYZE"))


def server_cpu(sandbox: Sandbox) -> float:
    """Return the processor seconds of all processes of the server, including those that have ended."""
    (postmaster,) = {
        process
        for process in psutil.process_iter(["name", "ppid"])
        if process.info["name"] == "postgres"
        and any(str(sandbox.home) in argument for argument in _arguments(process))
    }
    times = postmaster.cpu_times()
    total = times.user + times.system + times.children_user + times.children_system
    for child in postmaster.children():
        with suppress(psutil.NoSuchProcess):
            own = child.cpu_times()
            total += own.user + own.system
    return total


def _arguments(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline() if process.ppid() and "-D" in process.cmdline() else []
    except psutil.Error:
        return []


def calls(sizes: Sizes) -> list[Row]:
    rows: list[Row] = []
    with Sandbox() as sandbox:
        for running in sizes.running:
            with sandbox.database() as database:
                study = new_study(database, f"beside-{running}", sizes.finished)
                if running:
                    database.transaction(partial(run_beside, study=study, trials=running))
                store = TrialStore(
                    database, study.study_id, study.name, study.spec, [Device()], Retry(), LeaseTimes()
                )
                cycle(store, Timer())
                timer, server = Timer(), server_cpu(sandbox)
                for _ in range(sizes.cycles):
                    cycle(store, timer)
                server = server_cpu(sandbox) - server
                store.leave()
            times = {name: len(each) / sizes.cycles for name, each in timer.milliseconds.items()}

            def total(each: dict[str, list[float]], times: dict[str, float] = times) -> float:
                return sum(statistics.median(each[name]) * number for name, number in times.items())

            rows.append(
                {
                    "other running trials": running,
                    "statements per trial": total(timer.statements),  # type: ignore[arg-type]
                    "agent, ms per trial": total(timer.milliseconds),
                    "agent, CPU ms per trial": total(timer.cpu),
                    "server, CPU ms per trial": 1000 * server / sizes.cycles,
                    "sample, ms": statistics.median(timer.milliseconds["sample"]),
                    "should_prune, ms": statistics.median(timer.milliseconds["should_prune"]),
                    "refresh, ms": statistics.median(timer.milliseconds["refresh"]),
                    "claim, ms": statistics.median(timer.milliseconds["claim"]),
                    "n": sizes.cycles,
                }
            )
            print(rows[-1], flush=True)
    return rows


_TRANSACTIONS = "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = current_database()"
_CONNECTIONS = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'hpo'"
_EPOCHS = "SELECT count(*) FROM hpo.epochs"


class Watch:
    """Samples the load of a running agent on its server, through a connection that stays open."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox
        engine = create_engine(sandbox.url, isolation_level="AUTOCOMMIT", poolclass=NullPool)
        self._connection = engine.connect()
        self._own = 0

    def value(self, sql: str) -> int:
        self._own += 1
        return int(self._connection.execute(text(sql)).scalar_one())

    def during(self, seconds: float) -> Row:
        """Return rates over a number of seconds, without the transactions of this object."""
        connections = []
        began_at, own, cpu = time.monotonic(), self._own, server_cpu(self._sandbox)
        transactions, epochs = self.value(_TRANSACTIONS), self.value(_EPOCHS)
        while (passed := time.monotonic() - began_at) < seconds:
            connections.append(self.value(_CONNECTIONS))
            time.sleep(0.25)
        epochs = self.value(_EPOCHS) - epochs
        transactions = self.value(_TRANSACTIONS) - transactions - (self._own - own - 1)
        return {
            "transactions per second": transactions / passed,
            "epochs per second": epochs / passed,
            "server, CPU ms per second": 1000 * (server_cpu(self._sandbox) - cpu) / passed,
            "connections, median": statistics.median(connections),
            "connections, maximum": max(connections),
            "seconds": passed,
        }

    def close(self) -> None:
        self._connection.close()


def agents(sizes: Sizes) -> list[Row]:
    rows: list[Row] = []
    for slots in sizes.slots:
        with Sandbox() as sandbox:
            sandbox.database().close()
            arguments = [
                "-m", "hpo.cli", "launch", "--study", "s", "--objective", f"{idle.__file__}:Waiting",
                "--workers", slots, "--trials", 100_000, "--epochs", 5, "--pruner", "median",
            ]  # fmt: skip
            environment = sandbox.environment(
                HPO_STORAGE=sandbox.url, BENCH_SECONDS=5 * sizes.epoch_seconds, BENCH_FOLDER=sandbox.folder
            )
            sandbox.start(arguments, environment)
            watch = Watch(sandbox)
            try:
                while watch.value(_EPOCHS) < 2 * slots:
                    time.sleep(0.2)
                for state in ("training", "paused"):
                    if state == "paused":
                        sandbox.run("-m", "hpo.cli", "pause", "--study", "s", HPO_STORAGE=sandbox.url)
                        # Until every slot is paused.
                        time.sleep(2 * sizes.epoch_seconds)
                    rows.append({"slots": slots, "agent": state, **watch.during(sizes.seconds)})
                    print(rows[-1], flush=True)
            finally:
                watch.close()
    return rows


_PROXY = """
import sys
from optuna.storages import RDBStorage, run_grpc_proxy_server
run_grpc_proxy_server(RDBStorage(sys.argv[1], skip_table_creation=True), host="127.0.0.1", port=int(sys.argv[2]))
"""


def proxy(sizes: Sizes) -> list[Row]:
    rows: list[Row] = []
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with Sandbox() as sandbox, sandbox.database() as database:
        for running in sizes.running[1:]:
            study = new_study(database, f"proxy-{running}", sizes.finished)
            database.transaction(partial(run_beside, study=study, trials=running))
            with socket.create_server(("127.0.0.1", 0)) as free:
                port = free.getsockname()[1]
            process = psutil.Process(
                sandbox.start(["-c", _PROXY, sandbox.url, port], sandbox.environment()).pid
            )
            through = GrpcStorageProxy(host="127.0.0.1", port=port)
            through.wait_server_ready(timeout=60)
            for path, storage in (("directly", database.optuna), ("by gRPC", through)):
                trial = optuna.load_study(
                    study_name=study.name, storage=storage, pruner=optuna.pruners.MedianPruner()
                ).ask(dict(stored_space(idle.Nothing.space)))
                rows.append(
                    {"running trials": running, "access": path, **_judge(trial, process, sandbox, sizes)}
                )
                print(rows[-1], flush=True)
            through.close()
            sandbox.end_processes()
    return rows


def _judge(trial: optuna.Trial, proxy: psutil.Process, sandbox: Sandbox, sizes: Sizes) -> Row:
    """Return the cost of one `should_prune` for each process, after a warm-up."""
    trial.report(1.0, 1)
    trial.should_prune()
    wall = []
    own, server, others = time.process_time(), server_cpu(sandbox), sum(proxy.cpu_times()[:2])
    for step in range(sizes.cycles):
        trial.report(1.0, step + 2)
        began_at = time.perf_counter()
        trial.should_prune()
        wall.append(1000 * (time.perf_counter() - began_at))
    each = 1000 / sizes.cycles
    return {
        "ms": statistics.median(wall),
        "agent, CPU ms": each * (time.process_time() - own),
        "proxy, CPU ms": each * (sum(proxy.cpu_times()[:2]) - others),
        "PostgreSQL, CPU ms": each * (server_cpu(sandbox) - server),
        "n": sizes.cycles,
    }


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--parts", default="calls,agents,proxy")
    options = arguments.parse_args()
    sizes = QUICK if options.quick else Sizes()
    report = Report("scale", "Load of one PostgreSQL", quick=options.quick)
    parts = options.parts.split(",")
    if "calls" in parts:
        report.table(f"A trial of {EPOCHS} epochs after {sizes.finished:,} finished ones", calls(sizes))
    if "agents" in parts:
        report.table(f"An agent with epochs of {sizes.epoch_seconds:g} s", agents(sizes))
    if "proxy" in parts:
        report.table(
            f"Report and pruning decision of an epoch, {sizes.finished:,} finished trials", proxy(sizes)
        )
    report.write()


if __name__ == "__main__":
    main()
