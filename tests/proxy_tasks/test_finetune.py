"""Fine-tuning before caching."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from nasperc.errors import InputError
from nasperc.training.recipe import TrainingRecipe
from proxy_tasks.base import TaskContext, no_progress
from proxy_tasks.detection import DetectionProxy
from proxy_tasks.detection_recipe import DetectionProxyRecipe
from proxy_tasks.finetune import is_finetuned

TRAINING = TrainingRecipe(
    iterations=2,
    batch_size=2,
    warmup_iterations=0,
    steps=(),
    short_sides=(64,),
    max_long_side=64,
    test_short_side=64,
)


@pytest.fixture(scope="module")
def finetuned(
    tmp_path_factory: pytest.TempPathFactory,
    make_recipe: Callable[..., DetectionProxyRecipe],
    make_context: Callable[..., TaskContext],
) -> tuple[DetectionProxy, list[str]]:
    recipe = make_recipe(finetune=True, finetune_width=32, finetune_training=TRAINING, views=1)
    task = DetectionProxy(recipe, make_context(tmp_path_factory.mktemp("finetune")))
    phases: list[str] = []
    task.prepare(lambda phase, fraction: phases.append(phase))
    return task, phases


def test_the_backbone_is_trained_once_and_kept(finetuned: tuple[DetectionProxy, list[str]]) -> None:
    task, phases = finetuned
    images = len(task.setup.dataset)
    assert phases[: images + 2] == ["reading images"] * images + ["fine-tuning"] * 2
    assert set(phases[images + 2 :]) == {"caching"}
    folder = task.setup.context.folder
    (weights,) = folder.glob("backbone-*.pth")
    assert is_finetuned(weights)
    assert task.description()["weights"]["finetuned_file"] == weights.name
    assert not list(folder.glob("finetune-*"))


def test_damaged_finetuned_weights_are_refused_by_name(
    finetuned: tuple[DetectionProxy, list[str]], tmp_path: Path
) -> None:
    task, _ = finetuned
    folder = shutil.copytree(task.setup.context.folder, tmp_path / "prepared")
    (weights,) = folder.glob("backbone-*.pth")
    damaged = bytearray(weights.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    weights.write_bytes(damaged)
    recipe = task.recipe.model_copy(update={"val_views": 3})
    other = DetectionProxy(recipe, replace(task.setup.context, folder=folder))
    with pytest.raises(
        InputError, match=rf"was changed .*{weights.name}.*Delete the file: .* fine-tuned again"
    ):
        other.prepare()


def test_a_cache_with_other_views_takes_the_same_weights(finetuned: tuple[DetectionProxy, list[str]]) -> None:
    task, _ = finetuned
    phases: list[str] = []
    other = DetectionProxy(task.recipe.model_copy(update={"val_views": 2}), task.setup.context)
    other.prepare(lambda phase, fraction: phases.append(phase))
    assert set(phases) == {"caching"}
    assert other.description()["weights"] == task.description()["weights"]


def test_finetuned_weights_are_not_tuned_again_and_give_the_same_features(
    finetuned: tuple[DetectionProxy, list[str]], tmp_path: Path, make_context: Callable[..., TaskContext]
) -> None:
    task, _ = finetuned
    (weights,) = task.setup.context.folder.glob("backbone-*.pth")
    context = make_context(tmp_path, weights=weights)
    # "As the weights allow" would freeze BatchNorm here; its statistics are the same ones.
    again = DetectionProxy(task.recipe, context)
    phases: list[str] = []
    again.prepare(lambda phase, fraction: phases.append(phase))
    assert set(phases) == {"reading images", "caching"}
    index = torch.arange(3)
    for one, other in zip(task.cache.load(index).features, again.cache.load(index).features, strict=True):
        torch.testing.assert_close(one, other, rtol=2e-3, atol=2e-3)


def test_only_our_own_files_count_as_finetuned(tmp_path: Path) -> None:
    torch.save({"state_dict": {"x": torch.zeros(1)}}, tmp_path / "plain.pth")
    (tmp_path / "broken.pth").write_bytes(b"no weights")
    assert not is_finetuned(tmp_path / "plain.pth")
    assert not is_finetuned(tmp_path / "broken.pth")
    assert not is_finetuned(tmp_path / "none.pth")
    assert not is_finetuned(None)


def test_missing_weights_are_one_clear_line(
    tmp_path: Path, make_recipe: Callable[..., DetectionProxyRecipe], make_context: Callable[..., TaskContext]
) -> None:
    task = DetectionProxy(make_recipe(), make_context(tmp_path, weights=tmp_path / "none.pth"))
    with pytest.raises(InputError, match=r"weights file must be readable.*none\.pth"):
        task.prepare(no_progress)
