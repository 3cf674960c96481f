"""A checkpoint of full training as a detector: evaluation, prediction and export need no other file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from pydantic import TypeAdapter

from nasperc.assembly.detector import BASELINE_NAMES, DEEPEST, Baseline, Decoder, Searched, build_detector
from nasperc.assembly.recipe import ModelRecipe
from nasperc.data.image_rules import ImageRules
from nasperc.data.normalisation import Normalisation, get_normalisation
from nasperc.errors import InputError
from nasperc.evaluation.coco_ap import coco_ap
from nasperc.models.detector import Detector
from nasperc.models.fcos.model import FCOS
from nasperc.models.necks.fpn import FCOS_ENDS, PyramidEnds
from nasperc.recipe.root import ComponentSection
from nasperc.tasks.caller import common_values, resize_values
from nasperc.tasks.checkpoint_content import (
    describe_searched,
    described_network,
    load_task_checkpoint,
    load_weights,
    read_classes,
    read_image_rules,
    read_searched,
    read_widths,
)
from nasperc.tasks.detection.dense_graphs import DenseGraphs
from nasperc.tasks.detection.evaluate import found_on
from nasperc.tasks.detection.graphs import DetectorGraphs
from nasperc.tasks.detection.predict import show
from nasperc.tasks.detection.tables import evaluation_tables
from nasperc.tasks.exported import Exported
from nasperc.tasks.trained import (
    EvaluateOptions,
    ExportOptions,
    OnProgress,
    Prediction,
    PredictOptions,
    Report,
    Trained,
)
from nasperc.training.checkpoint import require_keys
from nasperc.training.recipe import TrainingRecipe

# What checkpoints call the task.
FCOS_MODEL = "fcos"
_DESCRIPTION = ("task", "detector", "decoder", "space", "training", "classes", "normalisation")
_ENDS: TypeAdapter[PyramidEnds] = TypeAdapter(PyramidEnds)
_KEYS = (*_DESCRIPTION, "model", "step", "finished")


@dataclass(frozen=True)
class Described:
    """What a checkpoint says beside the weights, of any network that is built on a detector's parts; see
    :class:`nasperc.tasks.trained.Trained`."""

    decoder: Decoder
    recipe: ModelRecipe
    training: TrainingRecipe
    classes: tuple[str, ...]
    normalisation: Normalisation
    images: ImageRules
    step: int
    finished: bool


@dataclass(frozen=True)
class TrainedDetector(Described, Trained):
    """See :class:`Trained`."""

    called: ClassVar[str] = "a detector"
    own_options: ClassVar[frozenset[str]] = frozenset(
        {"--strict", "--annotations", "--results", "--per-class", "--threshold", "--dense", "--with-nms"}
    )

    model: Detector

    @property
    def searched(self) -> Searched | None:
        """The searched part; None: a baseline."""
        return self.decoder if isinstance(self.decoder, Searched) else None

    def evaluate(self, data: Path, options: EvaluateOptions, on_progress: OnProgress | None = None) -> Report:
        """COCO's twelve numbers, at the image size of the recipe."""
        dataset, found = found_on(self, data, options, on_progress)
        values = coco_ap(dataset.coco_ground_truth(), found).as_dict()
        tables = evaluation_tables(dataset, {"boxes": values}, options.per_class)
        return Report(dataset.lines(), tables, values)

    def predict(
        self,
        checkpoint: Path,
        inputs: Sequence[Path],
        out: Path,
        options: PredictOptions,
        on_progress: OnProgress | None = None,
    ) -> Prediction:
        """``detections.json``, and each image with its boxes."""
        return show(self, checkpoint, inputs, out, options, on_progress)

    def exported(self, options: ExportOptions) -> Exported:
        """One graph: final detections, or boxes, class scores and centerness of every location."""
        assert isinstance(self.model, FCOS)
        if options.dense and options.with_nms:
            raise InputError(
                "--with-nms and --dense contradict each other",
                value="both",
                where="the command line",
                repair="Leave one out; --with-nms is what is done without either.",
            )
        graphs = DenseGraphs if options.dense else DetectorGraphs
        return graphs(self.model, self.normalisation, self.about())

    def about(self) -> dict[str, Any]:
        """What an exported file says beside its tensors."""
        training = self.training
        return {
            **common_values(self.classes, self.images),
            **resize_values(training.test_short_side, training.max_long_side),
        }


