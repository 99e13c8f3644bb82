"""Links, anchors, paths and commands in the documentation exist."""

from __future__ import annotations

import re
import shlex
import tomllib
from pathlib import Path

import click
import pytest

from tests.unit.deployment.files import check_command

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
OUR_PATH = re.compile(r"`((?:hpo|objectives|storage|tests|bench|docs|examples)/[\w./-]*)[`:]")


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def prose(page: Path) -> str:
    return re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)


def anchors(page: Path) -> set[str]:
    """Anchors of a page's headings, as a code host makes them."""
    titles = re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_to_files_and_headings(page: Path) -> None:
    dead = []
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        target, _, anchor = link.partition("#")
        if re.match(r"[a-z]+:", link):
            continue
        found = (page.parent / target).resolve() if target else page
        if not found.exists() or (anchor and anchor not in anchors(found)):
            dead.append(link)
    assert dead == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_named_paths_exist(page: Path) -> None:
    named = OUR_PATH.findall(prose(page))
    assert [path for path in named if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_named_functions_exist(page: Path) -> None:
    """A page names the functions and classes of a module as `path/to/module.py: name, name`."""
    missing = []
    for module, names in re.findall(r"`([\w/]+\.py): ([\w, ]+)`", prose(page)):
        code = (ROOT / module).read_text(encoding="utf-8")
        missing += [
            f"{module}: {name}"
            for name in names.split(", ")
            if not re.search(rf"^ *(def|class) {name}\b", code, re.MULTILINE)
        ]
    assert missing == []


@pytest.mark.parametrize("page", ["CONTRIBUTING.md", "docs/architecture.md"])
def test_named_tables_are_in_the_files_named_with_them(page: str) -> None:
    """A row or a numbered step names the tables and limits to extend next to their modules."""
    text = (ROOT / page).read_text(encoding="utf-8")
    missing = []
    for step in re.split(r"\n(?=\d+\. |\||\n)", text):
        files = [ROOT / path for path in OUR_PATH.findall(step) if (ROOT / path).is_file()]
        code = "\n".join(file.read_text(encoding="utf-8") for file in files)
        names = re.findall(r"`(?!HPO_|KERAS_)(_?[A-Z]{2}[A-Z_]+)`", step)
        missing += [name for name in names if not re.search(rf"^{name}\b[^=\n]*=", code, re.MULTILINE)]
    assert missing == []


def test_the_drawn_packages_are_those_of_the_import_contract() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = settings["tool"]["importlinter"]["contracts"]
    layers = [layer for contract in contracts for layer in contract.get("layers", ())]
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    drawn = page.partition("## Packages")[2].partition("## ")[0]
    assert [
        layer for layer in layers if not re.search(rf"^.{{8}}{re.escape(layer)} ", drawn, re.MULTILINE)
    ] == []


def test_a_common_change_takes_at_most_five_files() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    table = page.partition("## To change X, open Y")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| ([^|]+) \| ([^|]+) \|$", table, re.MULTILINE)[2:]
    assert len(rows) >= 10
    named = {change: {*OUR_PATH.findall(files)} for change, files in rows}
    assert [change for change, files in rows if re.search(r"`\w+\.py", files)] == [], (
        "a file without its folder"
    )
    assert [change for change, files in named.items() if not 1 <= len(files) <= 5] == []


def test_every_page_is_reachable_from_the_readme() -> None:
    reached: set[Path] = set()
    waiting = [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        if page in reached:
            continue
        reached.add(page)
        for target in re.findall(r"\]\(([^)\s#]+\.md)", prose(page)):
            waiting.append((page.parent / target).resolve())
    assert [name_of(page) for page in PAGES if page not in reached] == []


def test_pictures_stay_small() -> None:
    """The limit is 1 MB for all pictures together."""
    pictures = [path for kind in ("png", "svg") for path in (ROOT / "docs").rglob(f"*.{kind}")]
    assert sum(path.stat().st_size for path in pictures) < 10**6


def commands(page: Path) -> list[str]:
    """Commands of `hpo` in a page's blocks of shell, without variables, comments and pipes."""
    blocks = re.findall(r"^```(\w*)\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    shown = [block for language, block in blocks if language in ("", "bash", "sh", "console")]
    lines = [line.partition("#")[0].strip() for block in shown for line in block.splitlines()]
    found = [re.match(r"(?:\$ |uv run |[A-Z_]+=\S+ )*hpo (\S.*)", line) for line in lines]
    return [match[1] for match in found if match]


@pytest.mark.parametrize("page", [page for page in PAGES if commands(page)], ids=name_of)
def test_shown_commands_are_valid(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command and its options exist, and its values have the right type; nothing runs."""
    monkeypatch.setenv("HPO_STUDY", "s")
    monkeypatch.chdir(tmp_path)
    for name in ("seven.yaml", "mnist-cnn.hpo.gz"):
        (tmp_path / name).touch()
    for line in commands(page):
        try:
            check_command(shlex.split(line))
        except click.ClickException as exc:
            pytest.fail(f"hpo {line}: {exc.format_message()}")
