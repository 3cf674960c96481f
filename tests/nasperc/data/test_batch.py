from pathlib import Path

import pytest
import torch

from nasperc.data.batch import collate, pad, semantic_targets
from nasperc.data.normalisation import get_normalisation
from nasperc.data.sample import Meta, Sample


def white(height: int, width: int) -> Sample:
    image = torch.full((3, height, width), 255, dtype=torch.uint8)
    return Sample(image=image, meta=Meta(1, Path("x"), (height, width)))


def test_padding_is_zero_after_normalisation():
    samples = [white(40, 20), white(33, 64)]
    batch = collate(samples, get_normalisation("tf"))
    assert batch.images.shape == (2, 3, 64, 64)
    assert batch.images.dtype == torch.float32
    assert batch.images.is_contiguous(memory_format=torch.channels_last)
    assert batch.sizes == [(40, 20), (33, 64)]
    assert batch.samples == samples
    for image, (h, w) in zip(batch.images, batch.sizes, strict=True):
        assert (image[:, :h, :w] == 1).all()
        assert image.sum() == 3 * h * w


def test_size_and_divisor():
    assert collate([white(40, 20)], get_normalisation("tf"), divisor=128).images.shape[-2:] == (128, 128)
    assert collate([white(64, 32)], get_normalisation("tf")).images.shape[-2:] == (64, 32)
    assert collate([white(40, 20)], get_normalisation("tf"), size=(96, 50)).images.shape[-2:] == (96, 50)
    with pytest.raises(ValueError, match="do not fit"):
        collate([white(40, 20)], get_normalisation("tf"), size=(32, 32))
    with pytest.raises(ValueError, match="at least one"):
        collate([], get_normalisation("tf"))


def test_padding_later_is_padding_at_once():
    samples, normalisation = [white(40, 20), white(33, 64)], get_normalisation("caffe")
    at_once, later = collate(samples, normalisation, size=(96, 128)), collate(samples, normalisation)
    padded = pad(later, (96, 128))
    assert torch.equal(padded.images, at_once.images)
    assert padded.images.is_contiguous(memory_format=torch.channels_last)
    assert (padded.sizes, padded.samples) == (at_once.sizes, at_once.samples)
    assert pad(later, (64, 64)) is later


def test_semantic_maps_are_stacked_and_ignored_in_the_padding():
    samples = [white(40, 20), white(33, 64)]
    with pytest.raises(ValueError, match="no semantic map"):
        semantic_targets(collate(samples, get_normalisation("tf")))
    maps = [torch.full(sample.meta.size, label) for label, sample in enumerate(samples)]
    labelled = [s.with_fields(semantic=each) for s, each in zip(samples, maps, strict=True)]
    targets = semantic_targets(collate(labelled, get_normalisation("tf")))
    assert targets.shape == (2, 64, 64)
    assert targets.dtype == torch.int64
    for target, each in zip(targets, maps, strict=True):
        h, w = each.shape
        assert torch.equal(target[:h, :w], each)
        assert (target == 255).sum() == 64 * 64 - h * w