def describe(recipe: ModelRecipe, decoder: Decoder, space: ComponentSection) -> dict[str, Any]:
    """What a checkpoint holds besides the weights so that :func:`load_detector` can build the network.

    Args:
        recipe: of the model.
        decoder: baseline or searched.
        space: the recipe section of the search space that ``decoder`` is from.
    """
    values: dict[str, Any]
    if isinstance(decoder, Baseline):
        kind, widths = decoder.kind.replace("-", "_"), decoder.widths
        values = {"kind": kind, "widths": widths, "depth": decoder.depth}
        if decoder.kind == "fpn-retinanet":
            values["anchor_scale"] = decoder.anchor_scale
        # Older checkpoints have neither.
        if decoder.ends != FCOS_ENDS:
            values["ends"] = list(decoder.ends)
        if decoder.merged_tower:
            values["merged_tower"] = True
    else:
        values = {"kind": "searched", **describe_searched(decoder)}
    return {
        "task": FCOS_MODEL,
        "detector": recipe.model_dump(mode="json"),
        "decoder": values,
        "space": space.model_dump(mode="json"),
    }


def load_detector(path: Path) -> TrainedDetector:
    """Read a checkpoint and build its detector, on the CPU and in evaluation mode.

    Raises:
        InputError: unreadable, cut short, of another format or task, or not consistent in itself.
    """
    return read_detector(load_task_checkpoint(path, FCOS_MODEL), path)


def read_described(content: Mapping[str, Any], path: Path) -> Described:
    """What stands in a checkpoint as :func:`describe` and the training wrote it; ``path`` names it in errors.

    Raises:
        InputError: something is missing, or is not what it should be.
    """
    require_keys(content, _KEYS, path)
    with described_network(path):
        return Described(
            decoder=read_decoder(content, where=str(path)),
            recipe=ModelRecipe.model_validate(content["detector"]),
            training=TrainingRecipe.model_validate(content["training"]),
            classes=read_classes(content["classes"], path),
            normalisation=get_normalisation(content["normalisation"]),
            images=read_image_rules(content),
            step=int(content["step"]),
            finished=bool(content["finished"]),
        )


def read_detector(
    content: Mapping[str, Any], path: Path, build: Callable[..., Detector] = build_detector
) -> TrainedDetector:
    """The detector of a checkpoint's content.

    Args:
        content: as full training writes it.
        path: names it in errors.
        build: with the arguments of :func:`build_detector`; of another model, what it builds.

    Raises:
        InputError: as :func:`load_detector`.
    """
    known = read_described(content, path)
    with described_network(path):
        model = build(known.recipe, known.decoder, len(known.classes), load_weights=False)
    load_weights(model, content, path)
    return TrainedDetector(**vars(known), model=model.eval())


def read_decoder(description: Mapping[str, Any], where: str) -> Decoder:
    """The decoder that :func:`describe` described; ``where`` names the source in errors.

    Raises:
        InputError: the space cannot be loaded, or the architecture is not one of its own.
        KeyError, TypeError, ValidationError: it is no such description.
    """
    values = description["decoder"]
    widths = read_widths(values)
    for kind in BASELINE_NAMES:
        if values["kind"] == kind.replace("-", "_"):
            scale, depth = float(values.get("anchor_scale", 1.0)), int(values["depth"])
            if not 0 <= depth <= DEEPEST:
                raise ValueError(f"a depth of {depth}")
            ends = _ENDS.validate_python(tuple(values.get("ends", FCOS_ENDS)))
            merged = bool(values.get("merged_tower", False))
            return Baseline(widths["fpn"], widths["head"], depth, kind, scale, ends, merged)
    return read_searched(values, description["space"], where)
