"""The reward against its definition, and a half-way measurement that nothing notices."""

from __future__ import annotations

import copy
from collections.abc import Callable
from itertools import islice

import pytest
import torch

from controllers.base import Candidate
from nasperc.models.fcos_losses import fcos_losses
from proxy_tasks.base import no_progress
from proxy_tasks.detection import DetectionProxy
from proxy_tasks.detection_cache import STRIDES
from proxy_tasks.detection_recipe import DetectionProxyRecipe
from proxy_tasks.detection_training import DivergedLossError

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


def test_a_half_way_measurement_leaves_no_trace(
    task: DetectionProxy, make_candidate: MakeCandidate, make_recipe: Callable[..., DetectionProxyRecipe]
) -> None:
    with_it = task.evaluate(make_candidate(task))
    without = task.evaluate(make_candidate(task, overrides={"early_stop": False}))
    assert with_it.halfway is not None
    assert without.halfway is None
    assert with_it.reward == without.reward


def test_measuring_touches_neither_the_network_nor_the_random_numbers(
    task: DetectionProxy, make_candidate: MakeCandidate
) -> None:
    training = task.training(make_candidate(task))
    training.decoder.train()
    training._step(torch.arange(4), check=True)
    state = {name: tensor.clone() for name, tensor in training.decoder.state_dict().items()}
    random_state = torch.get_rng_state()
    training.measure()
    assert torch.equal(torch.get_rng_state(), random_state)
    assert training.decoder.training
    for name, tensor in training.decoder.state_dict().items():
        assert torch.equal(tensor, state[name]), name


def test_the_averaged_network_is_the_one_that_is_measured(
    task: DetectionProxy, make_candidate: MakeCandidate
) -> None:
    """After one step the average is 0.9 of the start and 0.1 of the step; a decay of 0 is the step itself."""
    rewards = {
        decay: task.evaluate(make_candidate(task, overrides={"iterations": 1, "polyak": decay})).reward
        for decay in (0.0, 0.9)
    }
    assert rewards[0.0] != rewards[0.9]


def test_training_improves_the_reward(task: DetectionProxy, make_candidate: MakeCandidate) -> None:
    result = task.evaluate(make_candidate(task, overrides={"iterations": 12}))
    assert result.reward is not None
    assert result.halfway is not None
    assert result.reward > result.halfway


def test_a_loss_that_is_not_finite_is_named(task: DetectionProxy, make_candidate: MakeCandidate) -> None:
    training = task.training(make_candidate(task))
    with torch.no_grad():
        training.decoder.head.class_logits.bias.fill_(float("nan"))
    with pytest.raises(DivergedLossError, match="classification nan"):
        training.run(None, no_progress)
