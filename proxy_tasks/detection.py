"""The proxy task ``detection``: a decoder on cached backbone features, scored by equation 7.2."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from pydantic import BaseModel
from torch import nn

from controllers.base import Candidate
from feature_cache.reader import CacheReader
from nasperc.assembly.detector import Searched, build_decoder, build_detector
from nasperc.evaluation.cost import measure_module_cost
from nasperc.old_files import NEW_KEYS
from proxy_tasks.base import Progress, TaskContext, no_progress
from proxy_tasks.cache_check import prepare_cache
from proxy_tasks.cached_setup import DataIdentity
from proxy_tasks.cached_task import CachedTask, described_data
from proxy_tasks.detection_ap import ValidationAP
from proxy_tasks.detection_cache import STRIDES, DetectionCache
from proxy_tasks.detection_pyramid import CachedNeck, PyramidCache
from proxy_tasks.detection_recipe import DetectionProxyRecipe
from proxy_tasks.detection_setup import DetectionSetup
from proxy_tasks.detection_training import DecoderTraining, NeckAndHead
from proxy_tasks.stopwatch import Stopwatch
from search_spaces.base import Architecture, Part, Stage

# Cost is counted on this many crops: GroupNorm refuses a single value a group.
CROPS = 2


class DetectionProxy(CachedTask):
    """Trains a neck and a head on cached features of a frozen backbone (thesis 7.3.3, 7.4.1)."""

    Recipe: ClassVar[type[BaseModel]] = DetectionProxyRecipe
    fulltrain: ClassVar[str | None] = "detection"
    recipe: DetectionProxyRecipe
    setup: DetectionSetup

    def __init__(self, recipe: BaseModel, context: TaskContext) -> None:
        assert isinstance(recipe, DetectionProxyRecipe)
        super().__init__(recipe, context)
        self.preset = context.model.head_preset()
        self.setup = DetectionSetup(recipe, context, self.preset)
        self._cache: DetectionCache | None = None
        self._validation_ap: ValidationAP | None = None
        self._pyramids: dict[str, DetectionCache] = {}

    @property
    def cache(self) -> DetectionCache:
        """The open cache."""
        if self._cache is None:
            raise RuntimeError("prepare() must be called first")
        return self._cache

    def prepare(self, on_progress: Progress = no_progress) -> None:
        """See :meth:`ProxyTask.prepare`; a stage that overrides what the cache depends on is refused here."""
        for stage in self.space.stages():
            self.recipe.for_stage(stage.overrides)
        self._read_data(on_progress)
        path = self.setup.cache_path
        prepare_cache(
            path,
            lambda: self.setup.build(self.device, on_progress),
            self.setup.context.check,
            on_progress,
        )
        reader = CacheReader(path, expect=self.setup.contents)
        features = [spec.name for spec in self.setup.features]
        train = len(self.setup.split.train) * self.recipe.views
        self._cache = self._resident(DetectionCache(reader, features, train, self.device))
        stages = [self.recipe, *(self.recipe.for_stage(stage.overrides) for stage in self.space.stages())]
        if any(recipe.needs_ap for recipe in stages):
            self._validation_ap = ValidationAP(self._cache, self.setup.classes, self.preset, self.recipe.crop)

    @classmethod
    def prepares_stages(cls, recipe: BaseModel) -> bool:
        """The head stage on cached FPN features needs that FPN."""
        assert isinstance(recipe, DetectionProxyRecipe)
        return recipe.head_stage == "cached_fpn"

    def prepare_stage(
        self, stage: Stage, fixed: Mapping[str, Part], on_progress: Progress = no_progress
    ) -> None:
        """See :meth:`ProxyTask.prepare_stage`: trains and caches the FPN of a stage that searches the head."""
        neck = self._cached_neck(stage)
        if neck is not None:
            PyramidCache(self.setup, fixed[neck], stage.widths).build(self.device, on_progress)

    def _cached_neck(self, stage: Stage) -> str | None:
        """The part of the neck whose features a stage is searched on; None: candidates train their own neck."""
        neck, head = self.space.part_of("neck"), self.space.part_of("head")
        alone = stage.free == (head,) and neck in stage.fixed
        return neck if alone and self.recipe.head_stage == "cached_fpn" else None

    def _training(
        self, candidate: Candidate, modules: dict[str, nn.Module], stopwatch: Stopwatch | None = None
    ) -> DecoderTraining:
        recipe, cache = self.recipe.for_stage(candidate.overrides), self.cache
        pyramid = self._pyramid(candidate)
        if pyramid is not None:
            modules = {**modules, "neck": CachedNeck(modules["neck"].out)}  # type: ignore[arg-type]
            cache = pyramid
        decoder = NeckAndHead(modules).to(self.device)
        validation_ap = self._validation_ap if recipe.needs_ap else None
        return DecoderTraining(decoder, cache, recipe, self.preset, candidate.seed, stopwatch, validation_ap)

    def _build(self, candidate: Candidate) -> dict[str, nn.Module]:
        modules = build_decoder(
            Searched(self.space, candidate.architecture, candidate.widths),
            self.setup.features,
            len(self.setup.classes),
            self.preset,
        )
        strides = tuple(spec.stride for spec in modules["neck"].out)  # type: ignore[union-attr]
        if strides != STRIDES:
            raise RuntimeError(f"a neck must put out strides {STRIDES}, got {strides}")
        return modules

    def _pyramid(self, candidate: Candidate) -> DetectionCache | None:
        """The cached features of a candidate's FPN, in a stage that searches heads on them."""
        stage = next((stage for stage in self.space.stages() if stage.name == candidate.stage), None)
        neck = None if stage is None else self._cached_neck(stage)
        if neck is None:
            return None
        pyramid = PyramidCache(self.setup, candidate.architecture.parts[neck], candidate.widths)
        name = pyramid.path.name
        if name not in self._pyramids:
            # One at a time: stages follow one another, and on a GPU a cache is resident.
            self._pyramids = {name: self._resident(pyramid.open(self.device))}
        return self._pyramids[name]

    def _resident(self, cache: DetectionCache) -> DetectionCache:
        """The cache, on the GPU if it fits."""
        self._keep_on_device(cache.reader)
        return cache

    def _measured_on(self, data: DataIdentity) -> Mapping[str, Any]:
        # Text, because the sizes of interest end in infinity, which JSON does not have.
        preset = repr(self.preset.model_dump(exclude=set(NEW_KEYS) if data.old else None))
        return {"cache": self.setup.contents_of(data), "preset": preset}

    def _timed(self, architecture: Architecture, widths: Mapping[str, int]) -> nn.Module:
        """Backbone and decoder."""
        searched = Searched(self.space, architecture, widths)
        return build_detector(self.setup.context.model, searched, len(self.setup.classes), load_weights=False)

    @property
    def _timed_size(self) -> tuple[int, int]:
        """One crop."""
        return self.recipe.crop, self.recipe.crop

    def notes(self) -> list[str]:
        """What reading the files told; boxes that were dropped or clipped, images with an EXIF orientation."""
        return [*self.setup.notes, *self.setup.dataset.lines()]

    def description(self) -> dict[str, Any]:
        """See :meth:`ProxyTask.description`; ``finetuned_sha256``: of the weights that made the features."""
        contents, header = self.setup.contents, self.cache.reader.header
        return {
            "data": described_data(contents),
            "weights": {
                "sha256": contents["weights"],
                "finetuned_sha256": header.attributes["finetuned_sha256"],
                "finetuned_file": header.attributes["finetuned_file"],
            },
            "cache": {"fingerprint": header.fingerprint, "file": self.cache.reader.path.name},
        }

    def _cost(self, modules: dict[str, nn.Module]) -> dict[str, float]:
        """Of neck and head on one crop, whether the neck is trained here or its features are cached."""
        cost = measure_module_cost(NeckAndHead(modules), self._feature_shapes())
        return {"flops": cost.flops // CROPS, "params": cost.params_trainable}

    def _feature_shapes(self) -> list[torch.Tensor]:
        """The features of ``CROPS`` crops on the meta device."""
        crop = self.recipe.crop
        return [
            torch.empty(CROPS, spec.channels, crop // spec.stride, crop // spec.stride, device="meta")
            for spec in self.setup.features
        ]
