"""The data of a study as a launch requests them: a part of a data set, or images of the user's own."""

from __future__ import annotations

from dataclasses import replace

from hpo.errors import UsageError
from hpo.options.images import ImageOptions
from hpo.options.launch_request import LaunchRequest
from objectives.base import DataOptions
from objectives.description import Description


def requested_data(request: LaunchRequest, stored: DataOptions, *, begun: bool) -> DataOptions:
    """Return the requested data, and the stored ones where the request names none.

    A study that has begun keeps them, but for the place of its images: each host has its own.
    """
    if begun:
        return _with_place(request.images, stored)
    data = with_images(request.images, stored)
    return replace(
        data,
        limit=data.limit if request.limit is None else request.limit,
        folds=data.folds if request.folds is None else request.folds,
    )


def with_images(images: ImageOptions, stored: DataOptions) -> DataOptions:
    """Return the requested options of images, and the stored ones where none are requested."""
    data = _with_place(images, stored)
    return replace(
        data,
        task=data.task if images.task is None else images.task,
        image_size=data.image_size if images.image_size is None else images.image_size,
        image_fit=data.image_fit if images.image_fit is None else images.image_fit,
        test_fraction=data.test_fraction if images.test_fraction is None else images.test_fraction,
    )


def _with_place(images: ImageOptions, data: DataOptions) -> DataOptions:
    if images.data is not None:
        data = replace(data, source=str(images.data.expanduser().absolute()))
    return replace(data, skip_unreadable=True) if images.skip_unreadable else data


def check_images(request: LaunchRequest, description: Description, data: DataOptions) -> None:
    """Raise UsageError if the objective needs images and none are given, or the other way round."""
    if data.source is not None and not description.takes_images:
        raise UsageError(
            f"--data {data.source} does not apply to objective {description.name}, which has its own data: leave it"
            " out, or give an objective without a data set (dataset = None)"
        )
    if data.source is None and description.takes_images:
        raise UsageError(
            f"objective {description.name} has no data set: give images or arrays with --data, or set its dataset"
        )
    images = request.images
    for option, given in (
        ("--task", images.task is not None),
        ("--image-size", images.image_size is not None),
        ("--image-fit", images.image_fit is not None),
        ("--test-fraction", images.test_fraction is not None),
        ("--skip-unreadable", images.skip_unreadable),
    ):
        if given and data.source is None:
            raise UsageError(f"{option} applies to data of your own: give them with --data, or leave it out")
