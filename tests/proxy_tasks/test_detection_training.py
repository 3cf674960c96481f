"""The reward against its definition, and a half-way measurement that nothing notices."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from pathlib import Path

import h5py
import pytest
import torch

from controllers.base import Candidate
from nasperc.models.fcos.losses import fcos_losses
from proxy_tasks.base import no_progress
from proxy_tasks.detection import DetectionProxy
from proxy_tasks.detection_cache import STRIDES
from proxy_tasks.detection_training import DecoderTraining
from proxy_tasks.divergence import DivergedLossError

MakeCandidate = Callable[..., Candidate]


def test_the_reward_is_equation_7_2_over_images_one_by_one(
    task: DetectionProxy, make_candidate: MakeCandidate
) -> None:
    with task._seeded(7):
        training = task.training(make_candidate(task))
        measured = training.run(None, no_progress).final
    assert measured is not None
    # The obvious way: averaged parameters, statistics from the same batches, one image after another. A batch
    # of one image has that image's positives only; twice the same image, because GroupNorm needs two values.
    network = copy.deepcopy(training.decoder)
    training._average.copy_to(network)
    norms = [module for module in network.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
    network.train()
    with torch.no_grad():
        for indices in islice(task.cache.training_order(4, task.recipe.seed), task.recipe.bn_batches):
            network(task.cache.load(indices).features)
        network.eval()
        totals = []
        for record in range(task.cache.train, len(task.cache.reader)):
            batch = task.cache.load(torch.tensor([record, record]))
            losses = fcos_losses(network(batch.features), batch.targets, task.preset, STRIDES)
            positives = int((batch.targets.labels[0] >= 0).sum())
            # fcos_losses divides the focal loss of the two copies by positives plus images.
            focal = losses.classification * (2 * positives + 2) / 2 / max(positives, 1)
            totals.append(focal + losses.box + losses.centerness)
    assert measured.reward == pytest.approx(-torch.stack(totals).mean().item(), rel=1e-5)
    assert measured.reward == pytest.approx(-(measured.classification + measured.box + measured.centerness))


def test_training_improves_the_reward(task: DetectionProxy, make_candidate: MakeCandidate) -> None:
    result = task.evaluate(make_candidate(task, overrides={"iterations": 12}))
    assert result.reward is not None
    assert result.halfway is not None
    assert result.reward > result.halfway


def test_a_loss_that_is_not_finite_is_named(task: DetectionProxy, make_candidate: MakeCandidate) -> None:
    training = task.training(make_candidate(task))
    with torch.no_grad():
        training.decoder.head.class_logits.bias.fill_(float("nan"))
    with pytest.raises(DivergedLossError, match="diverged at step 1: classification nan"):
        training.run(None, no_progress)


def test_a_learning_rate_that_blows_up_is_told_with_its_step(
    task: DetectionProxy, make_candidate: MakeCandidate
) -> None:
    """The first step is that of the untouched network, the second one has a weight of a million."""
    result = task.evaluate(make_candidate(task, overrides={"learning_rate": 1e6, "iterations": 50}))
    assert (result.status, result.reward, result.transient) == ("failed", None, False)
    assert result.reason is not None
    assert "DivergedLossError: diverged at step 2: classification" in result.reason


def test_a_loss_out_of_proportion_is_a_failure_although_it_is_finite(
    task: DetectionProxy, make_candidate: MakeCandidate
) -> None:
    training = task.training(make_candidate(task))
    with torch.no_grad():
        training.decoder.head.class_logits.bias.fill_(1e4)
    with pytest.raises(DivergedLossError, match=r"at step 1: classification \d"):
        training.run(None, no_progress)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_weight_that_is_not_finite_is_told_before_anything_is_measured(
    task: DetectionProxy, make_candidate: MakeCandidate, value: float
) -> None:
    """One that no loss shows."""
    training = task.training(make_candidate(task))
    training._step(torch.arange(4), check=False)
    training.decoder.register_parameter("unseen", torch.nn.Parameter(torch.tensor(value)))
    training._parameters.append(training.decoder.unseen)
    with pytest.raises(DivergedLossError, match="after step 1: norm of the weights"):
        training.measure()
    with pytest.raises(DivergedLossError, match="after step 2: norm of the weights"):
        training._step(torch.arange(4), check=True)


@pytest.mark.parametrize(
    ("part", "reason"), [("train", "diverged at step "), ("val", "after step 2: on meta-val loss nan")]
)
def test_a_poisoned_record_of_the_cache_fails_whoever_meets_it(
    prepared_folder: Path,
    task: DetectionProxy,
    make_candidate: MakeCandidate,
    tmp_path: Path,
    part: str,
    reason: str,
) -> None:
    """Bytes of the file, of one record's features."""
    folder = tmp_path / "poisoned"
    shutil.copytree(prepared_folder, folder)
    record = task.cache.train if part == "val" else 0
    with h5py.File(folder / task.setup.cache_path.name, "r+") as file:
        file[task.setup.features[0].name][record] = float("nan")
    poisoned = DetectionProxy(task.recipe, replace(task.setup.context, folder=folder))
    poisoned.prepare()
    result = poisoned.evaluate(make_candidate(poisoned, overrides={"iterations": 4 if part == "val" else 12}))
    assert (result.status, result.halfway) == ("failed", None)
    assert result.reason is not None
    assert reason in result.reason


@pytest.mark.parametrize("clip", [None, 1.0])
def test_watching_does_not_change_the_training(
    task: DetectionProxy, make_candidate: MakeCandidate, monkeypatch: pytest.MonkeyPatch, clip: float | None
) -> None:
    candidate = make_candidate(task, overrides={"gradient_clip": clip})
    watched = task.evaluate(candidate).reward

    def as_before(training: DecoderTraining) -> torch.Tensor:
        if clip is not None:
            torch.nn.utils.clip_grad_norm_(training._parameters, clip, foreach=True)
        return torch.zeros(())

    monkeypatch.setattr(DecoderTraining, "_clip_gradients", as_before)
    assert task.evaluate(candidate).reward == watched
