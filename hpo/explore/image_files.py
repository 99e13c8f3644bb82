"""The files of a folder or table of images: formats, colours, sizes, groups, and those that cannot be read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from objectives.images.decoding import Geometry
from objectives.images.provision import Surveyed

_COLOURS = {
    "1": "black and white",
    "L": "grey",
    "LA": "grey with transparency",
    "P": "palette",
    "PA": "palette with transparency",
    "RGB": "colour",
    "RGBA": "colour with transparency",
    "CMYK": "CMYK",
    "I": "grey, 32 bits",
    "F": "grey, floating point",
}
"""Names of Pillow's colour modes."""


@dataclass(frozen=True, kw_only=True)
class ImageFiles:
    """Facts on the files of a source."""

    source: str
    formats: Mapping[str, int]
    """Number of readable files of each format, the most frequent first."""
    colours: Mapping[str, int]
    """Number of readable files of each colour mode, likewise."""
    sizes: NDArray[np.int64]
    """Width and height of each readable image as it is shown (n, 2)."""
    unreadable: Mapping[str, str]
    """The reason of each file that cannot be read, by path."""
    ignored: Sequence[str]
    """Files next to the images that are not images by their names."""
    groups: Mapping[str, str]
    """The group of each image that has one, by path."""
    geometry: Geometry
    """Shape that models get, and how images are fitted into it."""
    made: Sequence[str]
    """Splits that are made, because the source has none of its own."""

    @property
    def enlarged(self) -> float:
        """Share of the images that are smaller than the shape that models get, in width or height."""
        return float((self.sizes < (self.geometry.width, self.geometry.height)).any(axis=1).mean())

    @property
    def misfit(self) -> float:
        """Mean share of an image's area that is cut off or added to change its aspect ratio."""
        width, height = self.sizes.T
        ratio = width * self.geometry.height / (height * self.geometry.width)
        return float(np.mean(1 - np.minimum(ratio, 1 / ratio)))


def image_files(survey: Surveyed) -> ImageFiles:
    """Return the facts on the files of a surveyed source."""
    readable = [one for one in survey.examined if not one.problem]
    pairs = list(zip(survey.pictures, survey.examined, strict=True))
    return ImageFiles(
        source=survey.provided.about.source,
        formats=dict(Counter(one.format for one in readable).most_common()),
        colours=dict(Counter(colour(one.mode) for one in readable).most_common()),
        sizes=np.array([(one.width, one.height) for one in readable], np.int64),
        unreadable={picture.path: one.problem for picture, one in pairs if one.problem},
        ignored=survey.provided.ignored,
        groups={
            picture.path: picture.group
            for picture, one in pairs
            if picture.group is not None and not one.problem
        },
        geometry=survey.provided.about.geometry,
        made=survey.provided.about.made,
    )


def colour(mode: str) -> str:
    """Return the name of one of Pillow's colour modes."""
    return "grey, 16 bits" if mode.startswith("I;16") else _COLOURS.get(mode, mode)
