"""Every reader of files that come from outside: valid documents to begin with, and how one is read.

``open`` gets an empty folder and gives a function that takes the bytes of one input; what it returns does not count,
only that it returns or raises InputError. Imports are inside, so that the long run of one reader loads no other's.
"""

from __future__ import annotations

import gzip
import io
import json
import pickle
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import mutations
from mutations import Mutation

Read = Callable[[bytes], object]

CSV = b"op1,op2,score,flops\n0,a,0.5,10\n1,a,0.25,20\n0,b,0.75,30\n"


class Target(NamedTuple):
    """``seeds``: valid documents; ``open``: makes the reader in a folder; ``mutate``: one document into another."""

    seeds: Callable[[], list[bytes]]
    open: Callable[[Path], Read]
    mutate: Mutation


def _architecture() -> dict[str, Any]:
    """One of the space fcos_decoder."""
    return json.loads((Path(__file__).parents[2] / "experiments" / "nas_fcos_reference.json").read_text())


def _dump(value: Any) -> bytes:
    return json.dumps(value).encode()


# Architectures, recipes, top10.json


def _open_architecture(folder: Path) -> Read:
    from nasperc.export.architecture_file import read_architecture
    from nasperc.export.text import describe

    def read(data: bytes) -> None:
        (folder / "a.json").write_bytes(data)
        file = read_architecture(folder / "a.json")
        describe(file.architecture, file.space)

    return read


def _recipe_seeds() -> list[bytes]:
    values = {
        "base": "demo",
        "seed": 3,
        "space": {"name": "fcos_decoder"},
        "controller": {"name": "ppo"},
        "proxy": {"name": "detection", "iterations": 5, "views": 2},
        "search": {"budget": "4h", "workers": 1, "early_stop_k": None},
        "model": {
            "backbone": {"name": "resnet18"},
            "preset": "nas_fcos",
            "preset_overrides": {"focal_gamma": 2.0},
        },
        "rows": {"a": {"seed": 4}},
    }
    return [
        _dump(values),
        b"seed: 3\nsearch: {budget: 90s, workers: 2}\nmodel: &m\n  backbone: {name: mobilenet_v2}\nrows:\n"
        b"  a: {model: *m}\ndecoder: {name: fpn-fcos, fpn_width: 64}\nbaselines: [fpn-fcos]\n",
    ]


def _open_recipe(folder: Path) -> Read:
    from nasperc.search.recipe import load_recipe

    def read(data: bytes) -> None:
        (folder / "r.yaml").write_bytes(data)
        load_recipe(str(folder / "r.yaml"), [{"seed": 1}], ["search.workers=1"]).to_dict()

    return read


def _open_run_recipe(folder: Path) -> Read:
    from nasperc.search.run_folder import RunFolder

    def read(data: bytes) -> None:
        (folder / "recipe.yaml").write_bytes(data)
        RunFolder(folder).read_recipe()

    return read


def _run_recipe_seeds() -> list[bytes]:
    from nasperc.search.recipe import load_recipe

    return [_dump(load_recipe("demo").to_dict())]


def _top10_seeds() -> list[bytes]:
    from nasperc.search.components import build_space
    from nasperc.search.recipe import parse_recipe

    recipe = parse_recipe({}, where="fuzz")
    space = build_space(recipe)
    values = _architecture()
    architecture = space.from_dict(
        {key: values[key] for key in ("space", "version", "variant", "parts")}, where=""
    )
    entry = {
        "rank": 1, "id": 4, "stage": "head", "architecture": architecture.to_dict(), "hash": space.hash(architecture),
        "widths": {"fpn": 64, "head": 128}, "seed": 1, "reward": -0.5, "halfway": None, "metrics": {"ap": 0.25},
        "cost": {"flops": 1e9}, "seconds": 2.0, "status": "completed",
    }  # fmt: skip
    content = {
        "format": "nasperc-top10/1",
        "space": {"name": space.name, "version": space.version, "variant": space.variant},
        "stage": "head",
        "task": "detection",
        "recipe": {"seed": 3, "space": recipe.space.model_dump(mode="json"), "search": {"budget": "20"}},
        "data": {"classes": ["cat"], "normalisation": "imagenet"},
        "weights": {},
        "search_cost_hours": 0.5,
        "entries": [entry],
    }
    return [_dump(content)]


def _open_top10(folder: Path) -> Read:
    from nasperc.fulltrain.entries import training_recipe
    from nasperc.search.top10 import read_top10

    def read(data: bytes) -> None:
        (folder / "top10.json").write_bytes(data)
        training_recipe(read_top10(folder / "top10.json"))

    return read


