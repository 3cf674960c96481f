from __future__ import annotations

import pytest
import torch
from torch import nn

from nasperc.models.normalisation import FrozenBatchNorm2d, GroupNorm


def test_group_norm_agrees_with_torch() -> None:
    x = torch.randn(2, 8, 3, 5)
    torch.testing.assert_close(GroupNorm(4, 8)(x), nn.GroupNorm(4, 8)(x))


def test_a_group_of_one_value_becomes_the_bias() -> None:
    norm = GroupNorm(4, 4)
    nn.init.constant_(norm.bias, 0.5)
    # Rounding is blown up by 1 / sqrt(eps), hence the tolerance.
    assert norm(torch.randn(1, 4, 1, 1)).flatten().tolist() == pytest.approx([0.5] * 4, abs=1e-3)


def trained_batch_norm() -> nn.BatchNorm2d:
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(4)
    with torch.no_grad():
        norm.weight.uniform_(0.5, 2)
        norm.bias.normal_()
    for _ in range(3):
        norm(torch.randn(8, 4, 5, 5) * 3 + 1)
    return norm


def test_it_is_a_trained_batch_norm_in_eval_mode() -> None:
    trained = trained_batch_norm()
    frozen = FrozenBatchNorm2d(4)
    frozen.load_state_dict(trained.state_dict())  # strict: the counter must not be an unexpected key
    x = torch.randn(2, 4, 3, 3)
    for mode in (True, False):
        torch.testing.assert_close(frozen.train(mode)(x), trained.eval()(x))


def test_it_has_nothing_to_train_and_keeps_its_statistics() -> None:
    frozen = FrozenBatchNorm2d(4).train()
    before = {key: value.clone() for key, value in frozen.state_dict().items()}
    frozen(torch.randn(8, 4, 5, 5) + 3)
    assert list(frozen.parameters()) == []
    assert all(torch.equal(before[key], value) for key, value in frozen.state_dict().items())


def test_the_state_of_a_trained_one_is_left_whole() -> None:
    state = trained_batch_norm().state_dict()
    FrozenBatchNorm2d(4).load_state_dict(state)
    assert "num_batches_tracked" in state
