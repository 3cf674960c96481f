"""Readers of what people write or pass on: architectures, recipes, ``top10.json``."""

from __future__ import annotations

from pathlib import Path

from target import Read, dump, reference_architecture


def open_architecture(folder: Path) -> Read:
    from nasperc.export.architecture_file import read_architecture
    from nasperc.export.text import describe

    def read(data: bytes) -> None:
        (folder / "a.json").write_bytes(data)
        file = read_architecture(folder / "a.json")
        describe(file.architecture, file.space)

    return read


def recipe_seeds() -> list[bytes]:
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
        dump(values),
        b"seed: 3\nsearch: {budget: 90s, workers: 2}\nmodel: &m\n  backbone: {name: mobilenet_v2}\nrows:\n"
        b"  a: {model: *m}\ndecoder: {name: fpn-fcos, fpn_width: 64}\nbaselines: [fpn-fcos]\n",
    ]


def open_recipe(folder: Path) -> Read:
    from nasperc.recipe.reading import load_recipe

    def read(data: bytes) -> None:
        (folder / "r.yaml").write_bytes(data)
        load_recipe(str(folder / "r.yaml"), [{"seed": 1}], ["search.workers=1"]).to_dict()

    return read


def open_run_recipe(folder: Path) -> Read:
    from nasperc.search.run_folder import RunFolder

    def read(data: bytes) -> None:
        (folder / "recipe.yaml").write_bytes(data)
        RunFolder(folder).read_recipe()

    return read


def run_recipe_seeds() -> list[bytes]:
    from nasperc.recipe.reading import load_recipe

    return [dump(load_recipe("demo").to_dict())]


def top10_seeds() -> list[bytes]:
    from nasperc.recipe.reading import parse_recipe
    from nasperc.search.components import build_space

    recipe = parse_recipe({}, where="fuzz")
    space = build_space(recipe)
    values = reference_architecture()
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
    return [dump(content)]


def open_top10(folder: Path) -> Read:
    from nasperc.fulltrain.entries import training_recipe
    from nasperc.search.top10 import read_top10

    def read(data: bytes) -> None:
        (folder / "top10.json").write_bytes(data)
        training_recipe(read_top10(folder / "top10.json"))

    return read
