"""Writes everything in this folder that version 0.1 made: see README.md.

    python tests/data/v0.1/make.py WORK

WORK is a new folder below a neutral path, whose name appears in the files.
"""

import ast
import hashlib
import importlib
import inspect
import json
import lzma
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import click
import psycopg2
from sqlalchemy import make_url

from hpo.cli.main import cli
from storage import postgres
from storage.embedded import EmbeddedServer

HERE = Path(__file__).resolve().parent
FORMS = {"yaml": "yaml", "json": "json", "toml": "toml", "python": "py.txt"}
MODULES = (
    "hpo",
    "objectives.architectures",
    "objectives.augment",
    "objectives.base",
    "objectives.keras_objective",
    "objectives.loader",
    "objectives.local_run",
    "objectives.validation",
)
"""What the documentation has the objective of a user import, whole."""

OTHERS = {
    "objectives.splits": ["Data"],
    "objectives.training": ["optimizer"],
    "objectives.cifar_cnn": ["CifarCNN"],
    "objectives.cifar_resnet": ["CifarResNet"],
    "objectives.digits_cnn": ["DigitsCNN"],
    "objectives.mnist_cnn": ["MnistCNN"],
    "objectives.mnist_resnet": ["MnistResNet"],
}
"""What a user may subclass, annotate with or give as `--objective module:Class` besides."""


def await_(condition: Callable[[], object]) -> None:
    until = time.monotonic() + 180
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.05)


class Maker:
    """The commands of one user, and the database that they share."""

    def __init__(self, work: Path, server: EmbeddedServer) -> None:
        self.work = work
        self.server = server
        kept = {
            name: value for name, value in os.environ.items() if not name.startswith(("HPO_", "PG", "USER_"))
        }
        self.environment = kept | {
            "HPO_HOME": str(work / "home"),
            "HPO_RESULTS_DIR": str(work / "results"),
            "HPO_CHECKPOINTS": str(work / "checkpoints"),
            "PYTHONPATH": str(HERE),
        }

    def start(self, *words: object, **variables: object) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "hpo.cli", *map(str, words)],
            env=self.environment | {name: str(value) for name, value in variables.items()},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def hpo(self, *words: object, code: int = 0, **variables: object) -> str:
        process = self.start(*words, **variables)
        out, _ = process.communicate()
        print(f"hpo {' '.join(map(str, words))}: {process.returncode}", flush=True)
        assert process.returncode == code, out
        return out

    def rows(self, sql: str) -> list[tuple[object, ...]]:
        url = make_url(self.server.url)
        connection = psycopg2.connect(
            host=url.query["host"], port=postgres.PORT, user="postgres", dbname="postgres"
        )
        try:
            with connection, connection.cursor() as cursor:
                cursor.execute(sql)
                return list(cursor.fetchall()) if cursor.description else []
        finally:
            connection.close()

    def await_epoch(self, study: str, number: int, epoch: int) -> None:
        query = (
            "SELECT 1 FROM hpo.epochs JOIN hpo.trials USING (token) JOIN hpo.studies USING (study_id)"
            f" WHERE name = '{study}' AND number = {number} AND epoch = {epoch}"
        )
        await_(lambda: self.rows(query))


def launch(study: str, objective: str, *words: object) -> tuple[object, ...]:
    return ("launch", "--study", study, "--objective", objective, *words)


