"""Readers of weights, caches and tables of scores."""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import binary_mutations
from target import Read, reference_architecture


def _saved(content: Any, **options: Any) -> bytes:
    import torch

    buffer = io.BytesIO()
    # With checksums every mutation would end at the first of them.
    before = torch.serialization.get_crc32_options()
    torch.serialization.set_crc32_options(False)
    try:
        torch.save(content, buffer, **options)
    finally:
        torch.serialization.set_crc32_options(before)
    return buffer.getvalue()


def checkpoint_seeds() -> list[bytes]:
    from nasperc.assembly.detector import Baseline, Searched
    from nasperc.assembly.recipe import ModelRecipe
    from nasperc.recipe.reading import parse_recipe
    from nasperc.search.components import build_space
    from nasperc.tasks.detection.trained import describe

    recipe = parse_recipe({}, where="fuzz")
    space = build_space(recipe)
    values = reference_architecture()
    architecture = space.from_dict(
        {key: values[key] for key in ("space", "version", "variant", "parts")}, where=""
    )
    rest = {
        "format": "nasperc-checkpoint/1",
        "classes": ["cat", "dog"],
        "normalisation": "imagenet",
        "step": 3,
    }
    rest |= {"training": recipe.fulltrain.model_dump(mode="json"), "finished": True, "model": {}}
    decoders = (Baseline(32, 32, 1), Searched(space, architecture, {"fpn": 32, "head": 32}))
    descriptions = [describe(ModelRecipe(), decoder, recipe.space) for decoder in decoders]
    descriptions += _segmenters()
    return [_saved({**description, **rest}) for description in descriptions]


def _segmenters() -> list[dict[str, Any]]:
    from nasperc.assembly.detector import Searched
    from nasperc.assembly.recipe import ModelRecipe
    from nasperc.recipe.root import ComponentSection
    from nasperc.tasks.video.trained import describe_segmenter
    from search_spaces.dynamic_cell import DynamicCell, DynamicCellRecipe

    space = DynamicCell(DynamicCellRecipe(variant="4_layers"))
    cell = Searched(space, space.architecture({"cell": (0, 1, 2, 3, 4) * 4}), {"cell": 32})
    section = ComponentSection(name="dynamic_cell", variant="4_layers")
    return [describe_segmenter(ModelRecipe(), each, section) for each in (None, cell)]


def open_checkpoint(folder: Path) -> Read:
    """Everything of ``load_trained``; the network lies on the meta device, where widths cost nothing."""
    import torch

    from nasperc.tasks.lookup import load_trained

    def read(data: bytes) -> None:
        (folder / "checkpoint.pt").write_bytes(data)
        with torch.device("meta"):
            load_trained(folder / "checkpoint.pt")

    return read


def _training(checkpoint: Path) -> Any:
    """A training of a small network at its beginning, with two optimisers and averages."""
    import torch
    from torch import nn

    from nasperc.training.optimizer import Optimizers
    from nasperc.training.plan import LoopSettings, TrainingPlan
    from nasperc.training.training_run import TrainingRun

    model = nn.Sequential(nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3), nn.Conv2d(3, 1, 1))
    sgd, adam = ([{"params": list(model[layer].parameters()), "lr": 0.1, "base_lr": 0.1}] for layer in (0, 2))
    optimizers = Optimizers(
        (torch.optim.SGD(sgd, momentum=0.9, fused=True), lambda step: 0.5),
        (torch.optim.Adam(adam, fused=True), lambda step: 1.0),
    )
    # Of batches and losses the checkpoint knows nothing.
    plan = TrainingPlan(
        settings=LoopSettings(iterations=4, checkpoint_every=2, ema_decay=0.5),
        batches=None,  # type: ignore[arg-type]
        optimizers=optimizers,
        losses=lambda model, batch: {},
        identity={"training": {"iterations": 4}, "seed": 1, "classes": ["cat", "dog"]},
    )
    return TrainingRun(model, plan, seed=1, checkpoint=checkpoint)


def _iterate(run: Any) -> None:
    import torch

    run.optimizers.zero_grad()
    run.model(torch.ones(2, 2, 3, 3)).square().mean().backward()
    run.optimizers.step(run.step)
    run.average.update()
    run.step += 1


def training_seeds() -> list[bytes]:
    """In the middle of a training, and at its end."""
    import tempfile

    with tempfile.TemporaryDirectory() as name:
        run = _training(Path(name) / "checkpoint.pt")
        seeds = []
        for finished in (False, True):
            _iterate(run)
            run.finished = finished
            run.save()
            seeds.append(run.checkpoint.read_bytes())
        return seeds