# What a run leaves behind


def _table(folder: Path) -> Any:
    from search_spaces.table import TableRecipe, TableSpace

    (folder / "scores.csv").write_bytes(CSV)
    return TableSpace(TableRecipe(file=folder / "scores.csv"))


def _service(folder: Path, space: Any) -> Any:
    from controllers.plan import SearchPlan
    from controllers.random_search import RandomController, RandomRecipe
    from controllers.service import ControllerService

    def make(tokens: Any, seed: int) -> RandomController:
        return RandomController(tokens, RandomRecipe(), seed)

    return ControllerService(folder, space, make, SearchPlan(seed=1, candidates=3, snapshot_every=4))


def _searched(folder: Path) -> Path:
    """A run folder with a journal and a snapshot, in the middle of a stage."""
    from controllers.base import Candidate, Result

    service = _service(folder, _table(folder))
    for number in range(2):
        candidate = service.ask(0)
        assert isinstance(candidate, Candidate)
        result = Result(
            "completed", 0.25 * number, 0.1, metrics={"ap": 0.5}, cost={"flops": 5.0}, seconds=2.0
        )
        service.tell(0, candidate.id, result)
    service.ask(0)
    service.close()
    return folder


def _searched_file(pattern: str) -> bytes:
    import tempfile

    with tempfile.TemporaryDirectory() as name:
        return next(iter(sorted(_searched(Path(name)).glob(pattern)))).read_bytes()


def _open_journal(folder: Path) -> Read:
    """A resumed run, its report and its live views."""
    from controllers.journal import Journal
    from nasperc.errors import InputError
    from nasperc.report.reward_curve import reward_curves

    space = _table(folder)

    def read(data: bytes) -> None:
        (folder / "journal.jsonl").write_bytes(data)
        problem = None
        try:
            _service(folder, space).close()
        except InputError as error:
            problem = error
        reward_curves(Journal.read(folder / "journal.jsonl"))
        if problem is not None:
            raise problem

    return read


def _open_snapshot(folder: Path) -> Read:
    import hashlib

    from controllers.snapshot import read_snapshot

    def read(data: bytes) -> None:
        (folder / "controller-1.pt").write_bytes(data)
        assert read_snapshot(folder, "controller-1.pt", hashlib.sha256(data).hexdigest()) is not None

    return read


def _open_results(folder: Path) -> Read:
    """``metrics.json`` of a row of full training."""
    from nasperc.evaluation.latency import device_name
    from nasperc.fulltrain.entry_run import Row, _latency_before, _measured_before, _read_row
    from nasperc.fulltrain.results import Results, to_markdown

    class Split:
        def fingerprint(self) -> str:
            return "f"

    def read(data: bytes) -> None:
        data = data.replace(b"DEVICE", json.dumps(device_name())[1:-1].encode())
        (folder / "metrics.json").write_bytes(data)
        row = _read_row(folder / "metrics.json")
        metrics = _measured_before(row, {"val": Split()})  # type: ignore[dict-item]
        latency = _latency_before(row, (800, 1088))
        shown = Row("a", "done", 1, "h", {}, None, 0.5, 1, 1, (800, 1088), metrics=metrics, latency=latency)
        to_markdown(Results((shown,) if metrics else (), "val", "val")) if metrics else None

    return read


def _results_seeds() -> list[bytes]:
    from dataclasses import fields

    from nasperc.evaluation.coco_ap import CocoMetrics

    metrics: dict[str, Any] = {each.name: 0.5 for each in fields(CocoMetrics)} | {"per_class": {"cat": 0.5}}
    times = {"median_s": 0.5, "fastest_s": 0.4, "slowest_s": 0.6, "runs": 5, "device": "DEVICE"}
    row = {
        "metrics": {"val": metrics},
        "measured_on": {"val": "f"},
        "cost_size": [800, 1088],
        "latency": times,
    }
    return [_dump(row)]


def _open_lock(folder: Path) -> Read:
    from controllers.lock import RunLock

    def read(data: bytes) -> None:
        (folder / "lock").write_bytes(data)
        RunLock(folder / "lock").release()

    return read


# Data sets


