import math

import pytest
import torch
from torch import nn
from video_checkpoint import MODEL, network, searched_cell

from nasperc.assembly.segmenter import build_static
from nasperc.data.normalisation import get_normalisation
from nasperc.training.segmentation_batches import SequenceBatches
from nasperc.training.segmentation_losses import (
    later_frame_losses,
    reduce_labels,
    segmentation_loss,
    sequence_losses,
    static_losses,
)
from nasperc.training.segmentation_recipe import VideoTrainingRecipe

TF = get_normalisation("tf")
RECIPE = VideoTrainingRecipe(sequence_length=3, pad=None, flip=0)


@pytest.fixture(scope="module")
def batch(videos):
    return SequenceBatches(videos, 2, RECIPE, TF, seed=0)[0]


def by_hand(logits, labels):
    """Cross entropy, pixel by pixel, at the size of the logits: label of the 8x8 block's centre."""
    terms = []
    for image, target in zip(logits.double(), labels, strict=True):
        for y in range(image.shape[1]):
            for x in range(image.shape[2]):
                label = int(target[8 * y + 4, 8 * x + 4])
                if label != 255:
                    terms.append(torch.logsumexp(image[:, y, x], 0) - image[label, y, x])
    return sum(terms) / len(terms)


def test_loss_by_hand():
    torch.manual_seed(0)
    logits, labels = torch.randn(2, 4, 3, 5), torch.randint(0, 4, (2, 24, 40))
    labels[torch.rand(labels.shape) < 0.3] = 255
    torch.testing.assert_close(segmentation_loss(logits, labels).double(), by_hand(logits, labels))


def test_at_the_size_of_the_labels():
    logits, labels = torch.randn(1, 3, 2, 2), torch.randint(0, 3, (1, 16, 16))
    large = nn.functional.interpolate(logits, (16, 16), mode="bilinear")
    expected = nn.functional.cross_entropy(large, labels)
    torch.testing.assert_close(segmentation_loss(logits, labels, "labels"), expected)


def test_nothing_annotated_is_no_loss():
    logits = torch.randn(1, 3, 2, 2, requires_grad=True)
    loss = segmentation_loss(logits, torch.full((1, 16, 16), 255))
    loss.backward()
    assert loss == 0
    assert (logits.grad == 0).all()


def test_labels_are_those_of_the_centres_at_sizes_that_8_does_not_divide():
    labels = torch.arange(30)[None, :, None].expand(1, 30, 30)
    # 30 / 4 = 7.5 rows each; centres at 3.75, 11.25, 18.75, 26.25.
    assert reduce_labels(labels, (4, 4))[0, :, 0].tolist() == [3, 11, 18, 26]


@pytest.mark.parametrize("train_static", [False, True])
def test_sequence_loss_is_that_of_the_frames_step_by_step(videos, batch, train_static):
    video = network(searched_cell(), len(videos.classes))
    terms = sequence_losses(video, batch, 3, "logits", train_static=train_static)
    first, second, third = batch.images.chunk(3)
    labels = torch.stack([sample.semantic for sample in batch.samples]).chunk(3)
    with torch.no_grad():
        _, state = video.start(first)
        second_logits, state = video.step(state, second)
        third_logits, _ = video.step(state, third)
    expected = by_hand(second_logits, labels[1]) + by_hand(third_logits, labels[2])
    assert list(terms) == ["segmentation"]
    torch.testing.assert_close(terms["segmentation"].detach().double(), expected, rtol=1e-4, atol=1e-5)
    terms["segmentation"].backward()
    assert all(p.grad is not None for p in video.cell.parameters() if p.requires_grad)
    reached = [p.grad is not None and bool((p.grad != 0).any()) for p in video.static.backbone.parameters()]
    assert any(reached) == train_static


def test_the_baseline_has_the_same_frames_each_by_itself(videos, batch):
    static = network(None, len(videos.classes))
    terms = later_frame_losses(static, batch, 3, "logits")
    labels = torch.stack([sample.semantic for sample in batch.samples]).chunk(3)
    with torch.no_grad():
        logits = [static(frames).logits for frames in batch.images.chunk(3)]
    expected = by_hand(logits[1], labels[1]) + by_hand(logits[2], labels[2])
    torch.testing.assert_close(terms["segmentation"].detach().double(), expected, rtol=1e-4, atol=1e-5)


def test_auxiliary_losses_are_weighted_and_summed(videos, batch):
    torch.manual_seed(0)
    model = build_static(MODEL, len(videos.classes), load_weights=False, auxiliary=True)
    terms = {
        weight: {k: v.item() for k, v in static_losses(model, batch, weight, "logits").items()}
        for weight in (0.3, 0.6)
    }
    assert terms[0.3]["segmentation"] == pytest.approx(terms[0.6]["segmentation"])
    assert terms[0.6]["auxiliary"] == pytest.approx(2 * terms[0.3]["auxiliary"])
    assert math.isfinite(terms[0.3]["auxiliary"])
    assert list(static_losses(model.eval(), batch, 0.3, "logits")) == ["segmentation"]
