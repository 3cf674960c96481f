"""Which images make which batch: a pure function of seed and iteration, so that resuming needs no state."""

from __future__ import annotations

from functools import lru_cache

import numpy as np


@lru_cache(maxsize=8)
def epoch_order(length: int, seed: int, epoch: int) -> tuple[int, ...]:
    """The order of ``length`` images in an epoch."""
    return tuple(np.random.default_rng([seed, epoch]).permutation(length).tolist())


def batch_indices(length: int, batch_size: int, seed: int, step: int) -> list[int]:
    """The images of batch ``step``: epochs, each in an order of its own, follow one another without a gap.

    Raises:
        ValueError: there are no images.
    """
    if length < 1:
        raise ValueError("a data set to train on needs at least one image")
    positions = range(step * batch_size, (step + 1) * batch_size)
    return [epoch_order(length, seed, position // length)[position % length] for position in positions]
