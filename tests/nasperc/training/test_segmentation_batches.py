import numpy as np
import pytest
import torch

from nasperc.data.normalisation import get_normalisation
from nasperc.data.sample import Meta, Sample
from nasperc.data.video import VideoDataset
from nasperc.errors import InputError
from nasperc.training.segmentation_batches import (
    FrameBatches,
    SequenceBatches,
    frame_transform,
    sequence_transform,
)
from nasperc.training.segmentation_recipe import StaticTrainingRecipe, VideoTrainingRecipe

TF = get_normalisation("tf")


def sequences(videos, batch_size=3, seed=0, **keys):
    return SequenceBatches(videos, batch_size, VideoTrainingRecipe(**keys), TF, seed)


def test_frames_are_scaled_and_padded_to_the_crop(videos):
    recipe = StaticTrainingRecipe(batch_size=4, crop=(56, 40), scales=(0.5, 2.0))
    batches = FrameBatches(videos, recipe, TF, seed=0)
    assert batches.examples == 8
    batch = batches[0]
    assert batch.images.shape == (4, 3, 56, 40)
    assert batch.images.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(batch.images, batches[0].images)
    assert not torch.equal(batch.images, batches[1].images)
    assert not torch.equal(batch.images, FrameBatches(videos, recipe, TF, seed=1)[0].images)


def test_what_pads_a_frame_is_the_mean_colour_and_ignored(videos):
    recipe = StaticTrainingRecipe(crop=(64, 64), scales=(1.0, 1.0), flip=0)
    sample = frame_transform(recipe, TF)(videos[0], np.random.default_rng(0))
    assert (sample.image[:, :8] == 128).all()
    assert (sample.semantic[:8] == 255).all()
    assert (sample.image[:, 8:56] == videos[0].image).all()


def test_sequences_come_one_frame_after_another(videos):
    """Without augmentation: all first frames, then all second ones; of each sequence the neighbours."""
    plain = sequences(videos, sequence_length=3, pad=None, flip=0)
    assert plain.examples == 4
    batch = plain[0]
    files = [sample.meta.file.stem for sample in batch.samples]
    assert len(files) == 9
    for k in range(3):
        numbers = [int(name.split("_")[1]) for name in files[k::3]]
        assert numbers == list(range(numbers[0], numbers[0] + 3))
        assert len({name.split("_")[0] for name in files[k::3]}) == 1
    expected = torch.stack([TF.apply(sample.image) for sample in batch.samples])
    torch.testing.assert_close(batch.images, expected)


def test_all_frames_of_a_sequence_are_transformed_alike(videos):
    """A sequence of one frame repeated stays one frame repeated, whatever is drawn."""
    transform = sequence_transform(VideoTrainingRecipe(pad=70, crop=(40, 36), scales=(0.8, 1.2)), TF)
    for seed in range(8):
        first, *others = transform.sequence([videos[0]] * 3, np.random.default_rng(seed))
        assert first.image.shape == (3, 40, 36)
        assert all(torch.equal(each.image, first.image) for each in others)
        assert all(torch.equal(each.semantic, first.semantic) for each in others)


def test_the_short_side_is_padded_and_the_crop_keeps_what_there_is(videos):
    transform = sequence_transform(VideoTrainingRecipe(pad=56, crop=(600, 600), flip=0), TF)
    (sample,) = transform.sequence([videos[0]], np.random.default_rng(0))
    assert sample.image.shape == (3, 56, 64)
    assert (sample.image[:, :4] == 128).all()


class HalfAnnotated(VideoDataset):
    """Four frames, of which the even ones are annotated."""

    def __init__(self):
        self.classes = ("a", "b")

    def __getitem__(self, index):
        semantic = torch.zeros(32, 32, dtype=torch.int64) if index % 2 else None
        return Sample(
            torch.zeros(3, 32, 32, dtype=torch.uint8), Meta(index, "x", (32, 32)), semantic=semantic
        )

    def sequences(self, length):
        return (range(0, 2), range(2, 4))


def test_a_frame_without_annotation_is_ignored():
    batch = sequences(HalfAnnotated(), batch_size=2, sequence_length=2, pad=None)[0]
    assert [bool((sample.semantic == 255).all()) for sample in batch.samples] == [True, True, False, False]


def test_a_sequence_longer_than_its_run(videos):
    with pytest.raises(InputError, match="a run of 4"):
        sequences(videos, sequence_length=5)
