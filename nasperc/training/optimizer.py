"""Parameter groups and optimisers by the recipe."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn, zeros_like
from torch.optim import SGD, Adam, Optimizer

from nasperc.training.recipe import TrainingRecipe

# What an optimiser keeps for each parameter: beside the number of steps, tensors of the parameter's shape.
_STATE: dict[type[Optimizer], frozenset[str]] = {
    SGD: frozenset({"momentum_buffer"}),
    Adam: frozenset({"step", "exp_avg", "exp_avg_sq"}),
}


def build_optimizer(model: nn.Module, recipe: TrainingRecipe) -> Optimizer:
    """SGD or Adam over the trainable parameters, in four groups.

    Biases (norm layers' too) have their own learning rate and no weight decay; the parameters of a submodule
    ``backbone`` have theirs times ``backbone_lr_factor``.

    Raises:
        ValueError: nothing in ``model`` is trainable.
    """
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            key = (name.startswith("backbone."), name.rpartition(".")[2] == "bias")
            groups.setdefault(key, []).append(parameter)
    if not groups:
        raise ValueError("a network to train needs trainable parameters")
    settings = []
    for (in_backbone, is_bias), parameters in sorted(groups.items(), key=lambda item: item[0]):
        factor = (recipe.backbone_lr_factor if in_backbone else 1.0) * (
            recipe.bias_lr_factor if is_bias else 1.0
        )
        settings.append(
            {
                "params": parameters,
                "lr": recipe.learning_rate * factor,
                "base_lr": recipe.learning_rate * factor,
                "weight_decay": 0.0 if is_bias else recipe.weight_decay,
            }
        )
    if recipe.optimizer == "sgd":
        return SGD(settings, lr=recipe.learning_rate, momentum=recipe.momentum, fused=True)
    return Adam(settings, lr=recipe.learning_rate, fused=True)


class Optimizers:
    """Several optimisers as one, each with a schedule of its own.

    Args:
        scheduled: pairs of an optimiser, whose parameter groups all have a ``base_lr``, and a function from the
            iteration, counted from 0, to the factor on it.
    """

    def __init__(self, *scheduled: tuple[Optimizer, Callable[[int], float]]) -> None:
        self._scheduled = scheduled

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for optimizer, _ in self._scheduled:
            optimizer.zero_grad(set_to_none=True)

    def step(self, step: int) -> None:
        """Take iteration ``step`` with the learning rates that it has by the schedules."""
        for optimizer, factor in self._scheduled:
            set_learning_rate(optimizer, factor(step))
            optimizer.step()

    def state_dict(self) -> list[dict[str, Any]]:
        """Of all of them, in order."""
        return [optimizer.state_dict() for optimizer, _ in self._scheduled]

    def load_state_dict(self, states: Sequence[dict[str, Any]]) -> None:
        """Set what :meth:`state_dict` gave. The groups with their learning rates stay those of the recipe.

        Raises:
            ValueError: they are of other optimisers. (Torch takes anything, and fused steps fail later or read
                beyond a tensor's end.)
        """
        for (optimizer, _), saved in zip(self._scheduled, states, strict=True):
            state = _checked_state(optimizer, saved["state"])
            optimizer.load_state_dict({**optimizer.state_dict(), "state": state})


def _checked_state(optimizer: Optimizer, state: dict[int, dict[str, Any]]) -> dict[int, dict[str, Any]]:
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    names = _STATE[type(optimizer)]
    for index, kept in state.items():
        if type(index) is not int or not 0 <= index < len(parameters) or kept.keys() != names:
            raise ValueError(f"an optimiser's state of parameter {index} is not its {sorted(names)}")
        for name, value in kept.items():
            shape = () if name == "step" else parameters[index].shape
            if not isinstance(value, Tensor) or value.shape != shape or not value.is_floating_point():
                raise ValueError(f"{name} of parameter {index} must be a tensor of shape {tuple(shape)}")
    if not state or "momentum_buffer" not in names:
        return state
    # A parameter that never had a gradient has no state, but a fused SGD that finds some momenta wants them all;
    # zero is what it begins with.
    return {
        index: state.get(index, {"momentum_buffer": zeros_like(parameter)})
        for index, parameter in enumerate(parameters)
    }


def set_learning_rate(optimizer: Optimizer, factor: float) -> None:
    """Give every group its learning rate, ``factor`` times its ``base_lr``."""
    for group in optimizer.param_groups:
        group["lr"] = group["base_lr"] * factor
