"""Fine-tuning the backbone once, with FPN-FCOS, before its features are cached (thesis 7.4.1)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from nasperc.assembly.detector import Decoder as AnyDecoder
from nasperc.assembly.detector import build_decoder
from nasperc.data.dataset import DetectionDataset
from nasperc.data.normalisation import Normalisation
from nasperc.errors import InputError
from nasperc.models.fcos.model import FCOS
from nasperc.models.fcos.preset import FCOSPreset
from nasperc.torch_files import load_torch_file
from nasperc.training.detection import train
from nasperc.whole_files import writing_whole
from proxy_tasks.base import Progress
from proxy_tasks.detection_recipe import DetectionProxyRecipe

FORMAT = "nasperc-backbone/1"


def is_finetuned(weights: Path | None) -> bool:
    """Whether a weights file was written by :func:`save_backbone`; an unreadable one was not."""
    if weights is None:
        return False
    try:
        content = load_torch_file(weights, rule="weights must be readable", repair="")
    except InputError:
        # Whatever is wrong with it, loading it into the backbone says so.
        return False
    return isinstance(content, dict) and content.get("format") == FORMAT


def save_backbone(path: Path, backbone: nn.Module, description: Mapping[str, Any]) -> None:
    """Write fine-tuned weights, whole or not at all, in a form that ``backbone.weights`` takes."""
    state = {name: tensor.detach().cpu() for name, tensor in backbone.state_dict().items()}
    with writing_whole(path) as part:
        torch.save({"format": FORMAT, "description": dict(description), "state_dict": state}, part)


def finetune(
    backbone: nn.Module,
    decoder: AnyDecoder,
    dataset: DetectionDataset,
    normalisation: Normalisation,
    preset: FCOSPreset,
    recipe: DetectionProxyRecipe,
    checkpoint: Path,
    on_progress: Progress,
) -> FCOS:
    """Train ``backbone`` in place, as part of a detector with ``decoder``; the detector is returned.

    Args:
        backbone: to be fine-tuned.
        decoder: of the detector: FPN-FCOS for the backbone's features (7.4.1), the chosen FPN for its own.
        dataset: meta-train images: meta-val must stay unseen, the rewards are measured there.
        normalisation: the backbone's.
        preset: of the head; its sizes of interest are scaled by the training's short side.
        recipe: of the proxy task.
        checkpoint: an interrupted fine-tuning continues from it; removed at the end.
        on_progress: called with ``fine-tuning`` and the fraction done.

    Raises:
        InputError: an image cannot be read, or was written to meanwhile; the loss diverges.
    """
    training = recipe.finetune_training
    scale = training.sizes_of_interest_scale * training.short_sides[0] / 800
    training = training.model_copy(update={"sizes_of_interest_scale": scale})
    with torch.random.fork_rng():
        torch.manual_seed(recipe.seed)
        parts = build_decoder(decoder, backbone.out, len(dataset.classes), preset)  # type: ignore[arg-type]
    device = next(backbone.parameters()).device
    detector = FCOS(backbone, parts["neck"], parts["head"]).to(device)
    train(
        detector,
        dataset,
        training,
        seed=recipe.seed,
        normalisation=normalisation,
        checkpoint=checkpoint,
        on_step=lambda step, _: on_progress("fine-tuning", step / training.iterations),
    )
    dataset.check_unchanged()
    checkpoint.unlink(missing_ok=True)
    return detector
