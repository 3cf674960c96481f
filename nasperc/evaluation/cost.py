"""FLOPs and parameters of a network, counted as in thesis Table 7.2."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from nasperc.ops.deform_conv import DeformConv2d

ModuleT = TypeVar("ModuleT", bound=nn.Module)


class Cost(NamedTuple):
    """``flops``: one multiply-accumulate counts as one. ``params_trainable`` is the column of Table 7.2."""

    flops: int
    params_total: int
    params_trainable: int


def measure_cost(model: nn.Module, size: tuple[int, int] = (800, 1088)) -> Cost:
    """Cost of ``model(images)`` for one image of ``size`` (H, W) pixels; the default is Table 7.2's.

    Only shapes are propagated (meta device): nothing is computed and the model is left alone.
    """
    return measure_module_cost(model, torch.empty(1, 3, *size, device="meta"))


def measure_module_cost(module: nn.Module, inputs: Any) -> Cost:
    """Cost of ``module(inputs)``; ``inputs`` a tensor, or nested lists of tensors (a neck's features).

    Counted: multiply-accumulates and biases of convolutions (of a deformable one its kernel and its offset
    convolution), 2 an element of each ``nn.BatchNorm2d``, 1 an element of each ReLU module.
    ``FrozenBatchNorm2d``, GroupNorm, resizing and everything functional are free.
    """
    counted = shapes_only(module)
    flops = 0

    def count(rule: Callable[[Any, Tensor], int]) -> Callable[[nn.Module, Any, Tensor], None]:
        def hook(layer: nn.Module, _inputs: Any, output: Tensor) -> None:
            nonlocal flops
            flops += rule(layer, output)

        return hook

    for layer in counted.modules():
        for kind, rule in _RULES:
            if isinstance(layer, kind):
                layer.register_forward_hook(count(rule))
                break
    with torch.no_grad():
        counted(_to_meta(inputs))
    parameters = list(module.parameters())
    return Cost(
        flops=flops,
        params_total=sum(p.numel() for p in parameters),
        params_trainable=sum(p.numel() for p in parameters if p.requires_grad),
    )


def shapes_only(module: ModuleT) -> ModuleT:
    """A copy of ``module`` on the meta device: it knows the shapes, and computes nothing."""
    return copy.deepcopy(module).to("meta")


def _convolution(layer: Any, output: Tensor) -> int:
    kernel = layer.weight.shape[1:].numel()
    return output.numel() * (kernel + (layer.bias is not None))


def _batch_norm(_layer: nn.Module, output: Tensor) -> int:
    return 2 * output.numel()


def _relu(_layer: nn.Module, output: Tensor) -> int:
    return output.numel()


_RULES: tuple[tuple[type[nn.Module] | tuple[type[nn.Module], ...], Callable[[Any, Tensor], int]], ...] = (
    ((nn.Conv2d, DeformConv2d), _convolution),
    (nn.BatchNorm2d, _batch_norm),
    ((nn.ReLU, nn.ReLU6), _relu),
)


def _to_meta(inputs: Any) -> Any:
    if isinstance(inputs, Tensor):
        return inputs.to("meta")
    if isinstance(inputs, list | tuple):
        return [_to_meta(each) for each in inputs]
    raise TypeError(f"inputs must be tensors or lists of tensors, not {type(inputs).__name__}")
