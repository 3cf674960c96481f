import copy

import pytest
import torch

from search_spaces.fcos_genotype import HeadGenotype
from search_spaces.fcos_towers import PerLevel, SearchedTowers
from search_spaces.operations import build_operation

CONV1, CONV3, SEP, SEP_DIL, SKIP, DEFORM = range(6)
LEVELS = 5


def towers(operations, share):
    torch.manual_seed(0)
    return SearchedTowers(32, HeadGenotype(operations, share), "nas_fcos").eval()


def levels():
    return [torch.randn(1, 32, size, size) for size in (8, 4, 2, 1, 1)]


def test_the_references_layers():
    """Deformable 3x3, conv 3x3, deformable 3x3, conv 1x1, all shared: convolutions, offsets and norms."""
    module = towers((DEFORM, CONV3, DEFORM, CONV1, SKIP, SKIP), 0)
    conv3 = 32 * 32 * 9
    deform = conv3 + 32 + 54 * (32 * 9 + 1)
    a_tower = 2 * deform + conv3 + 32 * 32 + 4 * 2 * 32
    assert sum(p.numel() for p in module.parameters()) == 2 * a_tower


@pytest.mark.parametrize("share", range(7))
def test_parameters_below_the_share_index_are_there_five_times(share):
    operations = (CONV1, CONV3, SEP, SEP_DIL, SKIP, CONV1)
    sizes = [32 * 32, 32 * 32 * 9, 32 * 9 + 32 * 32, 32 * 9 + 32 * 32, 0, 32 * 32]
    sizes = [size + 64 * (size > 0) for size in sizes]
    expected = 2 * sum(size * (LEVELS if index < share else 1) for index, size in enumerate(sizes))
    assert sum(p.numel() for p in towers(operations, share).parameters()) == expected


def test_levels_are_told_apart_below_the_share_index_only():
    x = torch.randn(1, 32, 4, 4)
    shared = towers((CONV3, CONV1, SEP, SKIP, SKIP, SKIP), 0)
    separate = towers((CONV3, CONV1, SEP, SKIP, SKIP, SKIP), 1)
    with torch.no_grad():
        for tower in shared([x] * LEVELS):
            assert all(torch.equal(tower[0], level) for level in tower)
        for tower in separate([x] * LEVELS):
            assert not any(torch.allclose(tower[0], level) for level in tower[1:])


def test_a_separate_layer_learns_from_its_level_alone():
    module = towers((CONV3, CONV1, SKIP, SKIP, SKIP, SKIP), 1)
    cls, _ = module([torch.randn(1, 32, 4, 4) for _ in range(LEVELS)])
    cls[2].square().mean().backward()
    gradients = [layer[0].weight.grad for layer in module.cls_tower.layers[0]]
    assert [gradient is not None for gradient in gradients] == [False, False, True, False, False]
    assert module.cls_tower.layers[1][0].weight.grad is not None
    assert all(p.grad is None for p in module.box_tower.parameters())


def test_the_towers_do_not_share():
    module = towers((CONV3, CONV1, SEP, SKIP, SKIP, SKIP), 0)
    cls, box = module(levels())
    assert not torch.allclose(cls[0], box[0])
    assert not {id(p) for p in module.cls_tower.parameters()} & {id(p) for p in module.box_tower.parameters()}


def test_only_skips_pass_everything_through():
    inputs = levels()
    cls, box = towers((SKIP,) * 6, 3)(inputs)
    assert all(torch.equal(x, y) for x, y in zip(inputs, cls, strict=True))
    assert all(torch.equal(x, y) for x, y in zip(inputs, box, strict=True))


@pytest.mark.parametrize("share", range(7))
def test_tokens_are_read_back(share):
    tokens = (DEFORM, SKIP, CONV3, SEP, CONV1, SEP_DIL)
    assert towers(tokens, share).read_back() == (*tokens, share)


def test_a_swapped_layer_is_detected():
    module = towers((CONV3,) * 6, 2)
    for tower in (module.cls_tower, module.box_tower):
        tower.layers[4] = build_operation("sep3x3", 32, "group")
    assert module.read_back() == (CONV3, CONV3, CONV3, CONV3, SEP, CONV3, 2)


def test_towers_that_no_tokens_describe_are_refused():
    module = towers((CONV3,) * 6, 2)
    module.cls_tower.layers[4] = build_operation("sep3x3", 32, "group")
    with pytest.raises(ValueError, match="two towers"):
        module.read_back()

    tied = towers((CONV3,) * 6, 2)
    layer = tied.cls_tower.layers[1]
    layer[3] = layer[2]
    with pytest.raises(ValueError, match="separate weights"):
        tied.read_back()

    late = towers((CONV3,) * 6, 0)
    for tower in (late.cls_tower, late.box_tower):
        tower.layers[5] = PerLevel(copy.deepcopy(tower.layers[5]) for _ in range(LEVELS))
    with pytest.raises(ValueError, match="before a separate"):
        late.read_back()
