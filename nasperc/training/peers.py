"""The processes that train one network together, each on its part of every batch.

Losses and gradients are sums over the processes, so that they are those of one process with the whole batch,
however it is divided. (DistributedDataParallel takes means, wraps the network, and refuses parameters without a
gradient; for networks of this size nothing is gained by its overlap with the backward pass.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, distributed, nn


@dataclass(frozen=True)
class Peers:
    """``count`` processes, this one being number ``rank``. One alone, the default, communicates nothing.

    Several need torch's default process group. All methods but :meth:`part` are collective: every process must
    call them, in the same order.
    """

    rank: int = 0
    count: int = 1

    @classmethod
    def of_process_group(cls) -> Peers:
        """Those of torch's default process group."""
        return cls(distributed.get_rank(), distributed.get_world_size())

    def part(self, batch_size: int) -> range:
        """This process's places in a batch; the parts differ by at most one in length."""
        return range(batch_size * self.rank // self.count, batch_size * (self.rank + 1) // self.count)

    def reduce(self, values: Tensor) -> Tensor:
        """The sum of ``values`` over the processes; no gradient passes."""
        return self._reduced(values, distributed.ReduceOp.SUM)

    def largest(self, values: Sequence[int], device: torch.device) -> list[int]:
        """The largest of each of ``values``; ``device`` is the one that the process group works on."""
        if self.count == 1:
            return list(values)
        return self._reduced(torch.tensor(values, device=device), distributed.ReduceOp.MAX).tolist()

    @torch.no_grad()
    def add_gradients(self, model: nn.Module) -> None:
        """Give every parameter the sum of its gradients, in one message."""
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        if self.count == 1 or not gradients:
            return
        message = self.reduce(torch.cat([gradient.flatten() for gradient in gradients]))
        for gradient, summed in zip(gradients, message.split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(summed.view(gradient.shape))

    def _reduced(self, values: Tensor, operation: distributed.ReduceOp.RedOpType) -> Tensor:
        if self.count == 1:
            return values
        reduced = values.detach().clone()
        distributed.all_reduce(reduced, operation)
        return reduced
