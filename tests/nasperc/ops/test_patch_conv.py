import pytest
import torch
from torch import nn
from torch.nn import functional as F

from nasperc.ops.patch_conv import PatchConv2d


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("side", [1, 3])
def test_a_patch_has_what_the_map_has_at_its_middle(side, memory_format):
    torch.manual_seed(0)
    conv = PatchConv2d(4, 6, side).to(memory_format=memory_format)
    x = torch.randn(2, 4, 5, 7).contiguous(memory_format=memory_format)
    padded = F.pad(x, (side // 2,) * 4)
    patches = [
        padded[:, :, row : row + side, column : column + side].permute(0, 2, 3, 1).flatten(1)
        for row in range(5)
        for column in range(7)
    ]
    out = torch.stack([conv(patch) for patch in patches], dim=2).view(2, 6, 5, 7)
    torch.testing.assert_close(out, conv(x), rtol=1e-5, atol=1e-5)


def test_of_maps_it_is_the_convolution_of_torch():
    torch.manual_seed(0)
    conv, plain = PatchConv2d(4, 6, 3), nn.Conv2d(4, 6, 3, padding=1)
    plain.load_state_dict(conv.state_dict())
    x = torch.randn(2, 4, 5, 7)
    assert torch.equal(conv(x), plain(x))
