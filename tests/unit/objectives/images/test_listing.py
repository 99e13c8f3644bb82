"""Folders and tables of images: what is read, and each bad input refused in one line before a trial."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from hpo.errors import DataDamagedError, DataMissingError, HpoError, MissingDependencyError, UsageError
from objectives.base import DataOptions
from objectives.images import tables
from objectives.images.provision import read

THREE = ("a/1.jpg", "a/2.jpg", "a/3.jpg", "b/1.jpg", "b/2.jpg", "b/3.jpg")


def source(folder: Path, *names: str) -> Path:
    """Make empty files: a listing does not open them."""
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def listed(path: Path, **options: object):
    return read(DataOptions(source=str(path), **options))


def refused(path: Path, error: type[HpoError] = DataDamagedError, **options: object) -> str:
    with pytest.raises(error) as caught:
        listed(path, **options)
    message = str(caught.value)
    assert "\n" not in message
    assert message.isprintable()
    assert ": " in message
    return message


def test_class_folders_are_listed_in_order_without_other_files(tmp_path):
    names = ("a/.DS_Store", "a/notes.txt", "a/deeper/4.PNG", "README.md", ".hidden/x.jpg", "a/Thumbs.db")
    found = listed(source(tmp_path / "p", *THREE, *names))
    assert found.classes == ("a", "b")
    assert [p.path for p in found.pictures] == [*THREE[:3], "a/deeper/4.PNG", *THREE[3:]]
    assert sorted(found.ignored) == ["README.md", "a/notes.txt"]
    assert not found.own_splits


def test_numbered_classes_are_sorted_as_numbers(tmp_path):
    names = [f"{label}/{number}.jpg" for label in (10, 2, 1) for number in range(3)]
    assert listed(source(tmp_path / "p", *names)).classes == ("1", "2", "10")


def test_names_in_other_scripts_are_classes_and_files(tmp_path):
    composed, decomposed = "caf\u00e9", "cafe\u0301"
    names = [f"{label}/{file}.jpg" for label in ("猫", decomposed) for file in ("Ж", "2", "3")]
    assert listed(source(tmp_path / "p", *names)).classes == (composed, "猫")


@pytest.mark.parametrize("valid", ["val", "valid", "Validation"])
def test_folders_of_splits_are_own_splits(tmp_path, valid):
    names = [f"{split}/{name}" for split in ("train", valid, "test") for name in THREE]
    found = listed(source(tmp_path / "p", *names))
    assert [p.split for p in found.pictures].count("valid") == 6
    assert found.own_splits == {"train", "valid", "test"}
    assert found.classes == ("a", "b")


def test_class_may_bear_the_name_of_a_split(tmp_path):
    names = [f"{label}/{number}.jpg" for label in ("train", "plane") for number in range(3)]
    found = listed(source(tmp_path / "p", *names))
    assert found.classes == ("plane", "train")
    assert not found.own_splits


def test_linked_class_folder_is_read(tmp_path):
    folder = source(tmp_path / "p", *THREE)
    elsewhere = source(tmp_path / "q", "1.jpg", "2.jpg", "3.jpg")
    (folder / "c").symlink_to(elsewhere)
    assert listed(folder).classes == ("a", "b", "c")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ((), "has no class folders with images"),
        (("1.jpg", "2.jpg"), "has no class folders with images"),
        ((*THREE, "7.jpg"), r"images next to its class folders \(7.jpg\)"),
        (THREE[:3], "the single class a"),
        ((*THREE, "c/1.jpg"), "1 training image of class c"),
        ((*THREE, "c/1.gif"), "class folder .*c has no image"),
        ((*(f"train/{name}" for name in THREE), "test/c/1.jpg"), "class c in test and not in train"),
        ((*(f"train/{name}" for name in THREE), "a/1.jpg"), r"folders of splits \(train\) next to a"),
        ((*(f"train/{n}" for n in THREE), "val/a/1.jpg", "valid/a/1.jpg"), "two folders of one split"),
        (("test/a/1.jpg", "val/a/1.jpg"), "splits .* and no train"),
    ],
)
def test_folder_that_cannot_be_trained_on_is_refused(tmp_path, names, message):
    assert re.search(message, refused(source(tmp_path / "p", *names)))


def test_looping_link_is_refused(tmp_path):
    folder = source(tmp_path / "p", *THREE)
    (folder / "a" / "again").symlink_to(folder)
    assert f"{folder}/a/again is a link to a folder that it lies in: remove the link" in refused(folder)


def test_folder_without_permission_is_refused(tmp_path, monkeypatch):
    folder = source(tmp_path / "p", *THREE)
    scandir = os.scandir

    def denied(path):
        # Root may read everything.
        if Path(path).name == "b":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", denied)
    assert f"folder {folder / 'b'} cannot be read (Permission denied): allow it" in refused(folder)


def test_class_name_that_is_no_text_is_refused(tmp_path):
    folder = source(tmp_path / "p", *THREE)
    (folder / os.fsdecode(b"\xff")).mkdir()
    assert "use printable UTF-8 text" in refused(folder)


def test_absent_source_is_refused(tmp_path):
    assert "give the place of the data with --data" in refused(tmp_path / "none", DataMissingError)
    (tmp_path / "x.zip").touch()
    assert "is no table of images" in refused(tmp_path / "x.zip")


def test_test_fraction_next_to_an_own_test_split_is_refused(tmp_path):
    names = [f"{split}/{name}" for split in ("train", "test") for name in THREE]
    folder = source(tmp_path / "p", *names)
    assert "leave --test-fraction out" in refused(folder, UsageError, test_fraction=0.1)


def table(folder: Path, text: str, name: str = "images.csv") -> Path:
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


ROWS = "".join(f"{label}{number}.jpg,{label}\n" for label in "ab" for number in range(3))


def test_table_names_paths_labels_splits_and_groups(tmp_path):
    text = "﻿path,label,split,group,weight\n" + "".join(
        f"{label}/{split}{number}.jpg,{label},{split},{split}{number},1\n"
        for label in ("7", "11")
        for split in ("train", "val")
        for number in range(2)
    )
    found = listed(table(tmp_path, text))
    assert found.classes == ("7", "11")
    assert found.own_splits == {"train", "valid"}
    assert found.folder == tmp_path
    assert found.pictures[0].group == "train0"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no column path and no column label"),
        ("file,label\n", "has no column path"),
        ("path,label\n", "has no images"),
        ("path,label\n" + ROWS + ",a\n", "row 7 of .* has no path"),
        ("path,label\n" + ROWS + "x.jpg,\n", "row 7 of .* has no label"),
        ("path,label\n" + ROWS + "a0.jpg,b\n", "row 7 of .* has the path a0.jpg of row 1"),
        ("path,label,split\nx.jpg,a,later\n", "row 1 of .* has the split 'later'"),
        ("path,label,split\nx.jpg,a,train\ny.jpg,a,\n", "row 2 of .* has no split, and others have one"),
        (
            "path,label,split,group\na.jpg,a,train,1\nb.jpg,b,train,2\nc.jpg,b,test,1\n",
            "the group 1 in train and in test",
        ),
        ('path,label\n"x.jpg,a\n', "cannot be read"),
    ],
)
def test_table_that_cannot_be_trained_on_is_refused(tmp_path, text, message):
    assert re.search(message, refused(table(tmp_path, text)))


def test_table_that_is_no_text_is_refused(tmp_path):
    (tmp_path / "x.csv").write_bytes(b"path,label\n\xff\xfe,a\n")
    assert "write it again as UTF-8 text" in refused(tmp_path / "x.csv")


def test_parquet_without_its_package_is_refused(tmp_path, monkeypatch):
    import pandas as pd

    def absent(_path):
        raise ImportError

    monkeypatch.setattr(pd, "read_parquet", absent)
    assert "hpo-service[parquet]" in refused(table(tmp_path, "", "x.parquet"), MissingDependencyError)


def test_parquet_is_read_as_csv_is(tmp_path, monkeypatch):
    import pandas as pd

    frame = pd.DataFrame({"path": ["a", "b"], "label": [1, 0], "group": [None, "g"]})
    monkeypatch.setattr(pd, "read_parquet", lambda _path: frame)
    found = tables.read(tmp_path / "x.parquet").pictures
    assert [(p.path, p.label, p.split, p.group) for p in found] == [
        ("a", "1", None, None),
        ("b", "0", None, "g"),
    ]
