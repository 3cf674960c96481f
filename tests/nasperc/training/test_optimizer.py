import pytest
import torch
from torch import nn
from torch.optim import SGD, Adam

from nasperc.training.optimizer import Optimizers, build_optimizer, set_learning_rate
from nasperc.training.recipe import TrainingRecipe
from nasperc.training.schedule import learning_rate_factor


def network():
    model = nn.Module()
    model.backbone = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1))
    model.head = nn.Sequential(nn.Conv2d(4, 4, 1), nn.GroupNorm(2, 4))
    model.backbone[0].requires_grad_(False)
    return model


def settings_of(optimizer, parameter):
    (group,) = [g for g in optimizer.param_groups if any(p is parameter for p in g["params"])]
    return group["lr"], group["weight_decay"]


def test_groups():
    model = network()
    recipe = TrainingRecipe(learning_rate=0.1, weight_decay=0.01, bias_lr_factor=2, backbone_lr_factor=0.5)
    optimizer = build_optimizer(model, recipe)
    assert settings_of(optimizer, model.head[0].weight) == pytest.approx((0.1, 0.01))
    assert settings_of(optimizer, model.head[0].bias) == pytest.approx((0.2, 0.0))
    assert settings_of(optimizer, model.head[1].bias) == pytest.approx((0.2, 0.0))
    assert settings_of(optimizer, model.backbone[1].weight) == pytest.approx((0.05, 0.01))
    assert settings_of(optimizer, model.backbone[1].bias) == pytest.approx((0.1, 0.0))
    assert sum(len(group["params"]) for group in optimizer.param_groups) == 6
    set_learning_rate(optimizer, learning_rate_factor(recipe, 250))
    assert settings_of(optimizer, model.head[0].bias)[0] == pytest.approx(0.2 * 2 / 3)


def test_sgd_step_by_hand():
    model = network()
    recipe = TrainingRecipe(learning_rate=0.1, momentum=0.9, weight_decay=0.01, warmup_iterations=0)
    optimizer = build_optimizer(model, recipe)
    weight = model.head[0].weight
    value, velocity = weight.detach().clone(), torch.zeros_like(weight)
    for step in range(3):
        for parameter in model.parameters():
            parameter.grad = torch.full_like(parameter, step + 1.0)
        optimizer.step()
        velocity = 0.9 * velocity + (step + 1.0 + 0.01 * value)
        value = value - 0.1 * velocity
    torch.testing.assert_close(weight.detach(), value)


def test_nothing_to_train():
    with pytest.raises(ValueError, match="trainable"):
        build_optimizer(nn.Linear(1, 1).requires_grad_(False), TrainingRecipe(optimizer="adam"))


def test_several_as_one_each_with_its_schedule():
    one, other = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))
    rates = [{"params": [p], "lr": 1.0, "base_lr": 1.0} for p in (one, other)]
    both = Optimizers((SGD(rates[:1]), lambda step: 0.5), (SGD(rates[1:]), lambda step: 1.0 + step))
    one.grad, other.grad = torch.ones(1), torch.ones(1)
    both.step(2)
    assert (one.item(), other.item()) == (-0.5, -3.0)
    both.zero_grad()
    assert one.grad is None
    with pytest.raises(ValueError, match="zip"):
        both.load_state_dict(both.state_dict()[:1])


def stepped(kind, unused=False):
    """Two parameters after a step; the second may have had no gradient."""
    parameters = [nn.Parameter(torch.zeros(2, 3)), nn.Parameter(torch.zeros(4))]
    groups = [{"params": parameters, "lr": 1.0, "base_lr": 1.0}]
    optimizer = SGD(groups, momentum=0.9, fused=True) if kind is SGD else Adam(groups, fused=True)
    optimizers = Optimizers((optimizer, lambda step: 1.0))
    step(optimizers, parameters[: 1 if unused else 2])
    return optimizers, parameters


def step(optimizers, parameters):
    for parameter in parameters:
        parameter.grad = torch.ones_like(parameter)
    optimizers.step(0)


@pytest.mark.parametrize(
    ("kind", "index", "change"),
    [
        (SGD, 0, {"momentum_buffer": torch.zeros(2, 2)}),
        (SGD, 0, {"momentum_buffer": torch.zeros(2, 3, dtype=torch.int64)}),
        (SGD, 0, {"momentum_buffer": None}),
        (SGD, 0, {"exp_avg": torch.zeros(2, 3)}),
        (SGD, 2, {"momentum_buffer": torch.zeros(4)}),
        (SGD, "0", {"momentum_buffer": torch.zeros(2, 3)}),
        (Adam, 1, {"exp_avg_sq": torch.zeros(5)}),
        (Adam, 1, {"step": 1.0}),
        (Adam, 1, {"max_exp_avg_sq": torch.zeros(4)}),
    ],
)
def test_the_state_of_another_optimiser_is_refused(kind, index, change):
    """Torch would take it, and a fused step read beyond the end of what is too small."""
    optimizers, _ = stepped(kind)
    (saved,) = optimizers.state_dict()
    saved["state"][index] = {**saved["state"].get(index, {}), **change}
    with pytest.raises(ValueError, match="parameter"):
        optimizers.load_state_dict([saved])


def test_learning_rates_stay_those_of_the_recipe():
    optimizers, _ = stepped(Adam)
    (saved,) = optimizers.state_dict()
    other = {**saved, "param_groups": [{**saved["param_groups"][0], "lr": 9.0, "amsgrad": True}]}
    optimizers.load_state_dict([other])
    assert optimizers.state_dict()[0]["param_groups"] == saved["param_groups"]


@pytest.mark.parametrize("kind", [SGD, Adam])
def test_a_parameter_that_had_no_gradient_yet_may_have_one_after_loading(kind):
    optimizers, parameters = stepped(kind, unused=True)
    optimizers.load_state_dict(optimizers.state_dict())
    step(optimizers, parameters)
    torch.testing.assert_close(parameters[1].detach(), -torch.ones(4))
