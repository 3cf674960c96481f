import pytest

from nasperc.training.sampler import batch_indices


def test_epochs_follow_one_another_without_a_gap():
    stream = [index for step in range(7) for index in batch_indices(7, 3, seed=1, step=step)]
    epochs = [stream[k : k + 7] for k in range(0, 21, 7)]
    assert all(sorted(epoch) == list(range(7)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3


def test_a_batch_may_hold_more_images_than_there_are():
    assert sorted(batch_indices(2, 4, seed=0, step=5)) == [0, 0, 1, 1]


def test_seeds_differ_and_repeat():
    batches = {seed: [batch_indices(50, 8, seed, step) for step in range(6)] for seed in (0, 1)}
    assert batches[0] != batches[1]
    assert batches[0][3] == batch_indices(50, 8, 0, 3)


def test_no_images():
    with pytest.raises(ValueError, match="at least one"):
        batch_indices(0, 2, 0, 0)
