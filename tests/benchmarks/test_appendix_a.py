import pytest
import torch

from benchmarks.appendix_a import AS_WRITTEN
from search_spaces.cell_aggregations import CELL_AGGREGATIONS, DenseAttention


@pytest.mark.parametrize("kind", AS_WRITTEN)
def test_what_is_measured_against_computes_the_same(kind):
    torch.manual_seed(0)
    module = kind(4)
    x, y = (torch.randn(2, 4, 6, 5) for _ in range(2))
    torch.testing.assert_close(AS_WRITTEN[kind](module, x, y), module(x, y))


def test_only_what_is_written_in_one_way_is_left_out():
    assert set(CELL_AGGREGATIONS) - set(AS_WRITTEN) == {DenseAttention}
