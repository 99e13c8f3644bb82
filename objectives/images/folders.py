"""Class folders: `<class>/*.jpg`, or `train/<class>/*.jpg` next to `val` and `test`."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from hpo.errors import DataDamagedError
from objectives.images.labels import class_name
from objectives.images.listing import SPLIT_NAMES, Listing, Picture, named

EXTENSIONS = frozenset((".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".dib", ".tif", ".tiff"))
"""Ends of the names of image files, in lower case."""

_NO_DATA = ("Thumbs.db", "desktop.ini", "__MACOSX")
"""Files and folders that systems leave among images; names that begin with a dot are passed over too."""


class _Child(NamedTuple):
    """An entry of a folder."""

    name: str
    is_folder: bool


def read(folder: Path) -> Listing:
    """List the images of class folders, at any depth inside each.

    Raises:
        DataDamagedError: a folder cannot be read, has no image, or is none of a class.
    """
    pictures: list[Picture] = []
    ignored: list[str] = []
    for split, parent in _split_folders(folder):
        children = _children(parent)
        ignored += [os.path.relpath(parent / name, folder) for name in _loose(parent, split, children)]
        for child in children:
            if child.is_folder:
                pictures += _class_pictures(folder, parent / child.name, split, ignored)
    if not pictures:
        raise DataDamagedError(
            f"{folder} has no class folders with images: make one for each class, such as {folder.name}/cats/1.jpg"
            " (JPEG, PNG, WebP, BMP or TIFF)"
        )
    _check_level(folder, pictures)
    return Listing(source=folder, folder=folder, pictures=pictures, ignored=ignored)


def _check_level(folder: Path, pictures: Sequence[Picture]) -> None:
    """Raise DataDamagedError if the only class has folders that are the classes rather."""
    parts = [Path(picture.path).parts for picture in pictures]
    inner = sorted({path[1] for path in parts if len(path) > 2})
    if len({picture.label for picture in pictures}) == 1 and pictures[0].split is None and len(inner) > 1:
        only = parts[0][0]
        raise DataDamagedError(
            f"{folder} has the single class {only}, and a classifier needs images of at least two: give {folder / only}"
            f" if {named(inner)} are the classes, or add another class"
        )


def _loose(parent: Path, split: str | None, children: Sequence[_Child]) -> list[str]:
    """Return the names of the files next to class folders.

    Raises:
        DataDamagedError: there are images among them, or a split has no class folders.
    """
    loose = [child.name for child in children if not child.is_folder]
    images = [name for name in loose if is_image(name)]
    if images and len(loose) < len(children):
        raise DataDamagedError(
            f"{parent} has images next to its class folders ({named(images)}): move each into the folder of its class"
        )
    if split and len(loose) == len(children):
        raise DataDamagedError(
            f"{parent} is the folder of a split and has {'images' if images else 'nothing'} in place of class folders:"
            f" make one for each class, such as {parent.name}/cats/1.jpg, or move it elsewhere"
        )
    return loose


def is_image(name: str) -> bool:
    """Return whether a file is an image by its name."""
    return os.path.splitext(name)[1].lower() in EXTENSIONS  # noqa: PTH122 - a name, many times


def images_in(folder: Path) -> Iterator[str]:
    """Yield the paths of all images in a folder and its subfolders, in order.

    Raises:
        DataDamagedError: a folder cannot be read, or a link leads back to a folder that it lies in.
    """
    return (path for path in _files(folder, (os.path.realpath(folder),)) if is_image(path))


def _split_folders(folder: Path) -> list[tuple[str | None, Path]]:
    """Return the split and the folder of each set of class folders: one without a split, or several with one."""
    children = [child.name for child in _children(folder) if child.is_folder]
    found = {name: SPLIT_NAMES[name.lower()] for name in children if name.lower() in SPLIT_NAMES}
    if len(found) < len(children) or len(found) < 2:
        # A class may be named as a split is, and then has images where a split has class folders.
        found = {name: split for name, split in found.items() if not _is_class(folder / name)}
    if not found or (len(found) < len(children) and "train" not in found.values()):
        return [(None, folder)]
    others = [name for name in children if name not in found]
    if others:
        raise DataDamagedError(
            f"{folder} has folders of splits ({', '.join(found)}) next to {named(others)}: move class folders into"
            " train, val or test, and other folders elsewhere"
        )
    if len(set(found.values())) < len(found):
        raise DataDamagedError(f"{folder} has two folders of one split ({', '.join(found)}): join them")
    return [(split, folder / name) for name, split in found.items()]


def _is_class(folder: Path) -> bool:
    """Return whether a folder has images and no folders."""
    children = _children(folder)
    return any(is_image(child.name) for child in children) and not any(child.is_folder for child in children)


def _class_pictures(root: Path, folder: Path, split: str | None, ignored: list[str]) -> Iterator[Picture]:
    label, empty = class_name(folder.name, str(folder.parent)), True
    for path in _files(folder, (os.path.realpath(root), os.path.realpath(folder))):
        relative = os.path.relpath(path, root)
        if is_image(path):
            empty = False
            yield Picture(path=relative, label=label, split=split)
        else:
            ignored.append(relative)
    if empty:
        raise DataDamagedError(
            f"class folder {folder} has no image: add some (JPEG, PNG, WebP, BMP or TIFF), or remove the folder"
        )


def _files(folder: Path, above: tuple[str, ...]) -> Iterator[str]:
    """Yield the paths of the files in a folder and its subfolders, in order; `above` are its real parents."""
    for child in _children(folder):
        path = folder / child.name
        if not child.is_folder:
            yield str(path)
            continue
        real = os.path.realpath(path)
        if real in above:
            raise DataDamagedError(f"{path} is a link to a folder that it lies in: remove the link")
        yield from _files(path, (*above, real))


def _children(folder: Path) -> list[_Child]:
    """Return the entries of a folder in order, without hidden ones.

    Raises:
        DataDamagedError: it cannot be read, or a link in it cannot be followed.
    """
    try:
        with os.scandir(folder) as entries:
            found = [
                entry for entry in entries if not entry.name.startswith(".") and entry.name not in _NO_DATA
            ]
    except OSError as exc:
        raise DataDamagedError(
            f"folder {folder} cannot be read ({exc.strerror or exc}): allow it, or remove the folder"
        ) from exc
    found.sort(key=lambda entry: os.fsencode(entry.name))
    return [_Child(entry.name, _is_folder(entry)) for entry in found]


def _is_folder(entry: os.DirEntry[str]) -> bool:
    # Images are reported with the others that cannot be read.
    try:
        if not entry.is_symlink() or is_image(entry.name):
            return entry.is_dir()
        return stat.S_ISDIR(entry.stat().st_mode)
    except OSError as exc:
        if is_image(entry.name):
            return False
        # It may be the folder of a class.
        reason = exc.strerror or exc
        raise DataDamagedError(
            f"{entry.path} is a link that cannot be followed ({reason}): restore its target, or remove the link"
        ) from exc
