"""Running a detector on a data set or on single images, in the pixels of the original images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from nasperc.data.batch import collate
from nasperc.data.dataset import DetectionDataset
from nasperc.data.normalisation import Normalisation
from nasperc.data.sample import Sample
from nasperc.data.transforms import Resize
from nasperc.evaluation.coco_ap import detections_to_coco
from nasperc.models.detector import Detector, DetectorOutput
from nasperc.models.instances import Instances
from nasperc.ops.paste_masks import paste_to_rle


class Detected(NamedTuple):
    """What a detector makes of a batch: its ``output``, and of each image the detections ``found`` in pixels of the
    resized image, whose (h, w) without padding is in ``sizes``."""

    output: DetectorOutput
    found: list[Instances]
    sizes: list[tuple[int, int]]


@torch.no_grad()
def detect_resized(
    model: Detector,
    samples: Sequence[Sample],
    normalisation: Normalisation,
    short_side: int,
    max_long_side: int,
) -> Detected:
    """Resize, normalise and pad original images, as one batch, and run a detector on them.

    Args:
        model, samples, normalisation, short_side, max_long_side: as of :func:`detect`.
    """
    resize = Resize(short_side, max_long_side)
    batch = collate([resize.apply(sample, short_side) for sample in samples], normalisation, model.divisor)
    device = next(model.parameters()).device
    output = model(batch.images.to(device))
    return Detected(output, model.detect(output, batch.sizes), batch.sizes)


def detect(
    model: Detector,
    samples: Sequence[Sample],
    normalisation: Normalisation,
    short_side: int,
    max_long_side: int,
) -> list[Instances]:
    """Detections of each sample; boxes in pixels of ``sample.meta.size``, clipped to it, empty ones dropped. Masks are
    inside of their ``mask_boxes``.

    Args:
        model: in evaluation mode.
        samples: original images.
        normalisation: the backbone's.
        short_side: of the resized images in pixels.
        max_long_side: bound on their long side.
    """
    _, found, sizes = detect_resized(model, samples, normalisation, short_side, max_long_side)
    return [
        each.rescale(size, sample.meta.size) for each, size, sample in zip(found, sizes, samples, strict=True)
    ]


def detect_dataset(
    model: Detector,
    dataset: DetectionDataset,
    normalisation: Normalisation,
    short_side: int,
    max_long_side: int,
    *,
    batch_size: int = 1,
    on_image: Callable[[int], None] | None = None,
) -> list[dict[str, Any]]:
    """COCO-format results of a whole split, for :func:`nasperc.evaluation.coco_ap.coco_ap`; with masks, pasted into
    their images as run lengths, where the model has them.

    The model is put into evaluation mode. Images are batched as they come; with batches of 1 no image is
    padded to another's size. ``on_image`` is called with the number of images done.

    Raises:
        InputError: an image cannot be read.
    """
    model.eval()
    results: list[dict[str, Any]] = []
    for start in range(0, len(dataset), batch_size):
        samples = [dataset[index] for index in range(start, min(start + batch_size, len(dataset)))]
        for sample, found in zip(
            samples, detect(model, samples, normalisation, short_side, max_long_side), strict=True
        ):
            masks = None
            if isinstance(found.masks, Tensor):
                masks = paste_to_rle(found.masks, found.mask_boxes, sample.meta.size)
            image_id = sample.meta.image_id
            results += detections_to_coco(image_id, found.boxes, found.scores, found.labels, masks)
        if on_image is not None:
            on_image(start + len(samples))
    return results
