"""Running a detector on a data set or on single images, in the pixels of the original images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from nasperc.data.batch import collate
from nasperc.data.dataset import DetectionDataset
from nasperc.data.normalisation import Normalisation
from nasperc.data.sample import Sample
from nasperc.data.transforms import Resize
from nasperc.evaluation.coco_ap import detections_to_coco
from nasperc.models.detector import Detector
from nasperc.models.instances import Instances
from nasperc.ops.paste_masks import paste_to_rle


@torch.no_grad()
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
        samples: original images; they are resized, normalised and padded here, as one batch.
        normalisation: the backbone's.
        short_side: of the resized images in pixels.
        max_long_side: bound on their long side.
    """
    resize = Resize(short_side, max_long_side)
    batch = collate([resize.apply(sample, short_side) for sample in samples], normalisation, model.divisor)
    device = next(model.parameters()).device
    found = model.detect(model(batch.images.to(device)), batch.sizes)
    return [
        each.rescale(size, sample.meta.size)
        for each, size, sample in zip(found, batch.sizes, samples, strict=True)
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