def make_studies(maker: Maker) -> None:
    whole = ("--pruner", "none", "--workers", 1)
    steady = "user_objectives:Steady"

    maker.hpo(*launch("moods", "user_objectives:Moody", "--trials", 12, "--workers", 1))
    maker.hpo("retrain", "--study", "moods", "--top", 2, "--seeds", 2)

    maker.hpo(
        *launch(
            "narrowed", steady, "--trials", 5, "--workers", 2, "--param", "x=0..3", "--param", "letter=b"
        ),
        *("--sampler", "random", "--pruner", "asha", "--seed", 7, "--epochs", 6, "--max-failed", 4),
        *("--max-lost", 2, "--checkpoint-quota", "1G", "--limit", 100),
    )

    agent = maker.start(
        *launch("interrupted", steady, "--trials", 4, "--epochs", 12, *whole), USER_EPOCH_SECONDS=0.3
    )
    maker.await_epoch("interrupted", 1, 3)
    agent.send_signal(signal.SIGINT)
    assert agent.wait() == 130

    # A killed agent leaves an open attempt, whose lease has run out, and a checkpoint.
    agent = maker.start(
        *launch("killed", steady, "--trials", 3, "--epochs", 12, *whole),
        USER_EPOCH_SECONDS=0.5,
        HPO_LEASE_SECONDS=10,
    )
    maker.await_epoch("killed", 1, 3)
    agent.kill()
    agent.wait()

    # An agent that is killed before it reads how its trial ended leaves that in a file.
    agent = maker.start(
        *launch("ended", "user_objectives:Gloomy", "--trials", 3, *whole),
        USER_EPOCH_SECONDS=0.5,
        HPO_LEASE_SECONDS=10,
    )
    maker.await_epoch("ended", 1, 1)
    agent.send_signal(signal.SIGSTOP)
    await_(lambda: list((maker.work / "checkpoints").glob("ended@*/*/ended.json")))
    agent.kill()
    agent.wait()

    for told in ("pause", "stop"):
        study = {"pause": "paused", "stop": "stopped"}[told]
        maker.hpo(*launch(study, steady, "--trials", 2, *whole))
        maker.hpo("launch", "--study", study, "--trials", 4, "--no-run")
        maker.hpo(told, "--study", study)

    # A retrain that was interrupted goes on, too.
    maker.hpo(*launch("retraining", steady, "--trials", 1, "--epochs", 10, *whole))
    retrain = maker.start(
        "retrain", "--study", "retraining", "--seeds", 2, "--workers", 1, USER_EPOCH_SECONDS=0.4
    )
    await_(lambda: list((maker.work / "checkpoints").glob("retraining@*/**/epoch-000003.npz")))
    retrain.send_signal(signal.SIGINT)
    assert retrain.wait() == 130

    maker.hpo(
        *launch("digits", "digits-cnn", "--trials", 4, "--epochs", 2, "--limit", 400, "--workers", 2),
        *("--precision", "float32"),
    )
    maker.hpo("retrain", "--study", "digits", "--seeds", 2, "--precision", "float32")

    tiny = ("--trials", 3, "--epochs", 30, "--precision", "float32", *whole)
    agent = maker.start(*launch("tiny", "user_objectives:Tiny", *tiny))
    maker.await_epoch("tiny", 1, 3)
    agent.send_signal(signal.SIGINT)
    assert agent.wait() == 130


def hide_host(maker: Maker) -> None:
    """Neither this host's name nor its boot is anybody's business."""
    maker.rows("UPDATE hpo.attempts SET host = 'host'")
    maker.rows(
        "UPDATE hpo.agents SET host = 'host',"
        " process = regexp_replace(process, '^[^/]+', '00000000-0000-0000-0000-000000000000')"
    )


def dump(maker: Maker) -> None:
    done = postgres.run(
        postgres.programs() / "pg_dump",
        *("--host", maker.server.place.sockets, "--port", str(postgres.PORT), "--username", "postgres"),
        *("--inserts", "--rows-per-insert", "200", "--no-owner", "--no-privileges", "postgres"),
    )
    assert done.returncode == 0, done.stdout
    # psql's own commands, which no other program takes.
    lines = [line for line in done.stdout.splitlines() if not line.startswith(("--", "\\"))]
    text = re.sub(r"\n{3,}", "\n\n", "\n".join(lines)) + "\n"
    (HERE / "database.sql.xz").write_bytes(lzma.compress(text.encode(), preset=9))


def shown(maker: Maker) -> dict[str, object]:
    """What the commands say of each study, as JSON."""
    studies = {}
    listed = json.loads(maker.hpo("ls", "--json"))
    for study in listed:
        name = study["name"]
        values = {
            command: json.loads(maker.hpo(command, "--study", name, "--json"))
            for command in ("status", "trials", "best")
        }
        folder = next((maker.work / "checkpoints").glob(f"{name}@*"), None)
        files = sorted(folder.rglob("*.npz")) if folder else []
        studies[name] = values | {"checkpoints": [str(path.relative_to(folder)) for path in files]}
    return {"ls": listed, "studies": studies}


def describe_options() -> dict[str, object]:
    """Every command with its options and arguments."""

    def of(command: click.Command, context: click.Context) -> dict[str, object]:
        found = {context.command_path: [of_parameter(p) for p in command.get_params(context)]}
        if isinstance(command, click.Group):
            for name in command.list_commands(context):
                below = command.get_command(context, name)
                assert below is not None
                found |= of(below, click.Context(below, info_name=name, parent=context))
        return found

    return of(cli, click.Context(cli, info_name="hpo", **cli.context_settings))


