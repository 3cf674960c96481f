"""What the caches of the video proxy task are made from: data, split, static network; and their fingerprints."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch

from feature_cache.format import fingerprint
from feature_cache.header import Header
from feature_cache.reader import CacheReader
from nasperc.assembly.datasets import check_shows_class, open_video_split
from nasperc.assembly.segmenter import build_static
from nasperc.assembly.static_network import (
    LOCK,
    old_static_contents,
    prepared_static,
    static_contents,
    static_path,
)
from nasperc.data.normalisation import Normalisation, get_normalisation
from nasperc.data.video import VideoDataset
from nasperc.errors import InputError
from nasperc.models.features import FeatureSpec
from nasperc.models.segmenter import Segmenter
from nasperc.old_files import without_new_keys
from nasperc.torch_files import file_sha256
from nasperc.training.segmentation_recipe import VideoTrainingRecipe
from proxy_tasks.base import Progress, TaskContext
from proxy_tasks.cache_check import prepare_cache
from proxy_tasks.cached_setup import CachedSetup, DataIdentity
from proxy_tasks.folder_lock import folder_lock
from proxy_tasks.video_cache import write_frames
from proxy_tasks.video_recipe import VideoProxyRecipe
from proxy_tasks.video_views import FrameViews, split_frames, train_views, val_frames

# Raised when the records of one recipe change.
BUILDER_VERSION = 2
# Of the last builder before the bytes of images counted.
OLD_BUILDER_VERSION = 1

# The section of the recipe with the static network's training.
VIDEO = "video"

Part = Literal["train", "val"]
# What records of meta-train, and those of meta-val, depend on beside data, static network and sequences.
PART_KEYS: dict[Part, tuple[str, ...]] = {
    "train": ("long_side", "pad", "crop", "views", "flip", "loss_size", "dtype"),
    "val": ("long_side", "dtype"),
}


class VideoSetup(CachedSetup):
    """Everything is opened when it is first asked for.

    Args:
        recipe: of the proxy task.
        context: see :class:`TaskContext`; its section ``video`` says how the static network is trained.
    """

    CACHES = "frames-train-*.h5"

    def __init__(self, recipe: VideoProxyRecipe, context: TaskContext) -> None:
        super().__init__(context)
        self.recipe = recipe
        video = context.sections[VIDEO]
        assert isinstance(video, VideoTrainingRecipe)
        self.static_training = video.static

    @cached_property
    def dataset(self) -> VideoDataset:
        """The train split: all that the search sees."""
        return open_video_split(self.context.data, "train", self.context.folder)

    @cached_property
    def parts(self) -> dict[Part, FrameViews]:
        """Meta-train and meta-val.

        Raises:
            InputError: too few sequences.
        """
        train, val = split_frames(self.dataset, self.recipe)
        return {"train": train, "val": val}

    def check_parts(self) -> None:
        """See :meth:`CachedSetup.check_parts`."""
        for name, part in self.parts.items():
            # A sequence's first frame is neither trained nor measured.
            later = sorted({part.frames[k] for k in part.sequences[:, 1:].flatten().tolist()})
            check_shows_class(self.dataset, later, f"meta-{name}")

    def data_in(self, header: Header) -> Mapping[str, Any] | None:
        """See :meth:`CachedSetup.data_in`; the frames stand in the contents."""
        static = header.contents.get("static")
        return static if isinstance(static, Mapping) else None

    @cached_property
    def normalisation(self) -> Normalisation:
        """Of the static network's input."""
        return get_normalisation(self.context.model.backbone.input_normalisation())

    @cached_property
    def cell_inputs(self) -> tuple[FeatureSpec, ...]:
        """What a cell is built on: layers 2, 3 and 4, then *dec*."""
        with torch.device("meta"):
            static = build_static(self.context.model, len(self.classes), load_weights=False)
        return static.cell_inputs

    @property
    def static_contents(self) -> dict[str, Any]:
        """Plain values that the static network depends on, data and classes among them."""
        return self._static_contents(self.identity)

    def contents(self, part: Part) -> dict[str, Any]:
        """Plain values that one part's records depend on; their hash is the fingerprint of its cache."""
        return self.contents_of(part, self.identity)

    def contents_of(self, part: Part, data: DataIdentity) -> dict[str, Any]:
        """The contents of a cache of data that are known by that."""
        recipe = self.recipe.model_dump(mode="json", include=set(PART_KEYS[part]) | {"seed"})
        contents = {
            "builder": BUILDER_VERSION,
            "static": self._static_contents(data),
            "frames": list(self.parts[part].frames),
            **recipe,
        }
        return {**without_new_keys(contents), "builder": OLD_BUILDER_VERSION} if data.old else contents

    def _static_contents(self, data: DataIdentity) -> dict[str, Any]:
        named = {"data": data.fingerprint, "classes": list(data.classes)}
        contents = {**self._static_contents_without_data, **named}
        return old_static_contents(contents, data.fingerprint) if data.old else contents

    @cached_property
    def _static_contents_without_data(self) -> dict[str, Any]:
        model, training = self.context.model, self.static_training
        return static_contents(model, training, self.dataset, self.recipe.seed, data="")

    def path(self, part: Part) -> Path:
        """The cache file of a part; its name carries the fingerprint."""
        return self.context.folder / f"frames-{part}-{fingerprint(self.contents(part))[:16]}.h5"

    def static(self, on_progress: Progress) -> tuple[Segmenter, Path]:
        """The static network in evaluation mode and the file of its weights; trained if that is not there.

        Raises:
            InputError: data or weights cannot be used; training diverges.
        """
        model, training, folder = self.context.model, self.static_training, self.context.folder
        contents = self.static_contents
        # Two searches may need the same network and different caches.
        with folder_lock(folder / LOCK):
            if not static_path(folder, contents).exists():
                self.check_may_build(static_path(folder, contents))
            return prepared_static(
                model, training, self.dataset, folder, self.recipe.seed, on_progress, contents
            )

    def build(self, on_progress: Progress) -> None:
        """Make the cache files that are not there or not whole, and the static network.

        Raises:
            InputError: see :meth:`static`; the disk is full.
        """
        for part in self.parts:
            prepare_cache(
                self.path(part),
                lambda part=part: self._write(part, on_progress),  # type: ignore[misc]
                self.context.check,
                on_progress,
            )

    def open(self, part: Part) -> CacheReader:
        """The cache file of a part.

        Raises:
            InputError: it cannot be read, or was made from other contents.
        """
        return CacheReader(self.path(part), expect=self.contents(part))

    def _write(self, part: Part, on_progress: Progress) -> None:
        self.check_may_build(self.path(part))
        self.dataset.images.require()
        static, weights = self.static(on_progress)
        views = self.parts[part]
        samples = (
            train_views(self.dataset, views, self.recipe, self.normalisation)
            if part == "train"
            else val_frames(self.dataset, views, self.recipe)
        )
        write_frames(
            self.path(part),
            self.dataset.while_unchanged(samples),
            len(views),
            static,
            self.normalisation,
            self.recipe.dtype,
            self.contents(part),
            {"static_sha256": file_sha256(weights), "static_file": weights.name},
            on_progress,
            reduced_labels=part == "train" and self.recipe.loss_size == "logits",
        )


def check_static(reader: CacheReader, weights: Path) -> None:
    """Refuse a cache whose static network is not the one at ``weights``.

    Raises:
        InputError: it is another one.
    """
    wanted, found = reader.header.attributes["static_sha256"], file_sha256(weights)
    if found != wanted:
        raise InputError(
            f"a cache and the static network beside it must belong together: {wanted[:16]}",
            value=found[:16],
            where=weights,
            repair=f"Delete {reader.path.name}: the next run builds it again.",
        )
