"""Galleries of a data set: examples, mean images, normalization, augmentation and duplicates."""

from __future__ import annotations

import base64
import dataclasses
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpo import formatting
from hpo.document.document import Gallery, Picture
from hpo.explore.dataset import EXAMPLE, Dataset
from hpo.explore.duplicates import Place
from hpo.explore.label_errors import ClassMeans
from objectives.augment import Augmentation

SAMPLES = 8
"""Number of sample images of each class."""
MOST_TARGETS = 4
"""Largest number of numeric targets with examples."""
THUMBNAIL = 96
"""Longest side of a picture in pixels."""
MOST_CLASSES = 40
"""Largest number of classes with examples."""
_SEED = 0
_DEVIATIONS = 2.5
"""Standard deviations from the mean at which a normalized pixel is black or white."""


def picture(image: NDArray[Any], caption: str, pixel_range: tuple[float, float] = (0, 255)) -> Picture:
    """Return an image (height, width, channels) as a small picture; unless there are three channels, only the first.

    `pixel_range` are the values of black and white.
    """
    from PIL import Image

    pixels = np.ascontiguousarray(image if image.shape[-1] == 3 else image[..., 0])
    if pixels.dtype != np.uint8:
        low, high = pixel_range
        pixels = np.clip((pixels - low) * (255 / (high - low)), 0, 255).astype(np.uint8)
    shown = Image.fromarray(pixels)
    shown.thumbnail((THUMBNAIL, THUMBNAIL))
    file = io.BytesIO()
    shown.save(file, format="png")
    return Picture(base64.b64encode(file.getvalue()).decode(), formatting.printable(caption))


def at(dataset: Dataset, split: str, position: int, caption: str) -> Picture:
    """Return an image of a data set as a picture."""
    return picture(dataset.splits[split][0][position], caption, dataset.pixel_range)


def examples(dataset: Dataset) -> list[Gallery]:
    """Return some training images of each class or label, or over the range of a number; the same at each call."""
    if dataset.task == "regression":
        return [_quantiles(dataset, target) for target in range(min(MOST_TARGETS, len(dataset.data.classes)))]
    y, rng, found = dataset.data.y_train, np.random.default_rng(_SEED), []
    several = dataset.task == "labels"
    for label, name in enumerate(dataset.data.classes[:MOST_CLASSES]):
        members = np.flatnonzero(y[:, label] if several else y == label)
        chosen = np.sort(rng.choice(members, min(SAMPLES, len(members)), replace=False))
        if len(chosen):
            caption = f"{formatting.printable(name)}: {len(chosen)} of {len(members):,} training images"
            pictures = [at(dataset, "training", index, dataset.where("training", index)) for index in chosen]
            found.append(Gallery(f"class-{label}", f"{caption}.", pictures))
    return found


def _quantiles(dataset: Dataset, target: int) -> Gallery:
    """Return training images from the lowest to the highest value of a target."""
    values = dataset.data.y_train[:, target]
    places = np.unique(np.linspace(0, len(values) - 1, 2 * SAMPLES).round().astype(int))
    chosen = np.argsort(values, kind="stable")[places]
    name = formatting.printable(dataset.data.classes[target])
    pictures = [
        at(
            dataset,
            "training",
            index,
            f"{formatting.quantity(values[index])}, {dataset.where('training', index)}",
        )
        for index in chosen
    ]
    return Gallery(f"target-{target}", f"Training images from the lowest {name} to the highest.", pictures)


def mean_images(dataset: Dataset, means: ClassMeans) -> Gallery:
    """Return the mean image of each class."""
    pictures = [
        picture(image, name, dataset.pixel_range)
        for image, name in zip(means.means, dataset.data.classes[:MOST_CLASSES], strict=False)
    ]
    caption = (
        "Mean training image of each class. Classification by the nearest mean image has an accuracy of"
        f" {100 * means.accuracy:.1f} % on the training images, a baseline for any model."
    )
    return Gallery("means", caption, pictures)


