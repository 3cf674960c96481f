"""The proxy task ``detection``: a decoder on cached backbone features, scored by equation 7.2."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, ClassVar

import torch
from pydantic import BaseModel
from torch import nn

from controllers.base import Candidate, Result
from feature_cache.format import fingerprint
from feature_cache.reader import CacheReader
from nasperc.assembly.detector import Searched, build_decoder, build_detector
from nasperc.evaluation.cost import measure_module_cost
from nasperc.evaluation.latency import Latency, measure_latency
from proxy_tasks.base import Progress, ProxyTask, TaskContext, no_progress
from proxy_tasks.detection_ap import ValidationAP
from proxy_tasks.detection_cache import STRIDES, DetectionCache
from proxy_tasks.detection_pyramid import CachedNeck, PyramidCache
from proxy_tasks.detection_recipe import DetectionProxyRecipe
from proxy_tasks.detection_setup import DetectionSetup
from proxy_tasks.detection_training import Decoder, DecoderTraining
from proxy_tasks.failure import failed, release_memory
from proxy_tasks.folder_lock import folder_lock
from proxy_tasks.stopwatch import Stopwatch
from search_spaces.base import Architecture, Part, Stage

# The GPU keeps the cache if it fills at most this share of its free memory.
GPU_SHARE = 0.5
# Cost is counted on this many crops: GroupNorm refuses a single value a group.
CROPS = 2
LATENCY_RUNS = 5


class DetectionProxy(ProxyTask):
    """Trains a neck and a head on cached features of a frozen backbone (thesis 7.3.3, 7.4.1).

    Rewards are bit for bit the same in every process of a machine on CPU; on CUDA some backward kernels add
    in no fixed order.
    """

    Recipe: ClassVar[type[BaseModel]] = DetectionProxyRecipe

    def __init__(self, recipe: BaseModel, context: TaskContext) -> None:
        assert isinstance(recipe, DetectionProxyRecipe)
        self.recipe = recipe
        self.space = context.space
        self.preset = context.model.head_preset()
        self.setup = DetectionSetup(recipe, context, self.preset)
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
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
        path = self.setup.cache_path
        if not path.exists():
            with folder_lock(path.with_suffix(".lock")):
                # Another process may have made it while this one waited.
                if not path.exists():
                    self.setup.build(self.device, on_progress)
        reader = CacheReader(path, expect=self.setup.contents)
        features = [spec.name for spec in self.setup.features]
        train = len(self.setup.split.train) * self.recipe.views
        self._cache = self._resident(DetectionCache(reader, features, train, self.device))
        stages = [self.recipe, *(self.recipe.for_stage(stage.overrides) for stage in self.space.stages())]
        if any(recipe.needs_ap for recipe in stages):
            classes = self.setup.dataset.classes
            self._validation_ap = ValidationAP(self._cache, classes, self.preset, self.recipe.crop)

    @classmethod
    def prepares_stages(cls, recipe: BaseModel) -> bool:
        """The head stage on cached FPN features needs that FPN."""
        assert isinstance(recipe, DetectionProxyRecipe)
        return recipe.head_stage == "cached_fpn"

    def prepare_stage(
        self, stage: Stage, fixed: Mapping[str, Part], on_progress: Progress = no_progress
    ) -> None:
        """See :meth:`ProxyTask.prepare_stage`: trains and caches the FPN of a stage that searches the head."""
        if self.recipe.head_stage == "cached_fpn" and stage.free == ("head",):
            PyramidCache(self.setup, fixed["fpn"], stage.widths).build(self.device, on_progress)

    def evaluate(self, candidate: Candidate, on_progress: Progress = no_progress) -> Result:
        """See :meth:`ProxyTask.evaluate`."""
        started = time.perf_counter()
        try:
            with _threads(self.recipe.num_threads), self._seeded(candidate.seed):
                result = self._evaluate(candidate, on_progress)
        except Exception as error:
            result = failed(error)
        if result.transient:
            release_memory()
        return replace(result, seconds=time.perf_counter() - started)

    def training(self, candidate: Candidate, stopwatch: Stopwatch | None = None) -> DecoderTraining:
        """The candidate's decoder, initialised by its seed and checked, ready to be trained.

        Raises:
            InputError: the stage's overrides or widths do not fit.
            RuntimeError: the network that was built is not the one that was sampled.
        """
        return self._training(candidate, self.modules(candidate), stopwatch)

    def _training(
        self, candidate: Candidate, modules: dict[str, nn.Module], stopwatch: Stopwatch | None = None
    ) -> DecoderTraining:
        recipe, cache = self.recipe.for_stage(candidate.overrides), self.cache
        pyramid = self._pyramid(candidate)
        if pyramid is not None:
            modules = {**modules, "neck": CachedNeck(modules["neck"].out)}  # type: ignore[arg-type]
            cache = pyramid
        decoder = Decoder(modules).to(self.device)
        validation_ap = self._validation_ap if recipe.needs_ap else None
        return DecoderTraining(decoder, cache, recipe, self.preset, candidate.seed, stopwatch, validation_ap)

    def modules(self, candidate: Candidate) -> dict[str, nn.Module]:
        """``neck`` and ``head`` of a candidate, initialised by its seed and checked.

        Raises:
            InputError: the stage's widths do not fit.
            RuntimeError: the network that was built is not the one that was sampled.
        """
        with self._seeded(candidate.seed):
            modules = build_decoder(
                Searched(self.space, candidate.architecture, candidate.widths),
                self.setup.features,
                len(self.setup.dataset.classes),
                self.preset,
            )
        built, sampled = self.space.read_back(modules), dict(candidate.architecture.parts)
        if built != sampled:
            raise RuntimeError(f"the network that was built is {built}, sampled was {sampled}")
        strides = tuple(spec.stride for spec in modules["neck"].out)  # type: ignore[union-attr]
        if strides != STRIDES:
            raise RuntimeError(f"a neck must put out strides {STRIDES}, got {strides}")
        return modules

    def _pyramid(self, candidate: Candidate) -> DetectionCache | None:
        """The cached features of a candidate's FPN, in a stage that searches heads on them."""
        stage = next((stage for stage in self.space.stages() if stage.name == candidate.stage), None)
        if self.recipe.head_stage != "cached_fpn" or stage is None or stage.free != ("head",):
            return None
        pyramid = PyramidCache(self.setup, candidate.architecture.parts["fpn"], candidate.widths)
        name = pyramid.path.name
        if name not in self._pyramids:
            # One at a time: stages follow one another, and on a GPU a cache is resident.
            self._pyramids = {name: self._resident(pyramid.open(self.device))}
        return self._pyramids[name]

    def _resident(self, cache: DetectionCache) -> DetectionCache:
        """The cache, on the GPU if it fits."""
        if self.device.type == "cuda":
            free, _ = torch.cuda.mem_get_info(self.device)
            if cache.reader.nbytes < GPU_SHARE * free:
                cache.reader.to_device(self.device)
        return cache

    def fingerprint(self) -> str:
        """See :meth:`ProxyTask.fingerprint`."""
        space = [self.space.name, self.space.version, self.space.variant]
        # Text, because the sizes of interest end in infinity, which JSON does not have.
        preset = repr(self.preset.model_dump())
        recipe = self.recipe.model_dump(mode="json")
        return fingerprint({"cache": self.setup.contents, "recipe": recipe, "preset": preset, "space": space})

    def latency(self, architecture: Architecture, widths: Mapping[str, int]) -> Latency:
        """Of backbone and decoder on one crop, with random weights."""
        searched = Searched(self.space, architecture, widths)
        with self._seeded(self.recipe.seed):
            classes = len(self.setup.dataset.classes)
            detector = build_detector(self.setup.context.model, searched, classes, load_weights=False)
            return measure_latency(detector, (self.recipe.crop, self.recipe.crop), runs=LATENCY_RUNS)

    def notes(self) -> list[str]:
        """Boxes that were dropped or clipped."""
        return self.setup.dataset.report.lines()

    def description(self) -> dict[str, Any]:
        """See :meth:`ProxyTask.description`; ``finetuned_sha256``: of the weights that made the features."""
        contents, header = self.setup.contents, self.cache.reader.header
        return {
            "data": {
                "fingerprint": contents["data"],
                "classes": contents["classes"],
                "normalisation": contents["normalisation"],
            },
            "weights": {
                "sha256": contents["weights"],
                "finetuned_sha256": header.attributes["finetuned_sha256"],
                "finetuned_file": header.attributes["finetuned_file"],
            },
            "cache": {"fingerprint": header.fingerprint, "file": self.cache.reader.path.name},
        }

    def _evaluate(self, candidate: Candidate, on_progress: Progress) -> Result:
        modules = self.modules(candidate)
        # Of neck and head, whether the neck is trained here or its features are cached.
        cost = measure_module_cost(Decoder(modules), self._feature_shapes())
        training = self._training(candidate, modules)
        halfway, final = training.run(candidate.threshold, on_progress)
        last = final or halfway
        assert last is not None
        return Result(
            status="completed" if final is not None else "stopped",
            reward=None if final is None else final.reward,
            halfway=None if halfway is None else halfway.reward,
            metrics={
                "loss_classification": last.classification,
                "loss_box": last.box,
                "loss_centerness": last.centerness,
                **({} if last.ap is None else {"ap": last.ap}),
                **{f"seconds_{name}": value for name, value in training.stopwatch.summary().items()},
            },
            cost={"flops": cost.flops // CROPS, "params": cost.params_trainable},
        )

    def _feature_shapes(self) -> list[torch.Tensor]:
        """The features of ``CROPS`` crops on the meta device."""
        crop = self.recipe.crop
        return [
            torch.empty(CROPS, spec.channels, crop // spec.stride, crop // spec.stride, device="meta")
            for spec in self.setup.features
        ]

    @contextmanager
    def _seeded(self, seed: int) -> Iterator[None]:
        """Random numbers from ``seed``; outside they go on as if nothing had been drawn."""
        with torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else []):
            torch.manual_seed(seed)
            yield


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
