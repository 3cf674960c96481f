"""The losses of a panoptic network on a batch, and running one on images, in the pixels of the originals."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from nasperc.data.batch import Batch, collate, semantic_targets
from nasperc.data.normalisation import Normalisation
from nasperc.data.panoptic import PanopticDataset
from nasperc.data.sample import Sample
from nasperc.data.transforms import Resize
from nasperc.evaluation.pq import PanopticEvaluation
from nasperc.models.panoptic.segmentation import PanopticSegmentation
from nasperc.models.panoptic.segmenter import PanopticSegmenter
from nasperc.models.reduction import Reduce, reduce_alone
from nasperc.training.output_and_targets import output_and_targets

# Called with the place of an image in its data set, and what was found in it.
OnFound = Callable[[int, PanopticSegmentation], None]


def panoptic_losses(
    model: nn.Module, batch: Batch, size_scale: float = 1.0, reduce: Reduce = reduce_alone
) -> dict[str, Tensor]:
    """Those of the instances and those of the pixels by name, all scalars; arguments as of :func:`detection_losses`.

    Raises:
        ValueError: a sample has no boxes or no semantic map.
    """
    assert isinstance(model, PanopticSegmenter)
    output, targets = output_and_targets(model, batch, size_scale)
    semantic = semantic_targets(batch).to(output.neck[0].device)
    return {
        **model.losses(output, targets, reduce)._asdict(),
        **model.panoptic_losses(output, targets, semantic, reduce),
    }


@torch.no_grad()
def segment(
    model: PanopticSegmenter,
    samples: Sequence[Sample],
    normalisation: Normalisation,
    short_side: int,
    max_long_side: int,
    confidence: float | None = None,
) -> list[PanopticSegmentation]:
    """The segmentation of each sample, on the model's device.

    Args:
        model: in evaluation mode.
        samples: original images; they are resized, normalised and padded here, as one batch.
        normalisation: the backbone's.
        short_side: of the resized images in pixels.
        max_long_side: bound on their long side.
        confidence: the lowest score of an instance; None: the model's own.
    """
    resize = Resize(short_side, max_long_side)
    images = [sample.with_fields(masks=None, semantic=None, panoptic=None) for sample in samples]
    batch = collate([resize.apply(image, short_side) for image in images], normalisation, model.divisor)
    output = model(batch.images.to(next(model.parameters()).device))
    sizes = [sample.meta.size for sample in samples]
    found = [
        each.rescale(size, original)
        for each, size, original in zip(model.detect(output, batch.sizes), batch.sizes, sizes, strict=True)
    ]
    return model.segment(output, found, batch.sizes, sizes, confidence)


def segment_dataset(
    model: PanopticSegmenter,
    dataset: PanopticDataset,
    normalisation: Normalisation,
    short_side: int,
    max_long_side: int,
    *,
    on_found: OnFound | None = None,
    on_image: Callable[[int], None] | None = None,
) -> PanopticEvaluation:
    """Count a whole split, image by image. The model is put into evaluation mode.

    Args:
        model, normalisation, short_side, max_long_side: as of :func:`segment`.
        dataset: the split.
        on_found: is handed each segmentation.
        on_image: called with the number of images done.

    Raises:
        InputError: an image or its map of segments cannot be read.
    """
    model.eval()
    evaluation = PanopticEvaluation(len(dataset.panoptic.things), len(dataset.panoptic.stuff))
    for index in range(len(dataset)):
        sample = dataset[index]
        (found,) = segment(model, [sample], normalisation, short_side, max_long_side)
        found = found.cpu()
        evaluation.add(found, dataset.truth(index, sample))
        if on_found is not None:
            on_found(index, found)
        if on_image is not None:
            on_image(index + 1)
    return evaluation
