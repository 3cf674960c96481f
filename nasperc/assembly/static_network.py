"""The per-frame network that dynamic cells are put on: trained once, by search and full training alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from feature_cache.format import fingerprint
from nasperc.assembly.recipe import ModelRecipe
from nasperc.assembly.segmenter import build_static
from nasperc.data.normalisation import get_normalisation
from nasperc.data.video import VideoDataset
from nasperc.errors import InputError
from nasperc.models.segmenter import Segmenter
from nasperc.old_files import without_new_keys
from nasperc.torch_files import file_sha256
from nasperc.training.device import to_device
from nasperc.training.loop import train
from nasperc.training.segmentation_recipe import StaticTrainingRecipe
from nasperc.training.segmenter_plans import static_plan
from nasperc.training.training_run import TrainingRun

# Raised when the same recipe trains another network.
TRAINER_VERSION = 2
# Of the last trainer before the bytes of images counted.
OLD_TRAINER_VERSION = 1
PHASE = "pre-training"
# To be held by whoever asks for a network, so that of several processes one trains it.
LOCK = "static.lock"

Progress = Callable[[str, float], None]


def prepared_static(
    model: ModelRecipe,
    recipe: StaticTrainingRecipe,
    dataset: VideoDataset,
    folder: Path,
    seed: int,
    on_progress: Progress = lambda phase, fraction: None,
    contents: Mapping[str, Any] | None = None,
) -> tuple[Segmenter, Path]:
    """The network from its file below ``folder``, trained first where it is missing.

    An interrupted training continues where it was, bit for bit. Processes that share ``folder`` take turns
    (:data:`LOCK`).

    Args:
        model: names backbone (with its weights) and decoder.
        recipe: of the training.
        dataset: the train split; all of it is used, as in the thesis.
        folder: of prepared files; the file is ``static-<fingerprint>.pt``.
        seed: of initialisation, batches and augmentation.
        on_progress: called with ``pre-training`` and the fraction done.
        contents: those of :func:`static_contents`, or of :func:`old_static_contents`; None: the former.

    Returns:
        The network in evaluation mode, without auxiliary classifiers, on the GPU where there is one; its file.

    Raises:
        InputError: weights, data or the file cannot be used; a loss is not finite.
        KeyboardInterrupt: Ctrl-C; a checkpoint was written.
    """
    if contents is None:
        contents = static_contents(model, recipe, dataset, seed)
    path = static_path(folder, contents)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = build_static(
            model,
            len(contents["classes"]),
            load_weights=not path.exists(),
            auxiliary=recipe.auxiliary_weight > 0,
        )
    to_device(network)
    plan = static_plan(
        network,
        dataset,
        recipe,
        normalisation=get_normalisation(model.backbone.input_normalisation()),
        seed=seed,
        identity=contents,
    )
    run = TrainingRun(network, plan, seed=seed, checkpoint=path)
    result = train(run, on_step=lambda step, _: on_progress(PHASE, step / plan.settings.iterations))
    if result.resumed_at < result.iterations:
        try:
            dataset.check_unchanged()
        except InputError:
            path.unlink(missing_ok=True)
            raise
    network.auxiliary = nn.ModuleList()
    return network, path


def static_path(folder: Path, contents: Mapping[str, Any]) -> Path:
    """The file of a network below the folder of prepared files; its name carries the fingerprint."""
    return folder / f"static-{fingerprint(contents)[:16]}.pt"


def static_contents(
    model: ModelRecipe,
    recipe: StaticTrainingRecipe,
    dataset: VideoDataset,
    seed: int,
    data: str | None = None,
) -> dict[str, Any]:
    """Plain values that the trained network depends on.

    Args:
        model, recipe, dataset, seed: see :func:`prepared_static`.
        data: fingerprint of the data set, where it is known; None: the data set's own.

    Raises:
        InputError: the weights, an image or a label map cannot be read.
    """
    backbone = model.backbone
    return {
        "trainer": TRAINER_VERSION,
        "decoder": model.segmentation_decoder,
        "backbone": backbone.model_dump(mode="json", exclude={"weights", "normalisation"}),
        "weights": None if backbone.weights is None else file_sha256(backbone.weights),
        "normalisation": backbone.input_normalisation(),
        "training": recipe.model_dump(mode="json", exclude={"checkpoint_every"}),
        "seed": seed,
        "data": dataset.fingerprint() if data is None else data,
        "images": dataset.rules.model_dump(mode="json"),
        "classes": list(dataset.classes),
    }


def old_static_contents(contents: Mapping[str, Any], data: str) -> dict[str, Any]:
    """Contents as they were before the bytes of images counted; ``data``: the data set's fingerprint of that time."""
    return {**without_new_keys(contents), "trainer": OLD_TRAINER_VERSION, "data": data}