def normalization(dataset: Dataset) -> Gallery:
    """Return a few training images before and after normalization."""
    data, pictures = dataset.data, []
    for index in _examples(dataset):
        image = data.x_train[index]
        normalized = (image / dataset.pixel_scale - np.array(data.mean)) / np.array(data.std)
        shown = np.clip(127.5 * (1 + normalized / _DEVIATIONS), 0, 255).astype(np.uint8)
        name = dataset.label(data.y_train[index])
        pictures += [at(dataset, "training", index, f"{name}, before"), picture(shown, f"{name}, after")]
    caption = (
        "Normalization subtracts the mean of each channel and divides by its standard deviation. Here middle grey is"
        f" the mean, and black and white are {_DEVIATIONS} standard deviations from it."
    )
    return Gallery("normalization", caption, pictures)


def augmentations(dataset: Dataset) -> list[Gallery]:
    """Return each change alone and all together, as in training, next to the original image."""
    if dataset.data.x_train.dtype != np.uint8:
        return []
    used = dataset.augmentations or {"": EXAMPLE}
    by_change: dict[Augmentation, dict[str, None]] = {}
    for name, whole in used.items():
        for change in (*_single(whole), whole):
            by_change.setdefault(change, {})[name] = None
    found = []
    for number, (change, names) in enumerate(by_change.items()):
        source = (
            f"as in {formatting.joined([*names])}"
            if "" not in names
            else "an example that no objective uses here"
        )
        image = dataset.data.x_train[_examples(dataset)[0]]
        rng = np.random.default_rng([_SEED, number])
        # A single change is shown on every image; the caption states its frequency.
        shown = change if change in used.values() else dataclasses.replace(change, rotated_share=1.0)
        changed = shown(np.repeat(image[None], SAMPLES - 1, axis=0), rng)
        pictures = [picture(image, "before"), *(picture(one, "after") for one in changed)]
        found.append(Gallery(f"augmentation-{number}", f"{_describe(change)}, {source}.", pictures))
    return found


def at_places(
    dataset: Dataset, groups: Sequence[tuple[Sequence[Place], str]], key: str, caption: str
) -> Gallery:
    """Return the images of groups, numbered by their group, with a short text for each."""
    pictures = []
    for number, (places, more) in enumerate(groups, 1):
        for place in places:
            where = dataset.where(place.split, place.index)
            name = dataset.label(place.label)
            text = f"{number}: {place.split}, {where}, {name}{more}"
            pictures.append(at(dataset, place.split, place.index, text))
    return Gallery(key, caption, pictures)


def _examples(dataset: Dataset) -> list[int]:
    """Return the index of the first training image of up to four classes, or of four images."""
    if np.ndim(dataset.data.y_train) > 1:
        return list(range(min(4, len(dataset.data.y_train))))
    present = [label for label in range(len(dataset.data.classes)) if (dataset.data.y_train == label).any()]
    return [int(np.argmax(dataset.data.y_train == label)) for label in present[:4]]


def _single(augmentation: Augmentation) -> list[Augmentation]:
    nothing = Augmentation(fill=augmentation.fill, rotated_share=augmentation.rotated_share)
    return [
        dataclasses.replace(nothing, **{name: getattr(augmentation, name)})
        for name in ("flip", "rotation_degrees", "shift", "cutout")
        if getattr(augmentation, name)
    ]


def _describe(change: Augmentation) -> str:
    share = f" ({100 * change.rotated_share:.0f} % of the images)" if change.rotated_share < 1.0 else ""
    often = "in every second epoch" if change.alternates else "with probability 1/2"
    parts = [
        *([f"mirrored {often}"] if change.flip else []),
        *(
            [f"rotated{share} by up to {change.rotation_degrees:g} degrees in either direction"]
            if change.rotation_degrees
            else []
        ),
        *([f"shifted by up to {change.shift} pixels in each direction"] if change.shift else []),
        *([f"a square of {change.cutout}×{change.cutout} pixels cut out"] if change.cutout else []),
    ]
    text = formatting.joined(parts)
    return text[:1].upper() + text[1:]
