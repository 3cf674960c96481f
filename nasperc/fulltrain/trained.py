"""A checkpoint of any task."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from nasperc.errors import InputError
from nasperc.fulltrain import trained_detector, trained_segmenter
from nasperc.fulltrain.trained_detector import TrainedDetector
from nasperc.fulltrain.trained_segmenter import TrainedSegmenter
from nasperc.training.checkpoint import load_checkpoint

Trained = TrainedDetector | TrainedSegmenter

_READERS: dict[str, Callable[[Mapping[str, Any], Path], Trained]] = {
    trained_detector.TASK: trained_detector.read_detector,
    trained_segmenter.TASK: trained_segmenter.read_segmenter,
}


def load_trained(path: Path) -> Trained:
    """What a checkpoint of full training holds, by the task that it names; on the CPU and in evaluation mode.

    Raises:
        InputError: unreadable, cut short, of an unknown task, or not consistent in itself.
    """
    content = load_checkpoint(path, ("task",))
    task = content["task"]
    if not isinstance(task, str) or task not in _READERS:
        raise InputError(
            f"the task of a checkpoint must be one of {', '.join(_READERS)}",
            value=task,
            where=path,
            repair="It was edited, or written by another version: train again.",
        )
    return _READERS[task](content, path)
