"""A checkpoint of full training as a network for videos: evaluation, prediction and export need no other file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor

from nasperc.assembly.detector import Searched
from nasperc.assembly.recipe import ModelRecipe
from nasperc.assembly.segmenter import build_static, build_video
from nasperc.data.image_rules import ImageRules
from nasperc.data.normalisation import Normalisation, get_normalisation
from nasperc.data.sample import SEMANTIC_IGNORE
from nasperc.errors import InputError
from nasperc.models.segmenter import Segmenter
from nasperc.models.video_segmenter import VideoSegmenter
from nasperc.recipe.root import ComponentSection
from nasperc.tasks.caller import common_values
from nasperc.tasks.checkpoint_content import (
    describe_searched,
    described_network,
    load_task_checkpoint,
    read_classes,
    read_image_rules,
    read_searched,
    require_finite_weights,
)
from nasperc.tasks.trained import (
    EvaluateOptions,
    ExportOptions,
    OnProgress,
    Prediction,
    PredictOptions,
    Report,
    Trained,
)
from nasperc.tasks.video.evaluate import evaluate_video
from nasperc.tasks.video.graphs import VideoGraphs
from nasperc.tasks.video.predict import ANIMATION, LABELS, MOST_ANIMATED, predict_video
from nasperc.tasks.video.tables import report_remarks, report_tables
from nasperc.training.checkpoint import require_keys

# What checkpoints call the task.
VIDEO_MODEL = "video_segmentation"
_KEYS = ("segmenter", "cell", "space", "classes", "normalisation", "model", "step", "finished")
# Of classifiers that serve training only, in a per-frame network and in that of a video.
_AUXILIARY = ("auxiliary.", "static.auxiliary.")


@dataclass(frozen=True)
class TrainedSegmenter(Trained):
    """See :class:`Trained`. ``cell`` is None for a per-frame network, whose ``model`` is a :class:`Segmenter`."""

    called: ClassVar[str] = "a network for videos"
    examples: ClassVar[str] = "frames"
    own_options: ClassVar[frozenset[str]] = frozenset({"--sequence-length", "--dense", "--size"})

    model: VideoSegmenter | Segmenter
    cell: Searched | None
    recipe: ModelRecipe
    classes: tuple[str, ...]
    normalisation: Normalisation
    images: ImageRules
    step: int
    finished: bool

    @property
    def searched(self) -> Searched | None:
        """The cell."""
        return self.cell

    def evaluate(self, data: Path, options: EvaluateOptions, on_progress: OnProgress | None = None) -> Report:
        """IoU and accuracy, and ms a frame."""
        report, dataset = evaluate_video(
            self,
            data,
            split=options.split,
            format=options.format,
            sequence_length=options.sequence_length,
            on_frame=on_progress,
        )
        title = f"on {dataset.name} {dataset.split}, {len(dataset)} frames"
        return Report(dataset.lines(), report_tables(report, title), report.as_dict(), report_remarks(report))

    def predict(
        self,
        checkpoint: Path,
        inputs: Sequence[Path],
        out: Path,
        options: PredictOptions,
        on_progress: OnProgress | None = None,
    ) -> Prediction:
        """Of a folder of frames, in the order of their numbers: a label map for each, a strip and an animation."""
        if len(inputs) != 1 or not inputs[0].is_dir():
            raise InputError(
                "a network for videos takes one folder of frames",
                value=", ".join(map(str, inputs)),
                where="the command line",
                repair="Name the folder that the frames are in.",
            )
        result = predict_video(self, checkpoint, inputs[0], out, on_progress)
        count = len(result.labels)
        videos = "1 video" if result.runs == 1 else f"{result.runs} videos, each started anew"
        lines = [
            f"{'1 frame' if count == 1 else f'{count} frames'} of {videos}: label maps in {out / LABELS}"
        ]
        for path in result.pictures:
            cut = path.name == ANIMATION and count > MOST_ANIMATED
            lines.append(f"{path} written{f' (the first {MOST_ANIMATED} frames)' * cut}")
        others = "Those named above were skipped, and the frames after them go on from the last good one."
        return Prediction(
            [*lines, f"{result.json} written"], count + len(result.unreadable), result.unreadable, others
        )

    def exported(self, options: ExportOptions) -> VideoGraphs:
        """Two graphs: the first frame, and every other one."""
        assert isinstance(self.model, VideoSegmenter)
        about = common_values(self.classes, self.images)
        return VideoGraphs(self.model, self.normalisation, about, size=options.size, dense=options.dense)


def describe_segmenter(recipe: ModelRecipe, cell: Searched | None, space: ComponentSection) -> dict[str, Any]:
    """What a checkpoint holds besides the weights so that :func:`load_segmenter` can build the network.

    Args:
        recipe: of the static network.
        cell: the dynamic cell; None: a per-frame network.
        space: the recipe section of the search space that ``cell`` is from.
    """
    return {
        "task": VIDEO_MODEL,
        "segmenter": recipe.model_dump(mode="json"),
        "cell": None if cell is None else describe_searched(cell),
        "space": space.model_dump(mode="json"),
    }


def load_segmenter(path: Path) -> TrainedSegmenter:
    """Read a checkpoint and build its network, on the CPU and in evaluation mode.

    Raises:
        InputError: unreadable, cut short, of another format or task, or not consistent in itself.
    """
    return read_segmenter(load_task_checkpoint(path, VIDEO_MODEL), path)


def read_segmenter(content: Mapping[str, Any], path: Path) -> TrainedSegmenter:
    """The network of a checkpoint's content; ``path`` names it in errors.

    Raises:
        InputError: as :func:`load_segmenter`.
    """
    require_keys(content, _KEYS, path)
    with described_network(path):
        recipe = ModelRecipe.model_validate(content["segmenter"])
        classes = read_classes(content["classes"], path)
        if not 0 < len(classes) <= SEMANTIC_IGNORE:
            raise ValueError(f"{len(classes)} classes")
        cell = read_cell(content, str(path))
        static = build_static(recipe, len(classes), load_weights=False)
        model = static if cell is None else build_video(recipe, cell, len(classes), static)
        model.load_state_dict(_without_auxiliary(content["model"]))
        require_finite_weights(model, path)
        normalisation = get_normalisation(content["normalisation"])
        images = read_image_rules(content)
        step, finished = int(content["step"]), bool(content["finished"])
    return TrainedSegmenter(model.eval(), cell, recipe, classes, normalisation, images, step, finished)


def read_cell(description: Mapping[str, Any], where: str) -> Searched | None:
    """The cell that :func:`describe_segmenter` described; None: of a per-frame network.

    Raises:
        InputError: the space cannot be loaded, or the architecture is not one of its own.
        KeyError, TypeError, ValidationError: it is no such description.
    """
    if description["cell"] is None:
        return None
    return read_searched(description["cell"], description["space"], where)


def _without_auxiliary(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value for name, value in state.items() if not name.startswith(_AUXILIARY)}
