"""The task ``video``: label maps of the frames of videos, by a dynamic cell on a per-frame network."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nasperc.assembly.detector import Decoder, Searched
from nasperc.assembly.segmenter import CELL, build_static, build_video
from nasperc.errors import InputError
from nasperc.evaluation.video_latency import FollowingFrame
from nasperc.recipe.root import Recipe
from nasperc.tasks.base import Task
from nasperc.tasks.video.trained import VIDEO_MODEL, TrainedSegmenter, read_segmenter
from nasperc.tasks.video.training import VideoTraining
from search_spaces.base import SearchSpace


class VideoTask(Task):
    """See :class:`Task`."""

    name = "video"
    models = (VIDEO_MODEL,)
    Training = VideoTraining

    @classmethod
    def takes(cls, space: SearchSpace) -> bool:
        """One of dynamic cells."""
        return space.part_of(CELL) is not None

    @classmethod
    def read(cls, content: Mapping[str, Any], path: Path) -> TrainedSegmenter:
        return read_segmenter(content, path)

    @classmethod
    def network(cls, recipe: Recipe, decoder: Decoder, size: tuple[int, int]) -> FollowingFrame:
        """A frame that is not the first."""
        if not isinstance(decoder, Searched):
            raise InputError(
                "a network for videos has a dynamic cell",
                value="a decoder made by hand",
                where="recipe key decoder.name",
                repair="Give an architecture of the space dynamic_cell.",
            )
        static = build_static(recipe.model, recipe.cost.classes, load_weights=False)
        video = build_video(recipe.model, decoder, recipe.cost.classes, static)
        return FollowingFrame(video.eval(), size)
