"""Cached features of a chosen FPN, for the stage that searches the head on them (thesis 7.4.1).

The FPN is trained once, in a detector with the original head on meta-train, by the recipe of the fine-tuning
and from the fine-tuned backbone; then P3 to P7 of every view are cached like the backbone's features are.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from feature_cache.format import fingerprint
from feature_cache.opening import read_header
from feature_cache.reader import CacheReader
from nasperc.assembly.detector import Searched
from nasperc.errors import InputError
from nasperc.models.features import FeatureSpec
from nasperc.old_files import without_new_keys
from proxy_tasks.base import Progress
from proxy_tasks.cache_check import prepare_cache
from proxy_tasks.detection_cache import DetectionCache, write_cache
from proxy_tasks.detection_setup import DetectionSetup
from proxy_tasks.finetune import finetune
from search_spaces.base import ORIGINAL, Part

LEVELS = ("P3", "P4", "P5", "P6", "P7")


class Pyramid(nn.Module):
    """Backbone and neck: ``forward(images (N, 3, H, W))`` -> P3 to P7, as in ``out``."""

    def __init__(self, backbone: nn.Module, neck: nn.Module) -> None:
        super().__init__()
        self.backbone, self.neck = backbone, neck
        self.out: tuple[FeatureSpec, ...] = neck.out  # type: ignore[assignment]

    def forward(self, images: Tensor) -> list[Tensor]:
        levels: list[Tensor] = self.neck(self.backbone(images))
        return levels


class CachedNeck(nn.Module):
    """Stands where the neck stood: the cached levels are its output already."""

    def __init__(self, out: tuple[FeatureSpec, ...]) -> None:
        super().__init__()
        self.out = out

    def forward(self, levels: list[Tensor]) -> list[Tensor]:
        return levels


class PyramidCache:
    """The cache file of one FPN at one width.

    Args:
        setup: of the proxy task: data, split, backbone.
        fpn: the FPN's tokens, or ``original``.
        widths: channels by part.
    """

    def __init__(self, setup: DetectionSetup, fpn: Part, widths: Mapping[str, int]) -> None:
        self._setup, self._fpn, self._widths = setup, fpn, dict(widths)
        space = setup.context.space
        # Also when the backbone's weights are fine-tuned ones, the FPN has to be trained.
        training = setup.recipe.finetune_training.model_dump(mode="json")
        self.contents: dict[str, Any] = {
            **setup.contents,
            "fpn": fpn if isinstance(fpn, str) else list(fpn),
            "space": [space.name, space.version, space.variant],
            "widths": self._widths,
            "fpn_training": training,
            "head": {key: repr(value) for key, value in setup.preset.model_dump().items()},
        }
        if setup.old:
            self.contents = without_new_keys(self.contents)

    @property
    def path(self) -> Path:
        """The cache file; its name carries the fingerprint."""
        return self._setup.context.folder / f"pyramid-{fingerprint(self.contents)[:16]}.h5"

    def build(self, device: torch.device, on_progress: Progress) -> None:
        """Train the FPN and write the file, unless it is there and whole.

        Raises:
            InputError: data or weights cannot be used; the disk is full; the training diverges; the fine-tuned
                backbone is not that of the run's cache.
        """
        check = self._setup.context.check
        prepare_cache(self.path, lambda: self._build(device, on_progress), check, on_progress)

    def open(self, device: torch.device) -> DetectionCache:
        """The features and targets of every view.

        Raises:
            InputError: the file is not there, or cannot be read.
        """
        if not self.path.exists():
            raise InputError(
                "the features of the fixed FPN must be cached before its heads are trained",
                value="no such file",
                where=self.path,
                repair="Resume the search: it is built again.",
            )
        setup = self._setup
        reader = CacheReader(self.path, expect=self.contents)
        return DetectionCache(reader, LEVELS, len(setup.split.train) * setup.recipe.views, device)

    def _check_backbone(self, found: str | None) -> None:
        """Heads are searched on features of the backbone that the FPN was searched on."""
        path = self._setup.cache_path
        wanted = read_header(path).attributes.get("finetuned_sha256") if path.exists() else found
        if found != wanted:
            raise InputError(
                f"the fine-tuned backbone must be the one that {path.name} was made with: {str(wanted)[:16]}",
                value=str(found)[:16],
                where=self._setup.context.folder,
                repair=f"Restore its file, or delete {path.name}: the next run builds it again, as another cache.",
            )

    def _build(self, device: torch.device, on_progress: Progress) -> None:
        setup = self._setup
        setup.check_may_build(self.path)
        backbone, attributes = setup.backbone(device, on_progress)
        self._check_backbone(attributes["finetuned_sha256"])
        space = setup.context.space
        neck = space.part_of("neck")
        architecture = space.architecture(
            {part: self._fpn if part == neck else ORIGINAL for part in space.parts}
        )
        detector = finetune(
            backbone,
            Searched(space, architecture, self._widths),
            setup.dataset.subset(setup.split.train),
            setup.normalisation,
            setup.preset,
            setup.recipe,
            self.path.with_suffix(".training.pt"),
            lambda _, fraction: on_progress("training the FPN", fraction),
        )
        write_cache(
            self.path,
            setup.dataset,
            setup.split,
            Pyramid(detector.backbone, detector.neck).eval(),
            setup.normalisation,
            setup.preset,
            setup.recipe,
            self.contents,
            attributes,
            on_progress,
        )
