import torch
from toy_space import toy_tokens

from controllers.one_hot import OneHot


def test_has_a_one_for_each_decision():
    one_hot = OneHot(toy_tokens(choices=3, body=2, head=1).decisions)
    assert one_hot.width == 8
    encoded = one_hot(torch.tensor([[0, 2, 1], [2, 1, 0]]))
    assert encoded.tolist() == [[1, 0, 0, 0, 0, 1, 0, 1], [0, 0, 1, 0, 1, 0, 1, 0]]
