import copy

import pytest
import torch
from torch import nn

from nasperc.training.averaging import PolyakAverage, reestimate_batch_norm, trainable_batch_norms


class FrozenNorm(nn.BatchNorm2d):
    """Frozen the usual way: stays in evaluation mode whatever its parent does."""

    def train(self, mode: bool = True):
        return super().train(False)


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 1), FrozenNorm(4))


def test_average_follows_the_recursion_and_leaves_the_network_alone():
    model = network()
    model[4].requires_grad_(False)
    average = PolyakAverage(model, 0.9)
    expected = {name: p.detach().clone() for name, p in model.named_parameters()}
    for step in range(4):
        with torch.no_grad():
            for p in model.parameters():
                if p.requires_grad:
                    p.add_(step + 1.0)
        average.update()
        expected = {n: 0.9 * expected[n] + 0.1 * p.detach() for n, p in model.named_parameters()}
    before = copy.deepcopy(model.state_dict())
    clone = copy.deepcopy(model)
    average.copy_to(clone)
    for name, p in clone.named_parameters():
        torch.testing.assert_close(p.detach(), expected[name])
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert "4.weight" not in average.state_dict()


def test_state_goes_round_and_wrong_names_are_refused():
    model = network()
    average = PolyakAverage(model, 0.5)
    other = PolyakAverage(model, 0.5)
    with torch.no_grad():
        model[0].weight.add_(1)
    average.update()
    other.load_state_dict(average.state_dict())
    assert torch.equal(other.state_dict()["0.weight"], average.state_dict()["0.weight"])
    with pytest.raises(KeyError):
        other.load_state_dict({"0.weight": torch.zeros(4, 3, 1, 1)})


def test_statistics_are_the_plain_mean_over_batches():
    model = network().train()
    model(torch.randn(4, 3, 5, 5) * 7)
    frozen = copy.deepcopy(model[4].state_dict())
    batches = [torch.randn(2, 3, 6, 6) for _ in range(3)]
    reestimate_batch_norm(model, iter(batches))
    inputs = [model[0](batch).detach() for batch in batches]
    means = torch.stack([x.mean(dim=(0, 2, 3)) for x in inputs]).mean(0)
    variances = torch.stack([x.transpose(0, 1).flatten(1).var(dim=1) for x in inputs]).mean(0)
    torch.testing.assert_close(model[1].running_mean, means)
    torch.testing.assert_close(model[1].running_var, variances)
    assert all(torch.equal(value, frozen[name]) for name, value in model[4].state_dict().items())
    assert model[1].momentum == 0.1
    assert not any(module.training for module in model.modules())


def test_without_batches_the_statistics_stay():
    model = network().train()
    model(torch.randn(4, 3, 5, 5))
    before = model[1].running_mean.clone()
    reestimate_batch_norm(model, [])
    assert torch.equal(model[1].running_mean, before)


def test_trainable_batch_norms_keeps_modes():
    model = network().eval()
    model[2].train()
    assert trainable_batch_norms(model) == [model[1]]
    assert [m.training for m in model] == [False, False, True, False, False]


def test_a_norm_without_gradients_is_frozen():
    model = network()
    model[1].requires_grad_(False)
    assert trainable_batch_norms(model) == []
