"""Normalisation layers of the model core."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class GroupNorm(nn.GroupNorm):
    """``nn.GroupNorm`` that also takes a group of one value, as a 1x1 level of a narrow head is.

    ``torch.nn.functional.group_norm`` refuses it, in evaluation too; the normalised value is 0, the output
    the bias.
    """

    def forward(self, x: Tensor) -> Tensor:
        return torch.group_norm(x, self.num_groups, self.weight, self.bias, self.eps)


class FrozenBatchNorm2d(nn.Module):
    """BatchNorm whose statistics and affine map are constants, (N, C, H, W) -> (N, C, H, W).

    Everything is a buffer under the names of ``nn.BatchNorm2d``, so that checkpoints of trained networks
    load; nothing of it is a parameter, so nothing is trained or decayed. Small batches of large images
    estimate poor statistics: detectors keep those of the pre-training.
    """

    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.channels = channels
        self.eps = eps
        self.register_buffer("weight", torch.ones(channels))
        self.register_buffer("bias", torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        statistics, affine = (self.running_mean, self.running_var), (self.weight, self.bias)
        return F.batch_norm(x, *statistics, *affine, training=False, eps=self.eps)

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        # A trainable BatchNorm's checkpoint has this counter too; a frozen one has no use for it.
        state_dict.pop(f"{prefix}num_batches_tracked", None)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)

    def extra_repr(self) -> str:
        return f"{self.channels}, eps={self.eps}"
