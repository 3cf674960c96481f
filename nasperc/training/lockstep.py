"""Batches of several processes in lockstep: of one size, and ending for all before the same iteration."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from nasperc.data.batch import Batch, pad
from nasperc.errors import InputError
from nasperc.training.interrupt import DeferredInterrupt
from nasperc.training.peers import Peers


def lockstep(
    batches: Iterator[Batch], peers: Peers, interrupt: DeferredInterrupt, device: torch.device
) -> Iterator[Batch]:
    """This process's batches, padded to the size of the whole batch: GroupNorm and focal loss see the padding.

    They end when they are used up, and for all processes as soon as one of them is interrupted or cannot read an
    image. A process that could have gone on is marked as interrupted too.

    Args:
        batches: as many in every process.
        peers: the processes.
        interrupt: of this process.
        device: that the process group works on.

    Raises:
        InputError: this process cannot read an image.
    """
    while True:
        batch: Batch | None = None
        failure: InputError | None = None
        if not interrupt.requested:
            try:
                batch = next(batches, None)
            except InputError as error:
                failure = error
        size = (0, 0) if batch is None else batch.images.shape[-2:]
        height, width, ended = peers.largest((*size, batch is None), device)
        if failure is not None:
            raise failure
        if batch is None or ended:
            interrupt.requested |= batch is not None
            return
        yield pad(batch, (height, width))
