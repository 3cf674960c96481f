"""Parameter groups and optimiser by the recipe."""

from __future__ import annotations

from torch import nn
from torch.optim import SGD, Adam, Optimizer

from nasperc.training.recipe import TrainingRecipe
from nasperc.training.schedule import learning_rate_factor


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


def set_learning_rate(optimizer: Optimizer, recipe: TrainingRecipe, step: int) -> None:
    """Give every group its learning rate in iteration ``step``, counted from 0."""
    factor = learning_rate_factor(recipe, step)
    for group in optimizer.param_groups:
        group["lr"] = group["base_lr"] * factor
