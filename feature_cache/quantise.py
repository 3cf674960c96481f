"""8-bit storage of feature maps, with a scale and a zero for each record and channel."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def quantise(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """``values`` (N, ..., C) as ``(codes uint8 (N, ..., C), scale (N, C), zero (N, C))``.

    A value is code * scale + zero. Its error is at most half of the scale, the channel's range / 255.
    """
    values = values.astype(np.float32)
    inner = tuple(range(1, values.ndim - 1))
    zero, top = values.min(axis=inner), values.max(axis=inner)
    scale = (top - zero) / 255
    shape = (values.shape[0], *(1 for _ in inner), values.shape[-1])
    # A constant channel has scale 0: every code is 0 and the zero is the value.
    step = np.where(scale > 0, scale, 1).reshape(shape)
    codes = np.rint((values - zero.reshape(shape)) / step)
    return codes.clip(0, 255).astype(np.uint8), scale, zero


def dequantise(codes: Tensor, scale: Tensor, zero: Tensor) -> Tensor:
    """float32 values of ``codes`` (N, ..., C) with ``scale`` and ``zero`` (N, C)."""
    shape = (codes.shape[0], *(1 for _ in range(codes.ndim - 2)), codes.shape[-1])
    return torch.addcmul(zero.reshape(shape), codes.to(torch.float32), scale.reshape(shape))
