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


@pytest.mark.parametrize(
    "name", ["می\u200cخواهم", "猫\u3000犬", "नमस्ते", "a\u00a0b", "\U0001f468\u200d\U0001f469"]
)
def test_name_with_joiners_or_wide_spaces_is_a_class(tmp_path, name):
    folder = source(tmp_path / "p", *THREE, *(f"{name}/{number}.jpg" for number in range(3)))
    assert set(listed(folder).classes) == {"a", "b", name}


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
        (
            [f"photos/{name}" for name in THREE],
            "the single class photos, .*: give .*/photos if a, b are the classes",
        ),
        ((*THREE, "c/1.jpg"), "1 training image of class c"),
        ((*THREE, "c/1.gif"), "class folder .*c has no image"),
        ((*(f"train/{name}" for name in THREE), "test/c/1.jpg"), "class c in test and not in train"),
        ((*(f"train/{name}" for name in THREE), "a/1.jpg"), r"folders of splits \(train\) next to a"),
        ((*(f"train/{n}" for n in THREE), "val/a/1.jpg", "valid/a/1.jpg"), "two folders of one split"),
        (("test/a/1.jpg", "val/a/1.jpg"), "splits .* and no train"),
        (
            ("train/1.jpg", "test/2.jpg"),
            "test is the folder of a split and has images in place of class folders",
        ),
        (
            (*(f"train/{n}" for n in THREE), "val/notes.txt"),
            "val is the folder of a split and has nothing in place",
        ),
        (
            (*(f"{split}/{n}" for split in ("train", "test") for n in THREE), "train/preview.jpg"),
            r"train has images next to its class folders \(preview.jpg\)",
        ),
    ],
)
def test_folder_that_cannot_be_trained_on_is_refused(tmp_path, names, message):
    assert re.search(message, refused(source(tmp_path / "p", *names)))


def test_looping_link_is_refused(tmp_path):
    folder = source(tmp_path / "p", *THREE)
    (folder / "a" / "again").symlink_to(folder)
    assert f"{folder}/a/again is a link to a folder that it lies in: remove the link" in refused(folder)


def test_link_that_cannot_be_followed_is_refused_or_listed(tmp_path):
    folder = source(tmp_path / "p", *THREE)
    (folder / "a" / "self.jpg").symlink_to("self.jpg")
    assert "a/self.jpg" in [picture.path for picture in listed(folder).pictures]
    (folder / "c").symlink_to("c")
    assert f"{folder / 'c'} is a link that cannot be followed (Too many levels" in refused(folder)
    (folder / "c").unlink()
    # Such as a class on a disk that is not mounted.
    (folder / "c").symlink_to("gone")
    assert f"{folder / 'c'} is a link that cannot be followed (No such file" in refused(folder)
    (folder / "gone").mkdir()
    assert "c has no image" in refused(folder)


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


@pytest.mark.parametrize("name", [os.fsdecode(b"\xff"), "a\nb", "a\x1b[2J", "\u200d", "a\u2028b", "b" * 201])
def test_class_name_that_cannot_be_recorded_is_refused(tmp_path, name):
    folder = source(tmp_path / "p", *THREE)
    (folder / name).mkdir()
    assert "use printable UTF-8 text of at most 200 characters" in refused(folder)


def test_absent_source_is_refused(tmp_path):
    assert "give the place of the data with --data" in refused(tmp_path / "none", DataMissingError)
    (tmp_path / "x.zip").touch()
    assert "is not a table of images" in refused(tmp_path / "x.zip")


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
        ("file,label\n", "has no column path but 'file', 'label': its first row must name path and label"),
        ("Path;Label\n", "no column path and no column label but 'Path;Label': .* with commas between them"),
        ("path,label\n", "has no images"),
        ("path,label\n" + ROWS + ",a\n", "row 7 of .* has no path"),
        ("path,label\n" + ROWS + "x.jpg,\n", "row 7 of .* has no label"),
        ("path,label\n" + ROWS + "a0.jpg,b\n", "row 7 of .* has the path a0.jpg of row 1"),
        ("path,label\n" + ROWS + "./x/../a0.jpg,b\n", "row 7 of .* has the path ./x/../a0.jpg of row 1"),
        (
            "path,label\n" + ROWS + "x.jpg,a,big\n",
            "row 7 of .* has more cells than the first row has columns",
        ),
        ("path,label,label\n", "two columns label"),
        ("path,label,split\nx.jpg,a,later\n", "row 1 of .* has the split 'later'"),
        ("path,label,split\nx.jpg,a,train\ny.jpg,a,\n", "row 2 of .* has no split, and others have one"),
        (
            "path,label,split,group\na.jpg,a,train,1\nb.jpg,b,train,2\nc.jpg,b,test,1\n",
            "the group 1 in train and in test",
        ),
        (
            "path,label,split,group\na.jpg,a,train,1\nb.jpg,b,train,2\nc.jpg,b,test, 1\n",
            "the group 1 in train and in test",
        ),
        ('path,label\n"x.jpg,a\n', "cannot be read"),
    ],
)
def test_table_that_cannot_be_trained_on_is_refused(tmp_path, text, message):
    assert re.search(message, refused(table(tmp_path, text)))


