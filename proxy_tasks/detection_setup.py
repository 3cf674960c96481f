"""What the cache of the detection proxy task is made from: data, split, backbone; and its fingerprint."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from feature_cache.format import fingerprint
from feature_cache.header import Header
from nasperc.assembly.datasets import open_split
from nasperc.assembly.detector import Baseline
from nasperc.data.batch import collate
from nasperc.data.dataset import DetectionDataset
from nasperc.data.normalisation import Normalisation, get_normalisation
from nasperc.errors import InputError
from nasperc.models.backbones.build import build_backbone
from nasperc.models.backbones.weights import load_backbone_weights
from nasperc.models.fcos.preset import FCOSPreset
from nasperc.models.features import FeatureSpec
from nasperc.old_files import without_new_keys
from nasperc.torch_files import file_sha256
from nasperc.training.averaging import reestimate_batch_norm
from proxy_tasks.base import Progress, TaskContext
from proxy_tasks.cached_setup import CachedSetup, DataIdentity
from proxy_tasks.detection_cache import CHUNK, STRIDES, write_cache
from proxy_tasks.detection_recipe import DetectionProxyRecipe
from proxy_tasks.detection_views import ImageSplit, split_images, views
from proxy_tasks.finetune import finetune, is_finetuned, save_backbone

# Raised when the records of one recipe change.
BUILDER_VERSION = 3
# Of the last builder before the bytes of images counted.
OLD_BUILDER_VERSION = 2
# What fine-tuned weights depend on, of the cache's contents.
FINETUNE_CONTENTS = (
    "builder",
    "data",
    "images",
    "classes",
    "backbone",
    "backbone_recipe",
    "weights",
    "normalisation",
    "preset",
    "finetune",
    "meta_train",
    "seed",
)


class DetectionSetup(CachedSetup):
    """Everything is opened when it is first asked for.

    Args:
        recipe: of the proxy task.
        context: see :class:`TaskContext`.
        preset: of the head.
    """

    CACHES = "cache-*.h5"

    def __init__(self, recipe: DetectionProxyRecipe, context: TaskContext, preset: FCOSPreset) -> None:
        super().__init__(context)
        self.recipe, self.preset = recipe, preset

    @cached_property
    def dataset(self) -> DetectionDataset:
        """The train split: all that the search sees."""
        return open_split(self.context.data, "train", self.context.folder)

    @cached_property
    def split(self) -> ImageSplit:
        """Meta-train and meta-val.

        Raises:
            InputError: fewer than two images.
        """
        return split_images(len(self.dataset), self.recipe)

    def check_parts(self) -> None:
        """See :meth:`CachedSetup.check_parts`."""
        for part, images in (("meta-train", self.split.train), ("meta-val", self.split.val)):
            if not self.dataset.subset(images).objects():
                raise InputError(
                    f"{part} must show at least one object that is not crowd or difficult",
                    value=f"none in {len(images)} of the train split's {len(self.dataset)} images",
                    where="recipe keys proxy.seed and proxy.meta_train",
                    repair="Use more images with objects, another seed, or another share.",
                )

    def data_in(self, header: Header) -> Mapping[str, Any] | None:
        """See :meth:`CachedSetup.data_in`; of another number of images, the split would be another."""
        return header.contents if header.records == self.records else None

    @property
    def records(self) -> int:
        """Views in the cache."""
        return len(self.split.train) * self.recipe.views + len(self.split.val) * self.recipe.val_views

    @cached_property
    def features(self) -> tuple[FeatureSpec, ...]:
        """What the backbone puts out, C2 to C5."""
        with torch.device("meta"):
            backbone = build_backbone(self.context.model.backbone)
        features: tuple[FeatureSpec, ...] = backbone.out  # type: ignore[assignment]
        return features

    @cached_property
    def normalisation(self) -> Normalisation:
        """Of the backbone's input."""
        return get_normalisation(self.context.model.backbone.input_normalisation())

    @cached_property
    def finetunes(self) -> bool:
        """Whether the backbone is trained before caching: not if it was already, or the recipe says no."""
        return self.recipe.finetune and not is_finetuned(self.context.model.backbone.weights)

    @property
    def contents(self) -> dict[str, Any]:
        """Plain values that cached records depend on; their hash is the cache's fingerprint."""
        return self.contents_of(self.identity)

    def contents_of(self, data: DataIdentity) -> dict[str, Any]:
        """The contents of a cache of data that are known by that."""
        contents = {**self._contents, "data": data.fingerprint, "classes": list(data.classes)}
        return {**without_new_keys(contents), "builder": OLD_BUILDER_VERSION} if data.old else contents

    @cached_property
    def _contents(self) -> dict[str, Any]:
        """All of them but what the data set is known by."""
        recipe, backbone = self.recipe, self.context.model.backbone
        training = {"width": recipe.finetune_width, **recipe.finetune_training.model_dump(mode="json")}
        # Infinity is no JSON number.
        sizes = [[str(low), str(high)] for low, high in self.preset.sizes_of_interest]
        return {
            "builder": BUILDER_VERSION,
            "images": self.dataset.rules.model_dump(mode="json"),
            "backbone": backbone.name,
            "backbone_recipe": backbone.model_dump(mode="json", exclude={"name", "weights", "normalisation"}),
            "weights": None if backbone.weights is None else file_sha256(backbone.weights),
            "normalisation": self.normalisation.name,
            "preset": self._preset_contents,
            "finetune": training if self.finetunes else None,
            "short_side": recipe.short_side,
            "crop": recipe.crop,
            "flip": recipe.flip,
            "views": [recipe.views, recipe.val_views],
            "meta_train": recipe.meta_train,
            "seed": recipe.seed,
            "strides": list(STRIDES),
            "sizes_of_interest": sizes,
            "interest_scale": recipe.interest_scale,
            # Without weights or fine-tuning the backbone's statistics are estimated over so many batches.
            "bn_batches": recipe.bn_batches if backbone.weights is None and not self.finetunes else None,
            "centre_sampling_radius": self.preset.centre_sampling_radius,
            "crowd": self.preset.crowd,
            "dtype": recipe.dtype,
        }

    @property
    def _preset_contents(self) -> dict[str, str]:
        """All keys that fine-tuning trains by; without it the targets' own keys (below) say everything."""
        # As text, since the sizes of interest end in infinity, which is no JSON number.
        return {key: repr(value) for key, value in self.preset.model_dump().items()} if self.finetunes else {}

    @property
    def cache_path(self) -> Path:
        """The cache file; its name carries the fingerprint."""
        return self.context.folder / f"cache-{fingerprint(self.contents)[:16]}.h5"

    def build(self, device: torch.device, on_progress: Progress) -> None:
        """Make the cache file, and the fine-tuned weights if they are not there yet.

        Raises:
            InputError: data or weights cannot be used; the disk is full; fine-tuning diverges.
        """
        self.check_may_build(self.cache_path)
        self.dataset.images.require()
        backbone, attributes = self.backbone(device, on_progress)
        write_cache(
            self.cache_path,
            self.dataset,
            self.split,
            backbone,
            self.normalisation,
            self.preset,
            self.recipe,
            self.contents,
            attributes,
            on_progress,
        )

    def backbone(self, device: torch.device, on_progress: Progress) -> tuple[nn.Module, dict[str, Any]]:
        """The backbone that features are taken from, in evaluation mode, and the cache's attributes.

        It is fine-tuned unless it was before.

        Raises:
            InputError: data or weights cannot be used; fine-tuning diverges.
        """
        recipe = self.context.model.backbone
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.recipe.seed)
            backbone = build_backbone(recipe)
        if recipe.weights is not None:
            load_backbone_weights(backbone, recipe.weights)
        backbone = backbone.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        attributes: dict[str, Any] = {"finetuned_sha256": None, "finetuned_file": None}
        if self.finetunes:
            weights = self._finetuned_weights(backbone, on_progress)
            attributes = {"finetuned_sha256": file_sha256(weights), "finetuned_file": weights.name}
        elif recipe.weights is None:
            # Without training there are no statistics, and without them random features fade to constants.
            reestimate_batch_norm(backbone, (images.to(device) for images in self._images()))
        return backbone.eval(), attributes

    def _finetuned_weights(self, backbone: nn.Module, on_progress: Progress) -> Path:
        """Fine-tune ``backbone``, or load what an earlier preparation fine-tuned."""
        contents = {name: self.contents[name] for name in FINETUNE_CONTENTS}
        key = fingerprint(contents)[:16]
        weights = self.context.folder / f"backbone-{key}.pth"
        if weights.exists():
            try:
                load_backbone_weights(backbone, weights)
            except InputError as error:
                repair = "Delete the file: the backbone is fine-tuned again by the next run."
                raise InputError(error.rule, value=error.value, where=weights, repair=repair) from error
            return weights
        finetune(
            backbone,
            Baseline(self.recipe.finetune_width, self.recipe.finetune_width),
            self.dataset.subset(self.split.train),
            self.normalisation,
            self.preset,
            self.recipe,
            self.context.folder / f"finetune-{key}.pt",
            on_progress,
        )
        save_backbone(weights, backbone, contents)
        return weights

    def _images(self) -> Iterator[Tensor]:
        """A few batches of meta-train crops (N, 3, H, W)."""
        samples = views(self.dataset, self.split, self.recipe)
        total = min(len(self.split.train) * self.recipe.views, CHUNK * self.recipe.bn_batches)
        for start in range(0, total, CHUNK):
            chunk = list(islice(samples, min(CHUNK, total - start)))
            yield collate(chunk, self.normalisation).images