def open_training(folder: Path) -> Read:
    """A training that is continued: whatever was accepted must serve an iteration, and be written again."""
    # The first step of an optimiser imports half of torch, which no input shall be charged with.
    _iterate(_training(folder / "checkpoint.pt"))

    def read(data: bytes) -> None:
        (folder / "checkpoint.pt").write_bytes(data)
        run = _training(folder / "checkpoint.pt")
        run.load()
        assert 0 <= run.step <= run.settings.iterations
        if not run.finished:
            _iterate(run)
        run.save()

    return read


def weights_seeds() -> list[bytes]:
    import torch

    state = {"weight": torch.ones(2, 3), "bias": torch.zeros(2)}
    record = {
        "backbone": "resnet18",
        "normalisation": "imagenet",
        "converted_from": {"file": "x"},
        "state_dict": state,
    }
    return [_saved(record), _saved(state), _saved({"model": state}, _use_new_zipfile_serialization=False)]


def open_backbone(folder: Path) -> Read:
    from torch import nn

    from nasperc.models.backbones.build import BackboneRecipe
    from nasperc.models.backbones.weights import load_backbone_weights

    path = folder / "w.pth"

    def read(data: bytes) -> None:
        path.write_bytes(data)
        load_backbone_weights(nn.Linear(3, 2), path)
        BackboneRecipe(name="resnet18", weights=path).resolved()

    return read


def open_convert(folder: Path) -> Read:
    from nasperc.convert.conversion import convert
    from nasperc.convert.weights_file import read_weights

    def read(data: bytes) -> None:
        # A pickle of numpy arrays by its name, else a torch file.
        path = folder / ("w.pth" if data[:2] == b"PK" else "w.pkl")
        path.write_bytes(data)
        convert(read_weights(path)).check()

    return read


def _pickle_seeds() -> list[bytes]:
    import numpy as np

    names = ("conv1_w", "res_conv1_bn_s", "res_conv1_bn_b", "res2_0_branch2a_w", "res2_0_branch2b_w")
    arrays = {name: np.ones((4, 3, 3, 3), np.float32) for name in names}
    content = {"model": arrays, "__author__": "MSRA", "n": np.float32(2)}
    return [pickle.dumps(content, protocol) for protocol in (0, 2, 4)]


def convert_seeds() -> list[bytes]:
    import torch

    head = "proposal_generator.fcos_head."
    names = ("cls_tower.0.weight", "cls_logits.weight", "scales.0.scale")
    tensors = {f"{head}{name}": torch.ones(4, 4, 3, 3) for name in names}
    first = {f"backbone.bottom_up.res2.0.conv{n}.weight": torch.ones(64, 64, 3, 3) for n in (1, 2)}
    tensors |= {**first, "backbone.fpn_lateral3.weight": torch.ones(4, 4, 1, 1), "pixel_mean": torch.ones(3)}
    return [
        _saved({"model": tensors}),
        _saved({"layer1.0.conv1.weight": torch.ones(2, 2, 1, 1)}),
        *_pickle_seeds(),
    ]


def convert_mutation(data: bytes, draw: Any) -> bytes:
    return (binary_mutations.torch_content if data[:2] == b"PK" else binary_mutations.pickled)(data, draw)


# Caches and tables


def cache_seeds() -> list[bytes]:
    import tempfile

    import torch

    from feature_cache.format import TensorSpec
    from feature_cache.writer import CacheWriter

    specs = {"C3": TensorSpec((2, 2, 4), "float16"), "small": TensorSpec((3, 2), "uint8", quantised=True)}
    with tempfile.TemporaryDirectory() as name:
        with CacheWriter(Path(name) / "c.h5", specs, 3, {"backbone": "x"}, {"note": 1}) as writer:
            writer.append({"C3": torch.ones(3, 2, 2, 4), "small": torch.rand(3, 3, 2)})
        return [(Path(name) / "c.h5").read_bytes()]


def open_cache(folder: Path) -> Read:
    from feature_cache.opening import read_header
    from feature_cache.verify import verify
    from nasperc.errors import InputError

    def read(data: bytes) -> None:
        (folder / "c.h5").write_bytes(data)
        header = read_header(folder / "c.h5")
        assert all(
            header.offsets[name] + layout.nbytes <= len(data) for name, layout in header.layouts.items()
        )
        try:
            verify(folder / "c.h5")
        except InputError:
            # Data that changed are not looked at when a cache is opened.
            return

    return read


def open_scores(folder: Path) -> Read:
    from search_spaces.table import TableRecipe, TableSpace

    def read(data: bytes) -> None:
        path = folder / ("t.csv.gz" if data[:2] == b"\x1f\x8b" else "t.csv")
        path.write_bytes(data)
        TableSpace(TableRecipe(file=path))

    return read
