import pytest
import torch

from nasperc.data.batch import pad
from nasperc.data.normalisation import get_normalisation
from nasperc.training import batches as module
from nasperc.training.batches import TrainingBatches
from nasperc.training.peers import Peers

NORMALISATION = get_normalisation("tf")


def same(a, b):
    return torch.equal(a.images, b.images) and all(
        torch.equal(x.boxes, y.boxes) for x, y in zip(a.samples, b.samples, strict=True)
    )


def test_a_batch_is_a_function_of_seed_and_iteration(dataset, recipe):
    batches = TrainingBatches(dataset, recipe, NORMALISATION, seed=3)
    again = TrainingBatches(dataset, recipe, NORMALISATION, seed=3)
    ahead = list(batches.ahead(0, 5))
    assert len(ahead) == 5
    for step in (4, 0, 2):
        assert same(ahead[step], again[step])
    assert not same(ahead[1], TrainingBatches(dataset, recipe, NORMALISATION, seed=4)[1])


def test_several_readers_keep_the_order(dataset, recipe, monkeypatch):
    monkeypatch.setattr(module, "readers", lambda: 4)
    batches = TrainingBatches(dataset, recipe, NORMALISATION, seed=3)
    for step, batch in enumerate(batches.ahead(2, 12), start=2):
        assert same(batch, batches[step])


def test_processes_share_the_batch_of_one(dataset, recipe):
    larger = recipe.model_copy(update={"batch_size": 5})
    alone = TrainingBatches(dataset, larger, NORMALISATION, seed=3)
    parts = [TrainingBatches(dataset, larger, NORMALISATION, 3, Peers(rank, 2)) for rank in range(2)]
    for step in range(3):
        whole, shared = alone[step], [part[step] for part in parts]
        assert [len(part.samples) for part in shared] == [2, 3]
        size = tuple(whole.images.shape[-2:])
        assert torch.equal(torch.cat([pad(part, size).images for part in shared]), whole.images)
        boxes = [sample.boxes for part in shared for sample in part.samples]
        assert all(map(torch.equal, boxes, [sample.boxes for sample in whole.samples]))


def test_multi_scale_and_crop(dataset, recipe):
    batches = TrainingBatches(dataset, recipe, NORMALISATION, seed=0)
    short_sides = {min(size) for step in range(12) for size in batches[step].sizes}
    assert short_sides == {48, 64}
    cropped = TrainingBatches(dataset, recipe.model_copy(update={"crop": 32}), NORMALISATION, seed=0)
    assert all(size == (32, 32) for step in range(4) for size in cropped[step].sizes)
    assert all(len(sample.boxes) for step in range(4) for sample in cropped[step].samples)


@pytest.mark.parametrize(("divisor", "size"), [(4, (48, 60)), (32, (64, 64)), (128, (128, 128))])
def test_images_are_padded_to_the_divisor(dataset, recipe, divisor, size):
    small = recipe.model_copy(update={"short_sides": (48,)})
    batch = TrainingBatches(dataset, small, NORMALISATION, seed=0, divisor=divisor)[0]
    assert batch.sizes == [(48, 60)] * 2
    assert batch.images.shape[-2:] == size
    assert not batch.images[:, :, 48:].any()
    assert not batch.images[:, :, :, 60:].any()


def test_a_reader_that_stops_early_leaves_no_thread_waiting(dataset, recipe):
    stream = TrainingBatches(dataset, recipe, NORMALISATION, seed=0).ahead(0, 1000)
    next(stream)
    stream.close()
    with pytest.raises(StopIteration):
        next(stream)
