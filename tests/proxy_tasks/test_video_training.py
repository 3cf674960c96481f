"""Loss and reward of a cell against the obvious way: images, the static network, one frame after another."""

from __future__ import annotations

import copy
from itertools import islice
from pathlib import Path

import pytest
import torch
from tiny_video import PLAIN, SEARCHED, tiny_candidate, tiny_task
from torch.nn import functional as F

from nasperc.data.batch import collate
from nasperc.models.video_segmenter import State
from proxy_tasks.base import no_progress
from proxy_tasks.divergence import DivergedLossError
from proxy_tasks.video_segmentation import VideoSegmentationProxy
from proxy_tasks.video_views import train_views


def prepared(folder: Path, **changes: object) -> VideoSegmentationProxy:
    task = tiny_task(folder, **changes)
    task.prepare()
    return task


def loss_by_hand(task: VideoSegmentationProxy, cell: torch.nn.Module, indices: torch.Tensor) -> torch.Tensor:
    """Without the cache: the images of each sequence, through the static network, by hand."""
    setup = task.setup
    frames = list(train_views(setup.dataset, setup.parts["train"], setup.recipe, setup.normalisation))
    sequences = [[frames[k] for k in row] for row in setup.parts["train"].records()[indices].tolist()]
    total = torch.zeros(())
    state = None
    for place in range(3):
        column = [sequence[place] for sequence in sequences]
        images = collate(column, setup.normalisation, divisor=1).images
        with torch.no_grad():
            features = task.static.encode(images)
            dec = task.static.decode(features).dec
        if state is None:
            state = State(features[-1], dec)
            continue
        logits, dec = cell(state, features[-3:])
        state = State(features[-1], dec)
        labels = torch.stack([sample.semantic for sample in column])
        if setup.recipe.loss_size == "labels":
            logits = F.interpolate(logits, (64, 64), mode="bilinear", align_corners=False)
        else:
            # The centre of each of the 8x8 pixels.
            labels = labels[:, 4::8, 4::8]
        total = total + F.cross_entropy(logits, labels, ignore_index=255)
    return total


@pytest.mark.parametrize("cell", [PLAIN, SEARCHED])
@pytest.mark.parametrize("size", ["logits", "labels"])
def test_the_loss_is_that_of_images_unrolled_by_hand(
    video_folder: Path, cell: tuple[int, ...], size: str
) -> None:
    for dtype, tolerance in (("float32", 1e-5), ("float16", 2e-3)):
        task = prepared(video_folder, dtype=dtype, loss_size=size)
        training = task.training(tiny_candidate(task, cell))
        training.network.train()
        # Of both views.
        indices = torch.tensor([0, 3, 17, 20])
        batch = task.cache.load(indices)
        losses = training._losses(training._forward(training.network, batch), batch)
        by_hand = loss_by_hand(task, training.network.cell, indices)
        assert len(losses) == 2
        assert sum(losses).item() == pytest.approx(by_hand.item(), rel=tolerance)


def test_the_gradient_reaches_back_to_the_first_frame_after_the_static_one(
    video_task: VideoSegmentationProxy,
) -> None:
    """The last frame's loss alone trains what made its dec."""
    training = video_task.training(tiny_candidate(video_task))
    training.network.train()
    batch = video_task.cache.load(torch.tensor([0, 1]))
    decs = []
    training.network.cell.project.register_forward_hook(lambda module, inputs, dec: decs.append(dec))
    losses = training._losses(training._forward(training.network, batch), batch)
    (gradient,) = torch.autograd.grad(losses[-1], decs[0])
    assert gradient.abs().sum() > 0


def test_the_reward_is_that_of_frames_one_by_one(video_task: VideoSegmentationProxy) -> None:
    """Averaged parameters, statistics of the same batches, pixels counted one by one."""
    task = video_task
    training = task.training(tiny_candidate(task))
    measured = training.run(None, no_progress).final
    assert measured is not None
    network = copy.deepcopy(training.network)
    training._average.copy_to(network)
    for norm in network.modules():
        if isinstance(norm, torch.nn.BatchNorm2d):
            norm.reset_running_stats()
            norm.momentum = None
    network.train()
    classes = len(task.setup.dataset.classes)
    right, shown, predicted = (torch.zeros(classes) for _ in range(3))
    with torch.no_grad():
        for indices in islice(task.cache.training_order(4, task.recipe.seed), task.recipe.bn_batches):
            network(task.cache.load(indices))
        network.eval()
        for index in range(task.cache.train, task.cache.train + task.cache.val):
            batch = task.cache.load(torch.tensor([index]))
            for logits, labels in zip(network(batch), batch.labels, strict=True):
                assert labels.shape == (1, 72, 96)
                found = F.interpolate(logits, (72, 96), mode="bilinear", align_corners=False).argmax(1)
                for label in range(classes):
                    truth = labels == label
                    right[label] += (truth & (found == label)).sum()
                    shown[label] += truth.sum()
                    predicted[label] += ((found == label) & (labels != 255)).sum()
    here = shown > 0
    iou = (right / (shown + predicted - right))[here]
    miou, macc = iou.mean(), (right / shown)[here].mean()
    fwiou = (iou * shown[here]).sum() / shown.sum()
    assert measured.reward == pytest.approx((miou * macc * fwiou).item() ** (1 / 3), rel=1e-4)
    assert measured.gacc == pytest.approx((right.sum() / shown.sum()).item(), rel=1e-4)


def test_epochs_are_counted_in_sequences(video_folder: Path) -> None:
    task = prepared(video_folder, epochs=2.5)
    assert len(task.setup.parts["train"].sequences) == 16
    assert task.training(tiny_candidate(task)).iterations == 10


def test_training_lowers_the_loss(video_folder: Path) -> None:
    task = prepared(video_folder, epochs=6, learning_rate=8e-3)
    training = task.training(tiny_candidate(task))
    batch = task.cache.load(torch.arange(16))

    def loss() -> float:
        training.network.train()
        with torch.no_grad():
            return sum(training._losses(training._forward(training.network, batch), batch)).item()

    before = loss()
    training.run(None, no_progress)
    assert loss() < 0.7 * before


def test_a_loss_that_is_not_finite_names_its_frame(video_task: VideoSegmentationProxy) -> None:
    training = video_task.training(tiny_candidate(video_task))
    with torch.no_grad():
        training.network.cell.classifier.bias.fill_(float("nan"))
    with pytest.raises(DivergedLossError, match="diverged at step 1: cross entropy of frame 2 nan"):
        training.run(None, no_progress)


def test_a_batch_without_any_annotated_pixel_is_no_failure(video_task: VideoSegmentationProxy) -> None:
    training = video_task.training(tiny_candidate(video_task))
    batch = video_task.cache.load(torch.arange(4))
    nothing = batch._replace(labels=[torch.full_like(each, 255) for each in batch.labels])
    losses = training._losses(training._forward(training.network, nothing), nothing)
    assert [loss.item() for loss in losses] == [0.0, 0.0]