def test_empty_cells_after_the_last_column_are_ignored(tmp_path):
    assert len(listed(table(tmp_path, "path,label\n" + ROWS.replace("\n", ",,\n"))).pictures) == 6


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


def test_bytes_and_lists_of_parquet_are_texts(tmp_path, monkeypatch):
    import pandas as pd

    frame = pd.DataFrame({"path": [b"a", b"b"], "label": [["cat"], b"d\xc3\xb6g"]})
    monkeypatch.setattr(pd, "read_parquet", lambda _path: frame)
    found = tables.read(tmp_path / "x.parquet").pictures
    assert [(p.path, p.label) for p in found] == [("a", "cat"), ("b", "dög")]
    frame.at[1, "label"] = ["cat", "dög"]
    assert [p.label for p in tables.read(tmp_path / "x.parquet", "labels").pictures] == ["cat", "cat|dög"]
    with pytest.raises(
        DataDamagedError, match=r"row 2 of .* has 2 labels: set --task labels, or leave one of them"
    ):
        tables.read(tmp_path / "x.parquet")


@pytest.mark.parametrize(
    ("task", "lines", "classes", "targets"),
    [
        ("regression", ("path,label", "1.jpg,0.5", "2.jpg,-3", "3.jpg,1e3"), ("target",), [[0.5], [-3], [1000]]),
        (
            "regression",
            ("path,label_x,label_y", "1.jpg,0.5,1", "2.jpg,2,3", "3.jpg,4,5"),
            ("x", "y"),
            [[0.5, 1], [2, 3], [4, 5]],
        ),
        ("labels", ("path,label", "1.jpg,dog", "2.jpg, cat | dog", "3.jpg,"), ("cat", "dog"), [[0, 1], [1, 1], [0, 0]]),
        (
            "labels",
            ("path,label_cat,label_dog", "1.jpg,0,1", "2.jpg,1,1.0", "3.jpg,False,0"),
            ("cat", "dog"),
            [[0, 1], [1, 1], [0, 0]],
        ),
        ("binary", ("path,label", *(f"{n}.jpg,{('no', 'yes')[n % 2]}" for n in range(6))), ("no", "yes"), [0, 1] * 3),
    ],
)  # fmt: skip
def test_table_of_each_task_is_listed(tmp_path, task, lines, classes, targets):
    found = listed(table(tmp_path, "\n".join(lines)), task=task)
    assert (found.classes, found.targets.tolist()) == (classes, targets)


@pytest.mark.parametrize(
    ("task", "lines", "message"),
    [
        (None, ("path,label", "1.jpg,0.5", "2.jpg,1"), "numbers such as 0.5 as labels: .* set --task regression"),
        (None, ("path,label_x", "1.jpg,0.5"), "columns label_x and no column label: set --task regression, or --task"),
        ("regression", ("path,label", "1.jpg,0.5", "2.jpg,"), "row 2 of .* has the label '', which is not a finite"),
        ("regression", ("path,label", "1.jpg,a"), "row 1 of .* has the label 'a', which is not a finite"),
        ("regression", ("path,label", "1.jpg,a"), "or set another task, such as --task classes"),
        ("regression", ("path,label", "1.jpg,nan"), "has the label 'nan', which is not a finite"),
        ("regression", ("path,label", "1.jpg,1e99"), "has the label '1e99', which is not a finite"),
        ("regression", ("path,label", "1.jpg,1", "2.jpg,2"), "has 2 training images: add some, at least 3"),
        ("regression", ("path,value", "1.jpg,1"), "has no column label"),
        ("regression", ("path,label,label_y", "1.jpg,1,2"), "has the column label next to label_y: remove or rename"),
        ("labels", ("path,label_", "1.jpg,1"), "column 'label_' of table .* has the class name ''"),
        (
            "regression",
            ("path,label", *(f"{n}.jpg,170000000{n}" for n in range(9))),
            "has the label from 1700000000.0 to 1700000008.0, whose differences are lost in float32: subtract",
        ),
        (
            "regression",
            ("path,label_x,label_t", *(f"{n}.jpg,{n},170000000{n}" for n in range(9))),
            "has the label_t from 1700000000.0 to 1700000008.0, whose",
        ),
        ("regression", ("path,label",), "has no images: add some"),
        ("labels", ("path,label_a", "1.jpg,2"), "row 1 of .* has the label_a '2': use 0 or 1"),
        ("labels", ("path,label", "1.jpg,", "2.jpg,"), "no label for any image: fill the column label"),
        (
            "labels",
            ("path,label,split", "1.jpg,a,train", "2.jpg,a,train", "3.jpg,a|b,test"),
            "has the label b in test and not in train",
        ),
        ("binary", ("path,label", "1.jpg,a", "2.jpg,b", "3.jpg,c"), r"3 classes \(a, b, c\), and task binary needs"),
    ],
)  # fmt: skip
def test_table_that_does_not_fit_its_task_is_refused(tmp_path, task, lines, message):
    assert re.search(message, refused(table(tmp_path, "\n".join(lines)), task=task))


@pytest.mark.parametrize("task", ["labels", "regression"])
def test_class_folders_of_another_task_are_refused(tmp_path, task):
    message = refused(source(tmp_path / "p", *THREE), UsageError, task=task)
    assert f"task {task} needs a table of images" in message
