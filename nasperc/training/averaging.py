"""Polyak averaging of parameters, and the BatchNorm statistics that averaged parameters need.

Averaged parameters are measured on a copy of the network. Its BatchNorm statistics belong to other
parameters, so they are estimated again before the copy is used (thesis 7.4.1).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


class PolyakAverage:
    """Exponential average of a network's trainable parameters; buffers are left out.

    The network itself is never changed. Parameters are taken by name, so a deep copy made at any time fits.

    Args:
        model: the network in training.
        decay: each step ``average = decay * average + (1 - decay) * parameter``; starts at the parameters.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self._source = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self._average = {name: p.detach().clone() for name, p in self._source.items()}

    @torch.no_grad()
    def update(self) -> None:
        """Take in the parameters as they are now; call it after each optimiser step."""
        torch._foreach_lerp_(list(self._average.values()), list(self._source.values()), 1 - self.decay)

    @torch.no_grad()
    def copy_to(self, model: nn.Module) -> None:
        """Write the averages into ``model``, a copy of the network that this was made for.

        Raises:
            KeyError: ``model`` lacks one of the parameters.
        """
        parameters = dict(model.named_parameters())
        for name, average in self._average.items():
            parameters[name].copy_(average)

    def state_dict(self) -> dict[str, Tensor]:
        """The averages by parameter name."""
        return dict(self._average)

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Set the averages.

        Raises:
            KeyError: a parameter is missing or unknown.
        """
        if state.keys() != self._average.keys():
            raise KeyError(f"averages of other parameters: {sorted(state.keys() ^ self._average.keys())[:3]}")
        for name, average in self._average.items():
            average.copy_(state[name])


def trainable_batch_norms(model: nn.Module) -> list[_BatchNorm]:
    """The BatchNorm modules that are in training when ``model`` is.

    Frozen ones are left out: those that stay in evaluation mode by themselves, and those whose affine map
    takes no gradient. The mode of every module is as before afterwards.
    """
    modes = [(module, module.training) for module in model.modules()]
    model.train()
    found = [m for m in model.modules() if isinstance(m, _BatchNorm) and m.training and _takes_gradients(m)]
    for module, mode in modes:
        module.training = mode
    return found


def _takes_gradients(norm: _BatchNorm) -> bool:
    return not norm.affine or any(parameter.requires_grad for parameter in norm.parameters())


@torch.no_grad()
def reestimate_batch_norm(model: nn.Module, batches: Iterable[Any]) -> None:
    """Set the BatchNorm statistics to the cumulative mean over ``batches``, and evaluation mode.

    Every batch has the same weight (``momentum=None``), so their order does not matter. Frozen BatchNorm
    keeps its statistics, all other modules run in evaluation mode. Without batches nothing is changed.

    Args:
        model: called as ``model(batch)``, its output is dropped.
        batches: inputs; a fixed set, so that two calls agree.
    """
    norms = trainable_batch_norms(model)
    model.eval()
    batches = iter(batches)
    first = next(batches, None)
    if not norms or first is None:
        return
    momenta = [norm.momentum for norm in norms]
    try:
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None
            norm.train()
        model(first)
        for batch in batches:
            model(batch)
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
            norm.eval()
