"""Weights of raw networks: random ones that let every change reach the outputs, and such that no rewrite alters."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

State = dict[str, Tensor]


def place(modules: nn.Module, state: State) -> None:
    """What ``load_state_dict(assign=True)`` does, in a tenth of its time: for networks so small that counts.

    Raises:
        RuntimeError: a weight is missing, left over or of another shape.
    """
    own = modules.state_dict(keep_vars=True)
    wrong = own.keys() ^ state.keys() or {name for name in own if own[name].shape != state[name].shape}
    if wrong:
        raise RuntimeError(f"weights that do not fit: {sorted(wrong)}")
    for name, tensor in own.items():
        tensor.data = state[name]


def random_state(modules: nn.Module, known: State, generator: torch.Generator) -> State:
    """Weights in float64 that make every channel and every operand count; ``known`` ones of the same shape stay."""
    expected = modules.state_dict()
    state = {
        name: known[name] if name in known and known[name].shape == tensor.shape else torch.zeros_like(tensor)
        for name, tensor in expected.items()
    }
    fresh = [name for name, tensor in expected.items() if state[name] is not known.get(name)]
    floating = [name for name in fresh if expected[name].is_floating_point()]
    sizes = [expected[name].numel() for name in floating]
    uniform = torch.rand(sum(sizes), dtype=torch.float64, generator=generator)
    for name, values in zip(floating, uniform.split(sizes), strict=True):
        state[name] = _weights(name, values.view(expected[name].shape))
    return state


def alike_state(modules: nn.Module) -> State:
    """Weights that depend on their shape alone, and are the same for both operands of an aggregation.

    An allowed rewrite permutes layers of one kind and swaps operands: it leaves these weights as they are.
    """
    state = {}
    for name, tensor in modules.state_dict().items():
        if tensor.is_floating_point():
            generator = torch.Generator().manual_seed(hash(tuple(tensor.shape)) % 2**60)
            values = _weights(name, torch.rand(tensor.shape, dtype=torch.float64, generator=generator))
            for dim in range(1, tensor.ndim):
                if tensor.shape[dim] % 2 == 0:
                    # Channels (or slices of a kernel) of the one operand, then of the other.
                    values = (values + values.roll(tensor.shape[dim] // 2, dim)) / math.sqrt(2)
            state[name] = values
        else:
            state[name] = torch.zeros_like(tensor)
    return state


def _weights(name: str, uniform: Tensor) -> Tensor:
    """From values in [0, 1) of a tensor's shape. What a change does must reach the outputs, so hardly any ReLU behind
    a norm is silent in all channels, and signals do not fade: a 1x1 keeps their variance, and of a dilated depthwise
    kernel the centre alone must do on a small map. Other convolutions, those of offsets not excepted: PyTorch's
    U(+-1/sqrt(fan in))."""
    if name.endswith("running_mean"):
        return 0.5 * uniform - 0.25
    if uniform.ndim <= 1:
        # Scales and variances are positive.
        return 0.25 + 0.5 * uniform
    bound = 1 / math.sqrt(max(1, uniform[0].numel()))
    if uniform.ndim == 4 and uniform.shape[2:] == (1, 1):
        bound *= math.sqrt(3)
    elif uniform.ndim == 4 and uniform.shape[1] == 1:
        bound = 1.0
    return (2 * uniform - 1) * bound
