"""Memory that training needs for activations."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from nasperc.evaluation.cost import shapes_only


def activation_bytes(model: nn.Module, size: tuple[int, int] = (800, 1088)) -> int:
    """Bytes that a forward pass of ``model(images)`` keeps for the backward pass, for one float32 image.

    This is what grows with the batch. Each storage counts once, however many layers keep it; parameters and buffers
    do not count, and what lies before the first trained layer is not kept at all. A deformable convolution keeps
    what its formulation for CUDA keeps. Only shapes are propagated (meta device); the model is left alone.

    Args:
        model: in any mode; it is counted in training mode.
        size: (H, W) in pixels.
    """
    counted = shapes_only(model).train()
    own = {_storage(tensor)[0] for tensor in (*counted.parameters(), *counted.buffers())}
    kept: dict[int, int] = {}
    # The key is an address: it must not be used again while counting.
    alive: list[Tensor] = []

    def keep(tensor: Tensor) -> Tensor:
        key, size_in_bytes = _storage(tensor)
        if key not in own:
            kept[key] = size_in_bytes
            alive.append(tensor)
        return tensor

    with torch.enable_grad(), saved_tensors_hooks(keep, lambda tensor: tensor):
        counted(torch.empty(1, 3, *size, device="meta"))
    return sum(kept.values())


def _storage(tensor: Tensor) -> tuple[int, int]:
    """Identity and bytes; on the meta device there is no data pointer to tell storages apart."""
    storage = tensor.untyped_storage()
    return storage._cdata, storage.nbytes()
