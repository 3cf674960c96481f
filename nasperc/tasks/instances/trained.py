"""A checkpoint of full training as an instance segmenter: evaluation and prediction need no other file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from nasperc.assembly.detector import Decoder
from nasperc.assembly.recipe import ModelRecipe
from nasperc.models.instance_segmenter import InstanceSegmenter
from nasperc.recipe.root import ComponentSection
from nasperc.tasks.checkpoint_content import described_network, load_weights
from nasperc.tasks.detection.evaluate import found_on
from nasperc.tasks.detection.predict import show
from nasperc.tasks.detection.tables import evaluation_tables
from nasperc.tasks.detection.trained import TrainedDetector, describe, read_described
from nasperc.tasks.instances.draw_masks import draw_segmented
from nasperc.tasks.instances.graphs import SegmenterGraphs
from nasperc.tasks.instances.models import InstancesRecipe, build_segmenter
from nasperc.tasks.instances.tables import BOXES, mask_metrics
from nasperc.tasks.trained import (
    EvaluateOptions,
    ExportOptions,
    OnProgress,
    Prediction,
    PredictOptions,
    Report,
)
from nasperc.training.checkpoint import require_keys

_SEGMENTER = "segmenter"


@dataclass(frozen=True)
class TrainedInstances(TrainedDetector):
    """See :class:`Trained`; what a detector has, and masks."""

    called: ClassVar[str] = "an instance segmenter"
    own_options: ClassVar[frozenset[str]] = (TrainedDetector.own_options - {"--dense"}) | {
        "--paste",
        "--show",
    }

    model: InstanceSegmenter
    options: InstancesRecipe

    def evaluate(self, data: Path, options: EvaluateOptions, on_progress: OnProgress | None = None) -> Report:
        """COCO's twelve numbers of masks and of boxes, at the image size of the recipe."""
        dataset, found = found_on(self, data, options, on_progress, masks=True)
        values = mask_metrics(dataset, found)
        tables = evaluation_tables(dataset, {"masks": values, "boxes": values[BOXES]}, options.per_class)
        return Report(dataset.lines(), tables, values)

    def predict(
        self,
        checkpoint: Path,
        inputs: Sequence[Path],
        out: Path,
        options: PredictOptions,
        on_progress: OnProgress | None = None,
    ) -> Prediction:
        """``detections.json``, with masks as COCO's run lengths, and each image with its masks; of a view another
        picture."""
        view = None if options.show is None else self.options.view(options.show)
        return show(self, checkpoint, inputs, out, options, on_progress, draw_segmented, view)

    def exported(self, options: ExportOptions) -> SegmenterGraphs:
        """One graph: final detections and their masks."""
        return SegmenterGraphs(self.model, self.normalisation, self.about(), pasted=options.paste)


def describe_segmenter(
    recipe: ModelRecipe, decoder: Decoder, space: ComponentSection, options: InstancesRecipe
) -> dict[str, Any]:
    """What a checkpoint holds besides the weights so that :func:`read_segmenter` can build the network.

    Args:
        recipe, decoder, space: as for a detector.
        options: the recipe's section ``task``.
    """
    values = describe(recipe, decoder, space)
    return {**values, "task": options.chosen(), _SEGMENTER: options.described()}


def read_segmenter(content: Mapping[str, Any], path: Path) -> TrainedInstances:
    """The segmenter of a checkpoint's content; ``path`` names it in errors.

    Raises:
        InputError: not consistent in itself.
    """
    require_keys(content, (_SEGMENTER,), path)
    known = read_described(content, path)
    with described_network(path):
        options = InstancesRecipe.model_validate(content[_SEGMENTER])
        model = build_segmenter(known.recipe, options, known.decoder, len(known.classes), load_weights=False)
    load_weights(model, content, path)
    return TrainedInstances(**vars(known), model=model.eval(), options=options)