def of_parameter(parameter: click.Parameter) -> dict[str, object]:
    about: dict[str, object] = {
        "kind": parameter.param_type_name,
        "names": [*parameter.opts, *parameter.secondary_opts],
        "takes_value": not getattr(parameter, "is_flag", False),
        "multiple": parameter.multiple,
        "required": parameter.required,
    }
    if parameter.envvar:
        about["variable"] = parameter.envvar
    if getattr(parameter, "hidden", False):
        about["hidden"] = True
    if isinstance(parameter.type, click.Choice):
        about["choices"] = list(parameter.type.choices)
    if parameter.param_type_name == "argument":
        about["nargs"] = parameter.nargs
    return about


def variables() -> list[str]:
    """The variables of the environment that the code reads."""
    found = set()
    for folder in ("hpo", "objectives", "storage"):
        for path in (HERE.parents[2] / folder).rglob("*.py"):
            found |= set(re.findall(r"\b_?HPO_[A-Z_]*[A-Z]\b", path.read_text()))
    return sorted(found)


def api() -> dict[str, object]:
    """Public names of modules: the members of a class, the parameters of a function or of a constructor."""
    found = {}
    for name in (*MODULES, *OTHERS):
        module = importlib.import_module(name)
        tree = ast.parse(Path(module.__file__).read_text())
        own = OTHERS.get(name) or [found for node in tree.body for found in _names(node)]
        found[name] = {own_name: _about(getattr(module, own_name)) for own_name in own}
    return found


def _names(node: ast.stmt) -> list[str]:
    match node:
        case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
            names = [name]
        case ast.Assign(targets=targets):
            names = [n.id for target in targets for n in ast.walk(target) if isinstance(n, ast.Name)]
        case ast.AnnAssign(target=ast.Name(id=name)):
            names = [name]
        case _:
            names = []
    return [name for name in names if not name.startswith("_")]


def _about(value: object) -> dict[str, list[str]]:
    about = {}
    if inspect.isclass(value):
        members = {*dir(value), *getattr(value, "__annotations__", {})}
        about["members"] = sorted(name for name in members - set(dir(Exception)) if not name.startswith("_"))
    if inspect.isclass(value) or inspect.isfunction(value):
        try:
            parameters = inspect.signature(value).parameters
        except ValueError:
            return about
        about["parameters"] = [
            name for name in parameters if name not in ("args", "kwargs") and not name.startswith("_")
        ]
    return about


def write_json(name: str, value: object) -> None:
    (HERE / name).write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def copy_files(maker: Maker) -> None:
    backups = HERE / "backups"
    backups.mkdir()
    for study in json.loads(maker.hpo("ls", "--json")):
        maker.hpo("backup", "--study", study["name"], "-o", backups / f"{study['name']}.hpo.gz")
    exports = HERE / "exports"
    exports.mkdir()
    for study in ("moods", "digits"):
        for form, suffix in FORMS.items():
            text = maker.hpo("export", "--study", study, "--format", form)
            (exports / f"{study}.{suffix}").write_text(text)
    locks = shutil.ignore_patterns("lock")
    shutil.copytree(maker.work / "checkpoints", HERE / "checkpoints", ignore=locks)
    for study in ("moods", "digits"):
        shutil.copytree(maker.work / "results" / study, HERE / "results" / study)
    for model in (HERE / "results").rglob("model.keras"):
        if model.stat().st_size > 100_000:
            model.unlink()


def write_sums() -> None:
    """So that a test sees when somebody changes what version 0.1 wrote."""
    own = ("README.md", "SHA256SUMS")
    files = sorted(path for path in HERE.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    lines = [
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(HERE)}\n"
        for path in files
        if path.name not in own
    ]
    (HERE / "SHA256SUMS").write_text("".join(lines))


def main() -> None:
    work = Path(sys.argv[1])
    work.mkdir()
    for name in ("backups", "exports", "checkpoints", "results"):
        shutil.rmtree(HERE / name, ignore_errors=True)
    write_json("options.json", describe_options())
    write_json("env.json", variables())
    write_json("api.json", api())
    with EmbeddedServer.start(work / "home") as server:
        maker = Maker(work, server)
        make_studies(maker)
        # Until the leases of agents that were killed have run out.
        time.sleep(15)
        hide_host(maker)
        dump(maker)
        write_json("expected.json", shown(maker))
        copy_files(maker)
    write_sums()


if __name__ == "__main__":
    main()
