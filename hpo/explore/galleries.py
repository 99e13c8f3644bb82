"""Images of a data set as galleries: samples, means, and what training does to an image."""

from __future__ import annotations

import base64
import dataclasses
import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hpo.document.document import Gallery, Picture
from hpo.explore.dataset import EXAMPLE, Subject
from hpo.explore.duplicates import Place
from hpo.explore.label_errors import ClassMeans
from objectives.augment import Augmentation

SAMPLES = 8
"""Images shown of each class."""
MOST_CLASSES = 40
"""Classes of which samples are shown."""
_SEED = 0
_DEVIATIONS = 2.5
"""From the mean, at which a normalized pixel is shown black or white."""


def picture(image: NDArray[np.uint8], caption: str) -> Picture:
    """An image (height, width, channels) as a picture; of other than three channels the first is shown."""
    from PIL import Image

    file = io.BytesIO()
    pixels = np.ascontiguousarray(image if image.shape[-1] == 3 else image[..., 0])
    Image.fromarray(pixels).save(file, format="png")
    return Picture(base64.b64encode(file.getvalue()).decode(), caption)


def samples(subject: Subject) -> list[Gallery]:
    """Some training images of each class, the same at each call."""
    data, rng, found = subject.data, np.random.default_rng(_SEED), []
    for label, name in enumerate(data.classes[:MOST_CLASSES]):
        of_class = np.flatnonzero(data.y_train == label)
        chosen = np.sort(rng.choice(of_class, min(SAMPLES, len(of_class)), replace=False))
        if len(chosen):
            caption = (
                f"{name}: {len(chosen)} of {len(of_class):,} training images, with their indices in x_train"
            )
            pictures = [
                picture(data.x_train[index], f"#{subject.number('training', index)}") for index in chosen
            ]
            found.append(Gallery(f"class-{label}", caption, pictures))
    return found


def mean_images(subject: Subject, means: ClassMeans) -> Gallery:
    """The mean image of each class."""
    shown = np.clip(np.rint(means.means), 0, 255).astype(np.uint8)
    pictures = [
        picture(image, name) for image, name in zip(shown, subject.data.classes[:MOST_CLASSES], strict=False)
    ]
    caption = (
        f"Mean training image of each class. The nearest of them is the right one for {100 * means.accuracy:.1f} % of"
        " the training images, which is what a model must beat."
    )
    return Gallery("means", caption, pictures)


def normalization(subject: Subject) -> Gallery:
    """A few training images before and after normalization."""
    data, pictures = subject.data, []
    for index in _examples(subject):
        image = data.x_train[index]
        normalized = (image / 255 - np.array(data.mean)) / np.array(data.std)
        shown = np.clip(127.5 * (1 + normalized / _DEVIATIONS), 0, 255).astype(np.uint8)
        name = data.classes[data.y_train[index]]
        pictures += [picture(image, f"{name}, before"), picture(shown, f"{name}, after")]
    caption = (
        "Normalization subtracts the mean of each channel and divides by its standard deviation. Shown with middle grey"
        f" as the mean, and black and white {_DEVIATIONS} standard deviations from it."
    )
    return Gallery("normalization", caption, pictures)


def augmentations(subject: Subject) -> list[Gallery]:
    """Each change by itself and all together, as training makes them, with the image before it."""
    used = subject.augmentations or {"": EXAMPLE}
    by_change: dict[Augmentation, dict[str, None]] = {}
    for name, whole in used.items():
        for change in (*_single(whole), whole):
            by_change.setdefault(change, {})[name] = None
    found = []
    for number, (change, names) in enumerate(by_change.items()):
        who = f"as in {' and '.join(names)}" if "" not in names else "an example: no objective does this here"
        image = subject.data.x_train[_examples(subject)[0]]
        rng = np.random.default_rng([_SEED, number])
        # By itself a change is shown wherever it can be; the caption says how often it is made.
        shown = change if change in used.values() else dataclasses.replace(change, rotated_share=1.0)
        changed = shown(np.repeat(image[None], SAMPLES - 1, axis=0), rng)
        pictures = [picture(image, "before"), *(picture(one, "after") for one in changed)]
        found.append(Gallery(f"augmentation-{number}", f"{_words(change)}, {who}.", pictures))
    return found


def at_places(
    subject: Subject, groups: Sequence[tuple[Sequence[Place], str]], key: str, caption: str
) -> Gallery:
    """The images of groups side by side, numbered by their group; a word or two goes with each."""
    pictures = []
    for number, (places, more) in enumerate(groups, 1):
        for place in places:
            image = subject.splits[place.split][0][place.index]
            name = subject.data.classes[place.label]
            where = f"{place.split} #{subject.number(place.split, place.index)}"
            pictures.append(picture(image, f"{number}: {where}, {name}{more}"))
    return Gallery(key, caption, pictures)


def _examples(subject: Subject) -> list[int]:
    """The first training image of each of up to four classes."""
    present = [label for label in range(subject.data.class_count) if (subject.data.y_train == label).any()]
    return [int(np.argmax(subject.data.y_train == label)) for label in present[:4]]


def _single(augmentation: Augmentation) -> list[Augmentation]:
    nothing = Augmentation(fill=augmentation.fill, rotated_share=augmentation.rotated_share)
    return [
        dataclasses.replace(nothing, **{name: getattr(augmentation, name)})
        for name in ("flip", "rotation_degrees", "shift", "cutout")
        if getattr(augmentation, name)
    ]


def _words(change: Augmentation) -> str:
    share = f" ({change.rotated_share:.0%} of the images)" if change.rotated_share < 1.0 else ""
    parts = [
        *(["mirrored with probability one half"] if change.flip else []),
        *(
            [f"turned{share} by up to {change.rotation_degrees:g} degrees either way"]
            if change.rotation_degrees
            else []
        ),
        *([f"moved by up to {change.shift} pixels in each direction"] if change.shift else []),
        *([f"a square of {change.cutout} pixels a side cut out"] if change.cutout else []),
    ]
    text = ", ".join(parts) if len(parts) < 2 else f"{', '.join(parts[:-1])} and {parts[-1]}"
    return text[:1].upper() + text[1:]
