"""Records of the detection proxy task that are made on the device and stay there, without a file.

Crops of random rectangles on noise, a colour a class; the features of a backbone with random weights; FCOS
targets of the rectangles.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn

from nasperc.models.backbones.build import BackboneRecipe, build_backbone
from nasperc.models.fcos.preset import FCOSPreset
from nasperc.models.fcos.targets import FCOSTargets, fcos_targets
from nasperc.models.features import FeatureSpec
from nasperc.models.targets import stack_targets
from nasperc.training.averaging import reestimate_batch_norm
from proxy_tasks.detection_cache import CHUNK, STRIDES, TARGETS, DetectionCache, level_sizes
from proxy_tasks.detection_recipe import DetectionProxyRecipe

CLASSES = 20
BOXES = 8


class ResidentRecords:
    """What :class:`DetectionCache` reads: named tensors by record, as a cache file in memory gives them.

    Args:
        tensors: (count, ...) each, on one device; features with channels last, in the recipe's type.
    """

    def __init__(self, tensors: dict[str, Tensor]) -> None:
        self._tensors = tensors
        self.device = next(iter(tensors.values())).device

    def __len__(self) -> int:
        return len(next(iter(self._tensors.values())))

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors."""
        return sum(tensor.nbytes for tensor in self._tensors.values())

    def batch(self, names: Iterable[str], indices: Tensor) -> dict[str, Tensor]:
        """The records at ``indices`` (N,): each named tensor (N, ...)."""
        indices = indices.to(self.device, non_blocking=True)
        return {name: self._tensors[name].index_select(0, indices) for name in names}


def resident_cache(
    crops: int,
    recipe: DetectionProxyRecipe,
    preset: FCOSPreset,
    device: torch.device,
    backbone_name: str = "resnet50",
) -> tuple[DetectionCache, tuple[FeatureSpec, ...]]:
    """``crops`` records, ``recipe.meta_train`` of them to train on, and what their features are."""
    torch.manual_seed(recipe.seed)
    backbone = build_backbone(BackboneRecipe(name=backbone_name))  # type: ignore[arg-type]
    backbone = backbone.to(device, memory_format=torch.channels_last)
    features: tuple[FeatureSpec, ...] = backbone.out  # type: ignore[assignment]
    few = [_images(*_boxes(CHUNK, recipe.crop), recipe.crop, device) for _ in range(recipe.bn_batches)]
    # As the proxy task does without weights: otherwise random features fade to constants.
    reestimate_batch_norm(backbone, few)
    tensors: dict[str, Tensor] = {}
    for start, records in _records(crops, recipe, preset, device, backbone.eval(), features):
        for name, rows in records.items():
            if name not in tensors:
                tensors[name] = rows.new_empty(crops, *rows.shape[1:])
            tensors[name][start : start + len(rows)] = rows
    names = [spec.name for spec in features]
    train = round(crops * recipe.meta_train)
    # The very class that reads a cache file, on records that never were in one.
    return DetectionCache(ResidentRecords(tensors), names, train), features  # type: ignore[arg-type]


def _records(
    crops: int,
    recipe: DetectionProxyRecipe,
    preset: FCOSPreset,
    device: torch.device,
    backbone: nn.Module,
    features: tuple[FeatureSpec, ...],
) -> Iterator[tuple[int, dict[str, Tensor]]]:
    """The number of the first record, and a few records."""
    for start in range(0, crops, CHUNK):
        boxes, labels = _boxes(min(CHUNK, crops - start), recipe.crop)
        with torch.inference_mode():
            maps = backbone(_images(boxes, labels, recipe.crop, device))
        records = {
            spec.name: level.permute(0, 2, 3, 1).to(getattr(torch, recipe.dtype))
            for spec, level in zip(features, maps, strict=True)
        }
        each = [_targets(*pair, preset, recipe) for pair in zip(boxes, labels, strict=True)]
        targets = stack_targets(each)
        yield start, records | {name: getattr(targets, name).to(device) for name in TARGETS}


def _boxes(count: int, crop: int) -> tuple[Tensor, Tensor]:
    """Boxes (count, ``BOXES``, 4) with sides of 1/12 to 3/4 of the crop, and their labels."""
    sides = crop * (1 / 12 + torch.rand(count, BOXES, 2) * (3 / 4 - 1 / 12))
    corners = torch.rand(count, BOXES, 2) * (crop - sides)
    return torch.cat((corners, corners + sides), dim=-1), torch.randint(CLASSES, (count, BOXES))


def _images(boxes: Tensor, labels: Tensor, crop: int, device: torch.device) -> Tensor:
    """Normalised crops (count, 3, crop, crop), channels-last."""
    boxes, labels = boxes.to(device), labels.to(device)
    hue = torch.arange(CLASSES, device=device) * (2 * torch.pi / CLASSES)
    colours = 2 * torch.stack([(hue + shift).sin() for shift in (0.0, 2.1, 4.2)], dim=-1)
    at = torch.arange(crop, device=device) + 0.5
    images = torch.zeros(len(boxes), 3, crop, crop, device=device)
    for number in range(BOXES):
        x1, y1, x2, y2 = boxes[:, number].unbind(-1)
        across = (at > x1[:, None]) & (at < x2[:, None])
        down = (at > y1[:, None]) & (at < y2[:, None])
        inside = (down[:, :, None] & across[:, None, :])[:, None]
        images = torch.where(inside, colours[labels[:, number], :, None, None], images)
    images += 0.2 * torch.randn_like(images)
    return images.contiguous(memory_format=torch.channels_last)


def _targets(boxes: Tensor, labels: Tensor, preset: FCOSPreset, recipe: DetectionProxyRecipe) -> FCOSTargets:
    return fcos_targets(
        boxes,
        labels,
        torch.zeros(len(boxes), dtype=torch.bool),
        level_sizes(recipe.crop),
        STRIDES,
        preset.sizes_of_interest,
        preset.centre_sampling_radius,
        recipe.interest_scale,
    )
