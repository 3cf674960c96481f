"""The head stage on cached features of a trained FPN."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from controllers.base import Candidate
from nasperc.models.features import FeatureSpec
from nasperc.training.recipe import TrainingRecipe
from proxy_tasks.base import TaskContext
from proxy_tasks.detection import DetectionProxy
from proxy_tasks.detection_recipe import DetectionProxyRecipe
from search_spaces.base import (
    ORIGINAL,
    Architecture,
    BuildContext,
    Decision,
    Part,
    SearchSpace,
    Stage,
    Tokens,
)
from search_spaces.fcos_decoder import FcosDecoder
from search_spaces.fcos_recipe import FcosDecoderRecipe

TRAINING = TrainingRecipe(
    iterations=2,
    batch_size=2,
    warmup_iterations=0,
    steps=(),
    short_sides=(64,),
    max_long_side=64,
    test_short_side=64,
)
WIDTHS = {"fpn": 32, "head": 32}
HEAD_STAGE = Stage("head", ("head",), {"fpn": "best"}, WIDTHS, 0.25)
# Deformable, conv 3x3, then skips; shared from the first layer on.
HEAD = (5, 1, 4, 4, 4, 4, 0)


FCOS_PARTS = {"pyramid": "fpn", "towers": "head"}


class RenamedDecoder(SearchSpace):
    """The architectures of ``fcos_decoder``, whose parts have other names here."""

    name = "renamed"
    Recipe = FcosDecoderRecipe
    parts = tuple(FCOS_PARTS)
    made_of = {"neck": "pyramid", "head": "towers"}  # noqa: RUF012

    def __init__(self) -> None:
        self._fcos = FcosDecoder(FcosDecoderRecipe())
        self.variant = self._fcos.variant

    def decisions(self, part: str) -> tuple[Decision, ...]:
        return self._fcos.decisions(FCOS_PARTS[part])

    def allowed(self, part: str, prefix: Tokens) -> tuple[bool, ...]:
        return self._fcos.allowed(FCOS_PARTS[part], prefix)

    def stages(self) -> tuple[Stage, ...]:
        return (Stage("heads", ("towers",), {"pyramid": "best"}, {"pyramid": 32, "towers": 32}),)

    def build(
        self,
        architecture: Architecture,
        inputs: tuple[FeatureSpec, ...],
        widths: Mapping[str, int],
        context: BuildContext,
    ) -> dict[str, nn.Module]:
        renamed = self._fcos.architecture(
            {FCOS_PARTS[name]: part for name, part in architecture.parts.items()}
        )
        return self._fcos.build(
            renamed, inputs, {FCOS_PARTS[name]: width for name, width in widths.items()}, context
        )

    def read_back(self, modules: Mapping[str, nn.Module]) -> dict[str, Part]:
        read = self._fcos.read_back(modules)
        return {name: read[part] for name, part in FCOS_PARTS.items()}


@pytest.fixture(scope="module")
def fpn(make_candidate: Callable[..., Candidate], base: DetectionProxy) -> tuple[int, ...]:
    tokens = make_candidate(base).architecture.parts["fpn"]
    assert not isinstance(tokens, str)
    return tokens


@pytest.fixture(scope="module")
def base(
    prepared_folder: Path,
    make_recipe: Callable[..., DetectionProxyRecipe],
    make_context: Callable[..., TaskContext],
) -> DetectionProxy:
    # The stages' widths are the tests' own.
    space = FcosDecoder(FcosDecoderRecipe.model_validate({"stage_widths": {"head": WIDTHS, "fpn": WIDTHS}}))
    context = replace(make_context(prepared_folder), space=space)
    task = DetectionProxy(make_recipe(head_stage="cached_fpn", finetune_training=TRAINING), context)
    task.prepare()
    return task


@pytest.fixture(scope="module")
def task(base: DetectionProxy, fpn: tuple[int, ...]) -> DetectionProxy:
    base.prepare_stage(HEAD_STAGE, {"fpn": fpn})
    return base


def head_candidate(task: DetectionProxy, fpn: object, seed: int = 3) -> Candidate:
    architecture = task.space.architecture({"fpn": fpn, "head": HEAD})  # type: ignore[dict-item]
    return Candidate(0, "head", architecture, WIDTHS, "0", seed)


def test_heads_are_trained_on_the_features_of_the_trained_fpn(
    task: DetectionProxy, fpn: tuple[int, ...]
) -> None:
    training = task.training(head_candidate(task, fpn))
    assert not list(training.decoder.neck.parameters())
    result = task.evaluate(head_candidate(task, fpn))
    assert result.status == "completed", result.reason
    assert result.reward == task.evaluate(head_candidate(task, fpn)).reward
    assert result.reward != task.evaluate(head_candidate(task, fpn, seed=4)).reward


def test_the_cached_levels_are_those_of_the_pyramid(task: DetectionProxy, fpn: tuple[int, ...]) -> None:
    cache = task._pyramid(head_candidate(task, fpn))
    assert cache is not None
    assert len(cache.reader) == len(task.cache.reader)
    index = torch.arange(2)
    mine, backbone = cache.load(index), task.cache.load(index)
    assert [tuple(level.shape[1:]) for level in mine.features] == [
        (32, 8, 8),
        (32, 4, 4),
        (32, 2, 2),
        (32, 1, 1),
        (32, 1, 1),
    ]
    for name in backbone.targets._fields:
        torch.testing.assert_close(getattr(mine.targets, name), getattr(backbone.targets, name))
    # Not constants: a pyramid that had not been trained or normalised would fade.
    assert all(level.std() > 1e-3 for level in mine.features)


def test_the_cost_is_that_of_neck_and_head(task: DetectionProxy, fpn: tuple[int, ...]) -> None:
    other = DetectionProxy(task.recipe.model_copy(update={"head_stage": "train_fpn"}), task.setup.context)
    other.prepare()
    cached, trained = (each.evaluate(head_candidate(task, fpn)) for each in (task, other))
    assert cached.cost == trained.cost
    assert cached.reward != trained.reward


def test_it_is_made_once_and_other_stages_need_none(
    task: DetectionProxy, fpn: tuple[int, ...], make_candidate: Callable[..., Candidate]
) -> None:
    phases: list[str] = []
    task.prepare_stage(HEAD_STAGE, {"fpn": fpn}, lambda phase, _: phases.append(phase))
    task.prepare_stage(
        Stage("fpn", ("fpn",), {"head": ORIGINAL}, WIDTHS, 0.75),
        {"head": ORIGINAL},
        lambda phase, _: phases.append(phase),
    )
    assert not phases
    assert list(task.training(make_candidate(task)).decoder.neck.parameters())


def test_the_original_fpn_can_be_cached_too(task: DetectionProxy) -> None:
    task.prepare_stage(HEAD_STAGE, {"fpn": ORIGINAL})
    assert task.evaluate(head_candidate(task, ORIGINAL)).status == "completed"


def test_without_its_features_a_head_fails_with_the_reason(
    task: DetectionProxy, fpn: tuple[int, ...]
) -> None:
    other = (*fpn[:-1], 1 - fpn[-1])
    result = task.evaluate(head_candidate(task, other))
    assert result.status == "failed"
    assert result.reason is not None
    assert "must be cached before" in result.reason


def test_the_space_says_which_part_is_the_neck(task: DetectionProxy, fpn: tuple[int, ...]) -> None:
    space = RenamedDecoder()
    other = DetectionProxy(task.recipe, replace(task.setup.context, space=space))
    other.prepare()
    (stage,) = space.stages()
    other.prepare_stage(stage, {"pyramid": fpn})
    architecture = space.architecture({"pyramid": fpn, "towers": HEAD})
    result = other.evaluate(Candidate(0, "heads", architecture, stage.widths, "0", 3))
    assert result.status == "completed", result.reason
    assert result.reward == task.evaluate(head_candidate(task, fpn)).reward
