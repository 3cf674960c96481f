"""The proxy task as the search sees it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from cached_task_contract import CachedTaskContract
from PIL import Image

from controllers.base import Candidate
from nasperc.errors import InputError
from proxy_tasks.base import TaskContext
from proxy_tasks.detection import DetectionProxy
from proxy_tasks.detection_recipe import DetectionProxyRecipe
from proxy_tasks.detection_setup import FINETUNE_CONTENTS, DetectionSetup

MakeCandidate = Callable[..., Candidate]
MakeContext = Callable[..., TaskContext]
MakeRecipe = Callable[..., DetectionProxyRecipe]


class TestDetection(CachedTaskContract):
    tiny = Path(__file__).with_name("conftest.py")


def test_a_result_carries_losses_and_cost(task: DetectionProxy, make_candidate: MakeCandidate) -> None:
    result = task.evaluate(make_candidate(task))
    assert result.reward is not None
    losses = [result.metrics[f"loss_{name}"] for name in ("classification", "box", "centerness")]
    assert sum(losses) == pytest.approx(-result.reward)
    decoder = task.training(make_candidate(task)).decoder
    assert result.cost["params"] == sum(p.numel() for p in decoder.parameters())
    assert result.cost["flops"] > result.cost["params"]


def test_the_cache_of_another_backbone_is_refused(
    tmp_path: Path, task: DetectionProxy, make_context: MakeContext
) -> None:
    context = make_context(tmp_path)
    backbone = context.model.backbone.model_copy(update={"width_mult": 0.5})
    other = DetectionProxy(
        task.recipe, replace(context, model=context.model.model_copy(update={"backbone": backbone}))
    )
    shutil.copy(task.cache.reader.path, other.setup.cache_path)
    with pytest.raises(InputError, match=r"backbone_recipe\.width_mult = 0\.5, but got 0\.35"):
        other.prepare()


def test_a_cache_cut_short_is_refused(
    tmp_path: Path, task: DetectionProxy, make_context: MakeContext
) -> None:
    other = DetectionProxy(task.recipe, make_context(tmp_path))
    path = other.setup.cache_path
    path.write_bytes(task.cache.reader.path.read_bytes()[:100_000])
    with pytest.raises(InputError, match=r"cut short.*built again"):
        other.prepare()


def test_the_fingerprint_covers_recipe_and_cache(
    task: DetectionProxy, make_recipe: MakeRecipe, make_context: MakeContext
) -> None:
    prints = {
        DetectionProxy(make_recipe(**changes), task.setup.context).fingerprint()
        for changes in ({}, {"iterations": 5}, {"views": 3}, {"seed": 1})
    }
    assert len(prints) == 4
    assert task.fingerprint() in prints


def test_the_description_names_data_and_weights(task: DetectionProxy) -> None:
    description = task.description()
    assert description["data"]["classes"] == list(task.setup.dataset.classes)
    assert description["data"]["fingerprint"] == task.setup.dataset.fingerprint()
    assert description["data"]["normalisation"] == "imagenet"
    assert description["weights"]["sha256"] is None


def test_fine_tuned_weights_and_caches_are_of_one_preset(
    prepared_folder: Path, make_context: MakeContext, make_recipe: MakeRecipe
) -> None:
    """Fine-tuning trains by all keys of the preset; cached records alone depend on those of the targets."""

    def path(finetune: bool, **overrides: object) -> Path:
        context = make_context(prepared_folder)
        model = context.model.model_copy(update={"preset_overrides": overrides})
        return DetectionProxy(make_recipe(finetune=finetune), replace(context, model=model)).setup.cache_path

    assert path(True) != path(True, box_loss="giou")
    assert path(False) == path(False, box_loss="giou")
    assert path(False) != path(False, centre_sampling_radius=1.5)


@pytest.mark.parametrize("rules", [{"range": (0, 4095)}, {"exif": "apply"}, {"exif": "refuse"}])
def test_caches_and_fine_tuned_weights_are_of_the_rules_that_images_were_read_by(
    prepared_folder: Path, make_context: MakeContext, make_recipe: MakeRecipe, rules: dict[str, object]
) -> None:
    context = make_context(prepared_folder)
    other = replace(context, data=context.data.model_copy(update=rules))
    setups = [DetectionProxy(make_recipe(finetune=True), each).setup for each in (context, other)]
    assert setups[0].cache_path != setups[1].cache_path
    contents = [{key: setup.contents[key] for key in FINETUNE_CONTENTS} for setup in setups]
    assert contents[0] != contents[1]
    # The rules reach the reader.
    assert setups[1].dataset.rules == other.data.images != setups[0].dataset.rules


def test_images_that_would_be_refused_are_before_anything_is_trained(
    tmp_path: Path, make_task: Callable[[Path], DetectionProxy], monkeypatch: pytest.MonkeyPatch
) -> None:
    task = make_task(tmp_path)
    monkeypatch.setattr(DetectionSetup, "backbone", lambda *_: pytest.fail("something was begun"))
    file = task.setup.dataset.records[-1].file
    Image.new("I;16", (96, 96), 3000).save(file, "PNG")
    with pytest.raises(InputError, match="mode I;16, values from 3000 to 3000"):
        task.prepare()


def test_oriented_images_are_told(
    prepared_folder: Path, make_context: MakeContext, make_recipe: MakeRecipe
) -> None:
    task = DetectionProxy(make_recipe(), make_context(prepared_folder))
    first = task.setup.dataset.records[2].file
    before = first.read_bytes()
    exif = Image.Exif()
    exif[0x0112] = 3
    with Image.open(first) as picture:
        picture.save(first, exif=exif.tobytes())
    try:
        (line,) = task.notes()
    finally:
        first.write_bytes(before)
    assert line.startswith(f"1 image carries an EXIF orientation (first: {first}, 3)")


def test_dropped_boxes_are_told(task: DetectionProxy) -> None:
    assert task.notes() == task.setup.dataset.report.lines() == []
