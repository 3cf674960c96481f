"""A search of dynamic cells on tiny synthetic videos: in the process, interrupted, and through Ray."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from controllers.service.journal import Event, Journal
from nasperc.errors import InputError
from nasperc.recipe.reading import parse_recipe
from nasperc.recipe.root import Recipe
from nasperc.recipe.search_section import SearchRecipe
from nasperc.search.ray_start import ray, start_ray
from nasperc.search.run import run_search
from nasperc.search.top10 import read_top10
from proxy_tasks.video_training import CellTraining

RATES = {"encoder_learning_rate": 1e-6, "decoder_learning_rate": 1e-6}
TINY: Mapping[str, Any] = {
    "seed": 5,
    "data": {"synthetic_video": {"train": 2, "val": 1, "test": 1, "frames": 8, "size": [64, 64]}},
    "model": {"backbone": {"width_mult": 0.35, "normalisation": "imagenet"}},
    "space": {"name": "dynamic_cell", "variant": "4_layers", "width": 8},
    "controller": {"name": "ppo", "batch": 2},
    "video": {"static": {"epochs": 0.1, "batch_size": 2, "crop": [64, 64], **RATES}},
    "proxy": {
        "name": "video_segmentation",
        **{"pad": None, "crop": [64, 64], "block": 4, "batch_size": 2, "learning_rate": 2e-3, "epochs": 0.5},
        **{"bn_batches": 1, "val_batch_size": 4},
    },
}


def tiny(**search: Any) -> Recipe:
    document = {**TINY, "search": {"budget": "3", "executor": "local", "dashboard": False, **search}}
    return parse_recipe(document, where="test")


def completions(folder: Path) -> dict[int, list[Any]]:
    """Tokens, seed and reward by candidate."""
    return {
        event["id"]: [event["architecture"], event["seed"], event["reward"]]
        for event in events(folder, "completion")
    }


def events(folder: Path, kind: str) -> list[Event]:
    return [event for event in Journal.read(folder / "journal.jsonl") if event["event"] == kind]


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "local"
    torch.set_num_threads(1)
    run_search(tiny(), folder, console=Console(quiet=True))
    return folder


@pytest.fixture
def one_ray() -> Iterator[None]:
    start_ray(SearchRecipe(workers=2, dashboard=False))
    yield
    ray.shutdown()


def test_it_ends_with_a_top10_that_can_be_read(searched: Path) -> None:
    top10 = read_top10(searched / "top10.json")
    assert top10.task == "video_segmentation"
    assert len(top10.entries) == 3
    assert {"miou", "fwiou", "macc", "gacc"} <= top10.entries[0].metrics.keys()
    assert top10.entries[0].cost["flops"]
    assert (searched.parent / "prepared" / top10.weights["static_file"]).is_file()
    assert top10.data["classes"][0] == "background"


def test_an_interrupted_search_ends_as_if_nothing_had_happened(
    searched: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, trained = searched.parent / "interrupted", []
    run = CellTraining.run

    def interrupted(training: CellTraining, *arguments: Any) -> Any:
        trained.append(training)
        if len(trained) == 2:
            raise KeyboardInterrupt
        return run(training, *arguments)

    monkeypatch.setattr(CellTraining, "run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_search(tiny(), folder, console=Console(quiet=True))
    assert len(completions(folder)) == 1
    run_search(None, folder, resume=True, console=Console(quiet=True))
    assert completions(folder) == completions(searched)


def test_a_search_is_not_resumed_on_other_pixels(searched: Path, tmp_path: Path) -> None:
    """Refused before anything is built, and the first frame that changed is named."""
    shutil.copytree(searched.parent, tmp_path / "runs")
    (folder,) = (tmp_path / "runs" / "prepared").glob("synthetic-video-*")
    frame = sorted((folder / "train").iterdir())[1]
    frame.write_bytes(frame.read_bytes() + b"\0")
    prepared = tmp_path / "runs" / "prepared"
    made = {path for path in prepared.iterdir() if path.suffix in {".h5", ".pt"}}
    with pytest.raises(InputError, match="other bytes") as error:
        run_search(None, tmp_path / "runs" / "local", resume=True, console=Console(quiet=True))
    assert error.value.where == f"{frame}, the first file that changed"
    assert {path for path in prepared.iterdir() if path.suffix in {".h5", ".pt"}} == made


@pytest.mark.ray
def test_workers_of_ray_measure_the_same(searched: Path, one_ray: None) -> None:
    folder = searched.parent / "ray"
    # One at a time, so that the controller sees the same order.
    run_search(tiny(executor="ray", workers=1), folder, console=Console(quiet=True))
    assert completions(folder) == completions(searched)
