import pytest
import torch
from torch.nn import functional as F

from nasperc.ops.predicted_filter import predicted_filter


def by_im2col(filters, x):
    """Appendix A's reading: all nine neighbours of every pixel side by side, times its filter."""
    n, channels, height, width = x.shape
    columns = F.unfold(x, 3, padding=1).view(n, channels, 9, height, width)
    return torch.einsum("nckhw,nkhw->nchw", columns, filters)


@pytest.mark.parametrize("size", [(5, 7), (1, 1), (2, 9)])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_it_is_im2col_and_a_product(size, layout):
    torch.manual_seed(0)
    filters, x = (
        torch.randn(2, channels, *size, dtype=torch.float64).contiguous(memory_format=layout).requires_grad_()
        for channels in (9, 4)
    )
    ours, theirs = predicted_filter(filters, x), by_im2col(filters, x)
    torch.testing.assert_close(ours, theirs)
    upstream = torch.randn_like(theirs)
    for one, other in zip(
        torch.autograd.grad(ours, (filters, x), upstream),
        torch.autograd.grad(theirs, (filters, x), upstream),
        strict=True,
    ):
        torch.testing.assert_close(one, other)


def test_the_middle_tap_alone_changes_nothing():
    x = torch.randn(1, 3, 4, 4)
    middle = torch.zeros(1, 9, 4, 4)
    middle[:, 4] = 1
    assert torch.equal(predicted_filter(middle, x), x)


def test_exported_it_is_the_same():
    class Module(torch.nn.Module):
        def forward(self, filters, x):
            return predicted_filter(filters, x)

    inputs = torch.randn(1, 9, 4, 5), torch.randn(1, 2, 4, 5)
    exported = torch.export.export(Module(), inputs).module()
    torch.testing.assert_close(exported(*inputs), predicted_filter(*inputs))
