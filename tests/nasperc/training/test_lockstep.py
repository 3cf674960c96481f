"""One process of several; what the others say is given."""

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nasperc.data.batch import collate
from nasperc.data.normalisation import get_normalisation
from nasperc.data.sample import Meta, Sample
from nasperc.errors import InputError
from nasperc.training.interrupt import DeferredInterrupt
from nasperc.training.lockstep import lockstep
from nasperc.training.peers import Peers

CPU = torch.device("cpu")


class Beside(Peers):
    """The first of two; the other one has ``others`` to say, iteration by iteration: height, width, ended."""

    def __init__(self, *others):
        super().__init__(rank=0, count=2)
        object.__setattr__(self, "others", list(others))

    def largest(self, values, device):
        return [max(pair) for pair in zip(values, self.others.pop(0), strict=True)]


def batch(height, width):
    image = torch.full((3, height, width), 9, dtype=torch.uint8)
    return collate([Sample(image, Meta(1, Path("x"), (height, width)))], get_normalisation("tf"))


def sizes(batches):
    return [tuple(each.images.shape[-2:]) for each in batches]


@given(st.integers(1, 64), st.data())
def test_parts_divide_a_batch_evenly(size, data):
    count = data.draw(st.integers(1, size))
    parts = [Peers(rank, count).part(size) for rank in range(count)]
    assert [place for part in parts for place in part] == list(range(size))
    assert {len(part) for part in parts} <= {size // count, -(-size // count)}


def test_one_process_alone_gets_its_batches_as_they_are():
    interrupt, own = DeferredInterrupt(), [batch(32, 64), batch(64, 32)]
    assert list(lockstep(iter(own), Peers(), interrupt, CPU)) == own
    assert not interrupt.requested


def test_batches_have_the_size_of_the_whole_batch_and_end_together():
    interrupt, others = DeferredInterrupt(), Beside((64, 32, 0), (32, 32, 0), (0, 0, 1))
    own = iter([batch(32, 64), batch(64, 64)])
    assert sizes(lockstep(own, others, interrupt, CPU)) == [(64, 64), (64, 64)]
    assert not interrupt.requested


def test_when_another_ends_this_one_is_interrupted():
    interrupt, others = DeferredInterrupt(), Beside((32, 32, 0), (0, 0, 1))
    assert sizes(lockstep((batch(32, 32) for _ in range(9)), others, interrupt, CPU)) == [(32, 32)]
    assert interrupt.requested


def test_an_interrupted_one_reads_no_more_and_tells_the_others():
    interrupt, heard = DeferredInterrupt(), []

    class Hearing(Beside):
        def largest(self, values, device):
            heard.append(tuple(map(int, values)))
            return super().largest(values, device)

    batches = lockstep((batch(32, 32) for _ in range(9)), Hearing((0, 0, 0), (0, 0, 0)), interrupt, CPU)
    next(batches)
    interrupt.requested = True
    assert list(batches) == []
    assert heard == [(32, 32, 0), (0, 0, 1)]


def test_an_unreadable_image_is_raised_after_the_others_know():
    def unreadable():
        raise InputError("an image must be readable", value="x", where="y", repair="z")
        yield

    interrupt, others = DeferredInterrupt(), Beside((32, 32, 0))
    with pytest.raises(InputError, match="must be readable"):
        list(lockstep(unreadable(), others, interrupt, CPU))
    assert others.others == []
