"""A checkpoint of full training as a panoptic network: evaluation and prediction need no other file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NoReturn

from nasperc.assembly.detector import Decoder
from nasperc.assembly.recipe import ModelRecipe
from nasperc.data.panoptic import PanopticClasses, PanopticDataset
from nasperc.data.panoptic_formats import has_panoptic_split, open_panoptic, panoptic_split_names
from nasperc.data.panoptic_results import writing_results
from nasperc.errors import InputError
from nasperc.models.panoptic.segmenter import PanopticSegmenter
from nasperc.recipe.root import ComponentSection
from nasperc.tasks.checkpoint_content import described_network, load_weights, read_classes
from nasperc.tasks.detection.trained import TrainedDetector, describe, read_described
from nasperc.tasks.panoptic.models import PanopticRecipe, build_panoptic
from nasperc.tasks.panoptic.predict import predict_panoptic
from nasperc.tasks.panoptic.tables import report_table
from nasperc.tasks.trained import (
    EvaluateOptions,
    ExportOptions,
    OnProgress,
    Prediction,
    PredictOptions,
    Report,
)
from nasperc.training.checkpoint import require_keys
from nasperc.training.device import to_device
from nasperc.training.panoptic import segment_dataset

_PANOPTIC, _STUFF = "panoptic", "stuff"


@dataclass(frozen=True)
class TrainedPanoptic(TrainedDetector):
    """See :class:`Trained`; ``classes`` are the things, ``stuff`` the names of the rest."""

    called: ClassVar[str] = "a panoptic network"
    own_options: ClassVar[frozenset[str]] = TrainedDetector.own_options - {
        "--per-class",
        "--dense",
        "--with-nms",
    }

    model: PanopticSegmenter
    stuff: tuple[str, ...]

    @property
    def panoptic(self) -> PanopticClasses:
        """Of things and stuff."""
        return PanopticClasses(self.classes, self.stuff)

    def evaluate(self, data: Path, options: EvaluateOptions, on_progress: OnProgress | None = None) -> Report:
        """PQ, SQ and RQ at the image size of the recipe; with ``results`` a folder for a test server is written."""
        dataset = self._open(data, options)
        dataset.images.require()
        to_device(self.model)
        training = self.training
        with ExitStack() as stack:
            # Before minutes are spent on it.
            add = (
                None
                if options.results is None
                else stack.enter_context(writing_results(options.results, dataset))
            )
            evaluation = segment_dataset(
                self.model,
                dataset,
                self.normalisation,
                training.test_short_side,
                training.max_long_side,
                on_found=add,
                on_image=None if on_progress is None else lambda done: on_progress(done, len(dataset)),
            )
        metrics = evaluation.metrics(self.panoptic.names)
        title = f"on {dataset.name} {dataset.split}, {len(dataset)} images"
        return Report(dataset.lines(), [report_table(metrics, title)], metrics.as_dict())

    def _open(self, data: Path, options: EvaluateOptions) -> PanopticDataset:
        """The split, its images read as those of the training.

        Raises:
            InputError: the data set is not readable, the split is missing, a class is unknown.
        """
        return open_panoptic(
            data,
            options.split or _reported_split(data, options.format),
            format=options.format,
            classes=self.panoptic,
            strict=options.strict,
            rules=self.images,
            annotations=options.annotations,
        )

    def predict(
        self,
        checkpoint: Path,
        inputs: Sequence[Path],
        out: Path,
        options: PredictOptions,
        on_progress: OnProgress | None = None,
    ) -> Prediction:
        """``panoptic.json``, a map of segments of each image, and each image under its segments."""
        return predict_panoptic(self, checkpoint, inputs, out, options.threshold, on_progress)

    def exported(self, options: ExportOptions) -> NoReturn:
        """Nothing: merging is no part of a graph."""
        raise self._has_no("exported files", "nasperc export")


def _reported_split(data: Path, format: str) -> str:
    """The split that is evaluated where none is named: test, or val where there is no test.

    Raises:
        InputError: there is neither, or ``data`` is no panoptic data set.
    """
    for name in ("test", "val"):
        if has_panoptic_split(data, name, format):
            return name
    raise InputError(
        "a data set to evaluate on needs a split test or val",
        value=", ".join(panoptic_split_names(data, format)),
        where=data,
        repair="Name one with --split.",
    )


def describe_panoptic(
    recipe: ModelRecipe,
    decoder: Decoder,
    space: ComponentSection,
    options: PanopticRecipe,
    stuff: Sequence[str],
) -> dict[str, Any]:
    """What a checkpoint holds besides the weights so that :func:`read_panoptic_network` can build the network.

    Args:
        recipe, decoder, space: as for a detector.
        options: the recipe's section ``task``.
        stuff: names in the order of the labels.
    """
    values = describe(recipe, decoder, space)
    own = {_PANOPTIC: options.described(), _STUFF: list(stuff)}
    return {**values, "task": options.chosen(), **own}


def read_panoptic_network(content: Mapping[str, Any], path: Path) -> TrainedPanoptic:
    """The network of a checkpoint's content; ``path`` names it in errors.

    Raises:
        InputError: not consistent in itself.
    """
    require_keys(content, (_PANOPTIC, _STUFF), path)
    known = read_described(content, path)
    with described_network(path):
        options = PanopticRecipe.model_validate(content[_PANOPTIC])
        stuff = read_classes(content[_STUFF], path)
        counts = len(known.classes), len(stuff)
        model = build_panoptic(known.recipe, options, known.decoder, *counts, load_weights=False)
    load_weights(model, content, path)
    return TrainedPanoptic(**vars(known), model=model.eval(), stuff=stuff)