def _picture(format: str, size: tuple[int, int] = (8, 6)) -> bytes:
    import numpy as np
    from PIL import Image

    pixels = np.random.default_rng(0).integers(0, 255, (size[1], size[0], 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format)
    return buffer.getvalue()


def _open_voc(folder: Path) -> Read:
    from nasperc.data.formats import open_dataset

    for name in ("Annotations", "ImageSets/Main", "JPEGImages"):
        (folder / name).mkdir(parents=True)
    (folder / "ImageSets" / "Main" / "train.txt").write_text("a\n")
    (folder / "JPEGImages" / "a.png").write_bytes(_picture("PNG"))

    def read(data: bytes) -> None:
        (folder / "Annotations" / "a.xml").write_bytes(data)
        open_dataset(folder, "train").fingerprint()

    return read


VOC = (
    b"<annotation><filename>a.png</filename><size><width>8</width><height>6</height><depth>3</depth></size>"
    b"<object><name>cat</name><difficult>0</difficult><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>5</xmax>"
    b"<ymax>4</ymax></bndbox></object><object><name>dog</name><bndbox><xmin>2</xmin><ymin>2</ymin><xmax>9</xmax>"
    b"<ymax>4</ymax></bndbox><part><name>head</name></part></object></annotation>"
)


def _open_voc_list(folder: Path) -> Read:
    from nasperc.data.formats import open_dataset

    read_annotation = _open_voc(folder)
    (folder / "JPEGImages" / "b.jpg").write_bytes(_picture("JPEG"))
    for stem in "ab":
        (folder / "Annotations" / f"{stem}.xml").write_bytes(VOC)
    del read_annotation

    def read(data: bytes) -> None:
        (folder / "ImageSets" / "Main" / "train.txt").write_bytes(data)
        open_dataset(folder, "train")

    return read


def _open_classes(folder: Path) -> Read:
    from nasperc.data.classes_file import read_classes_file

    def read(data: bytes) -> None:
        (folder / "classes.txt").write_bytes(data)
        read_classes_file(folder / "classes.txt")

    return read


def _coco_seeds() -> list[bytes]:
    polygon = [[1.0, 1.0, 5.0, 1.0, 5.0, 4.0]]
    runs = {"size": [6, 8], "counts": [10, 8, 30]}
    content = {
        "images": [
            {"id": 1, "file_name": "a.png", "height": 6, "width": 8},
            {"id": 2, "file_name": "sub/b.png", "height": 6, "width": 8},
        ],
        "categories": [{"id": 1, "name": "cat"}, {"id": 7, "name": "dog"}],
        "annotations": [
            {
                "id": 1,
                "image_id": 1,
                "category_id": 7,
                "bbox": [1, 1, 4, 3],
                "area": 6,
                "segmentation": polygon,
            },
            {
                "id": 2,
                "image_id": 2,
                "category_id": 1,
                "bbox": [0.5, 0, 20, 3.5],
                "iscrowd": 1,
                "segmentation": runs,
            },
            {
                "id": 3,
                "image_id": 2,
                "category_id": 1,
                "bbox": [1, 1, 2, 2],
                "segmentation": {"size": [6, 8], "counts": "`1"},
            },
        ],
    }
    return [_dump(content)]


def _open_coco(folder: Path) -> Read:
    from nasperc.data.coco import read_coco

    for place in ("annotations", "train/sub"):
        (folder / place).mkdir(parents=True)
    for name in ("a.png", "sub/b.png"):
        (folder / "train" / name).write_bytes(_picture("PNG"))

    def read(data: bytes) -> None:
        (folder / "annotations" / "instances_train.json").write_bytes(data)
        dataset = read_coco(folder, "train", masks=True)
        dataset.fingerprint()
        json.dumps(dataset.coco_ground_truth())
        for index in range(len(dataset)):
            dataset[index]

    return read


def _open_image(folder: Path) -> Read:
    from nasperc.data.image import read_image, read_size

    def read(data: bytes) -> None:
        (folder / "a.jpg").write_bytes(data)
        read_size(folder / "a.jpg")
        read_image(folder / "a.jpg", (6, 8))
        read_image(folder / "a.jpg")

    return read


# Weights


def _saved(content: Any, **options: Any) -> bytes:
    import torch

    buffer = io.BytesIO()
    torch.save(content, buffer, **options)
    return buffer.getvalue()


def _checkpoint_seeds() -> list[bytes]:
    from nasperc.assembly.detector import Baseline, Searched
    from nasperc.assembly.recipe import ModelRecipe
    from nasperc.fulltrain.trained_detector import describe
    from nasperc.search.components import build_space
    from nasperc.search.recipe import parse_recipe

    recipe = parse_recipe({}, where="fuzz")
    space = build_space(recipe)
    values = _architecture()
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
    return [_saved({**describe(ModelRecipe(), decoder, recipe.space), **rest}) for decoder in decoders]


def _open_checkpoint(folder: Path) -> Read:
    """Everything of ``load_detector``; the network lies on the meta device, where widths cost nothing."""
    import torch

    from nasperc.fulltrain.trained_detector import load_detector

    def read(data: bytes) -> None:
        (folder / "checkpoint.pt").write_bytes(data)
        with torch.device("meta"):
            load_detector(folder / "checkpoint.pt")

    return read


def _weights_seeds() -> list[bytes]:
    import torch

    state = {"weight": torch.ones(2, 3), "bias": torch.zeros(2)}
    record = {
        "backbone": "resnet18",
        "normalisation": "imagenet",
        "converted_from": {"file": "x"},
        "state_dict": state,
    }
    return [_saved(record), _saved(state), _saved({"model": state}, _use_new_zipfile_serialization=False)]


def _open_backbone(folder: Path) -> Read:
    from torch import nn

    from nasperc.models.backbones.build import BackboneRecipe
    from nasperc.models.backbones.weights import load_backbone_weights

    path = folder / "w.pth"

    def read(data: bytes) -> None:
        path.write_bytes(data)
        load_backbone_weights(nn.Linear(3, 2), path)
        BackboneRecipe(name="resnet18", weights=path).resolved()

    return read


def _open_convert(folder: Path) -> Read:
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


def _convert_seeds() -> list[bytes]:
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


def _convert_mutation(data: bytes, draw: Any) -> bytes:
    return (mutations.torch_content if data[:2] == b"PK" else mutations.pickled)(data, draw)


# Caches and tables


def _cache_seeds() -> list[bytes]:
    import tempfile

    import torch

    from feature_cache.format import TensorSpec
    from feature_cache.writer import CacheWriter

    specs = {"C3": TensorSpec((2, 2, 4), "float16"), "small": TensorSpec((3, 2), "uint8", quantised=True)}
    with tempfile.TemporaryDirectory() as name:
        with CacheWriter(Path(name) / "c.h5", specs, 3, {"backbone": "x"}, {"note": 1}) as writer:
            writer.append({"C3": torch.ones(3, 2, 2, 4), "small": torch.rand(3, 3, 2)})
        return [(Path(name) / "c.h5").read_bytes()]


def _open_cache(folder: Path) -> Read:
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


def _open_scores(folder: Path) -> Read:
    from search_spaces.table import TableRecipe, TableSpace

    def read(data: bytes) -> None:
        path = folder / ("t.csv.gz" if data[:2] == b"\x1f\x8b" else "t.csv")
        path.write_bytes(data)
        TableSpace(TableRecipe(file=path))

    return read


def _formats() -> list[bytes]:
    from nasperc.data.image import FORMATS

    return [_picture(format) for format in FORMATS] + [
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 6\nshowpage\n"
    ]


TARGETS: dict[str, Target] = {
    "architecture.json": Target(lambda: [_dump(_architecture())], _open_architecture, mutations.json_text),
    "recipe": Target(_recipe_seeds, _open_recipe, mutations.yaml_text),
    "recipe of a run": Target(_run_recipe_seeds, _open_run_recipe, mutations.yaml_text),
    "top10.json": Target(_top10_seeds, _open_top10, mutations.json_text),
    "journal": Target(lambda: [_searched_file("journal.jsonl")], _open_journal, mutations.journal_lines),
    "snapshot": Target(lambda: [_searched_file("*.pt")], _open_snapshot, mutations.torch_content),
    "lock": Target(
        lambda: [_dump({"pid": 1, "host": socket.gethostname()})], _open_lock, mutations.json_text
    ),
    "metrics.json": Target(_results_seeds, _open_results, mutations.json_text),
    "VOC annotation": Target(lambda: [VOC], _open_voc, mutations.xml_text),
    "VOC split": Target(lambda: [b"a\nb\n"], _open_voc_list, mutations.cells),
    "COCO": Target(_coco_seeds, _open_coco, mutations.json_text),
    "classes": Target(lambda: [b"cat\ndog\ntraffic light\n"], _open_classes, mutations.cells),
    "image": Target(_formats, _open_image, mutations.metadata),
    "checkpoint": Target(_checkpoint_seeds, _open_checkpoint, mutations.torch_content),
    "backbone weights": Target(_weights_seeds, _open_backbone, mutations.torch_content),
    "weights to convert": Target(_convert_seeds, _open_convert, _convert_mutation),
    "feature cache": Target(_cache_seeds, _open_cache, mutations.metadata),
    "table of scores": Target(lambda: [CSV, gzip.compress(CSV)], _open_scores, mutations.cells),
}
