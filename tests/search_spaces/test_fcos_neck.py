import pytest
import torch
from torch.nn import functional as F

from nasperc.models.features import FeatureSpec
from nasperc.ops.resize import resize_to
from search_spaces.aggregations import ParamSum
from search_spaces.fcos_genotype import FPNGenotype
from search_spaces.fcos_neck import SearchedFPN
from search_spaces.operations import build_operation

INPUTS = tuple(FeatureSpec(f"C{level}", 4, 2**level) for level in range(2, 6))
SKIP = 3
REFERENCE = (
    3,
    3,
    4,
    4,
    1,
    3,
    3,
    4,
    4,
    1,
    4,
    3,
    4,
    3,
    1,
    1,
    3,
    4,
    3,
    1,
    5,
    3,
    4,
    4,
    1,
    4,
    7,
    4,
    4,
    1,
    7,
    2,
    4,
    4,
    1,
)


def sums(*pairs):
    """A part of skips and sums only: each block is the sum of two of the pool."""
    return tuple(token for id1, id2 in pairs for token in (id1, id2, SKIP, SKIP, 0))


def neck(tokens, variant="nas_fcos", out_width=32):
    torch.manual_seed(0)
    return SearchedFPN(INPUTS, FPNGenotype.from_tokens(tokens, variant), 32, out_width).eval()


def features(height=64, width=96):
    return [torch.randn(1, 4, height // spec.stride, width // spec.stride) for spec in INPUTS]


def test_the_reference_has_the_levels_of_the_release():
    genotype = FPNGenotype.from_tokens(REFERENCE, "nas_fcos")
    # x7 -> P3, x6 -> P4, x5 -> P5; x3 is read by nobody.
    assert genotype.outputs == (6, 5, 4)
    assert genotype.dangling == (2,)
    assert genotype.strides() == (32, 32, 32, 8, 32, 8, 8)
    assert genotype.tokens() == REFERENCE


def test_levels_and_dangling_blocks_of_the_release_by_hand():
    """x1 and x2 dangle; x3 = C3 + C4 feeds x4, which dangles; x5 -> P5, x6 -> P4, x7 -> P3."""
    module = neck(sums((0, 3), (2, 2), (1, 2), (6, 3), (3, 3), (2, 3), (1, 1)))
    assert (module.outputs, module.dangling) == ((6, 5, 4), (0, 1, 3))
    inputs = features()
    with torch.no_grad():
        levels = module(inputs)
        c2, c3, c4, c5 = (adapter(x) for adapter, x in zip(module.adapters, inputs, strict=True))

        def to(x, like):
            return F.interpolate(x, size=like.shape[-2:], mode="bilinear", align_corners=False)

        dangling = [c2 + to(c5, c2), c4 + c4, c3 + to(c4, c3) + to(c5, c3)]
        # Each output is summed at its own resolution, then resized to its level's.
        p5 = c5 + c5 + sum(to(x, c5) for x in dangling)
        p4 = c4 + to(c5, c4) + sum(to(x, c4) for x in dangling)
        p3 = c3 + c3 + sum(to(x, c3) for x in dangling)
    for level, expected in zip(levels, (p3, p4, p5), strict=False):
        torch.testing.assert_close(level, expected, rtol=1e-4, atol=1e-4)


def test_levels_and_dangling_blocks_of_the_thesis_by_hand():
    """Pool C3..C5 = 0..2, x1 = 3: x2 = C3 + C3 dangles, x5, x6, x7 -> P3, P4, P5 though x6 reads x5."""
    module = neck(sums((2, 2), (0, 0), (3, 1), (5, 2), (6, 1), (7, 2), (2, 2)), "thesis")
    assert (module.outputs, module.dangling) == ((4, 5, 6), (1,))
    inputs = features()
    with torch.no_grad():
        levels = module(inputs)
        c3, c4, c5 = (adapter(x) for adapter, x in zip(module.adapters, inputs[1:], strict=True))

        def to(x, like):
            return F.interpolate(x, size=like.shape[-2:], mode="bilinear", align_corners=False)

        x2 = c3 + c3
        x3 = to(c5 + c5, c4) + c4
        x4 = x3 + to(c5, c4)
        x5 = x4 + c4
        x6 = x5 + to(c5, c4)
        x7 = c5 + c5
        # The smaller of output and dangling block is upsampled, then the level's size is restored.
        p3, p4, p5 = to(x5, c3) + x2, to(to(x6, c3) + x2, c4), to(to(x7, c3) + x2, c5)
    for level, expected in zip(levels, (p3, p4, p5), strict=False):
        torch.testing.assert_close(level, expected, rtol=1e-4, atol=1e-4)


def test_p6_and_p7_come_from_p5_at_the_heads_width():
    module = neck(REFERENCE, out_width=64)
    with torch.no_grad():
        p3, p4, p5, p6, p7 = module(features())
        torch.testing.assert_close(p6, module.top_levels.p6(p5))
        torch.testing.assert_close(p7, module.top_levels.p7(F.relu(p6)))
    # Widened by repeating channels.
    assert torch.equal(p3[:, 0::2], p3[:, 1::2])
    assert {level.shape[1] for level in (p3, p4, p5, p6, p7)} == {64}
    assert module.top_levels.p6.in_channels == 64


def test_unused_adapters_change_nothing_but_the_cost():
    module = neck(REFERENCE)
    inputs = features()
    calls = []
    module.adapters[0].register_forward_hook(lambda *_: calls.append(1))
    with torch.no_grad():
        without = module(inputs)
        assert not calls
        module.run_unused_adapters = True
        for one, other in zip(without, module(inputs), strict=True):
            assert torch.equal(one, other)
    assert calls


def test_a_feature_outside_the_pool_is_ignored():
    inputs = (FeatureSpec("C1", 3, 2), *INPUTS)
    module = SearchedFPN(inputs, FPNGenotype.from_tokens(REFERENCE, "nas_fcos"), 32, 32)
    assert module.input_indices == (1, 2, 3, 4)


def test_the_pool_is_found_by_stride_not_by_position():
    torch.manual_seed(0)
    shuffled = SearchedFPN(INPUTS[::-1], FPNGenotype.from_tokens(REFERENCE, "nas_fcos"), 32, 32).eval()
    module = neck(REFERENCE)
    shuffled.load_state_dict(module.state_dict())
    inputs = features()
    with torch.no_grad():
        for one, other in zip(module(inputs), shuffled(inputs[::-1]), strict=True):
            assert torch.equal(one, other)


def test_what_forward_reads_is_what_is_read_back():
    """The connections, seen from outside: which blocks change when a feature does."""
    module = neck(sums((0, 1), (1, 2), (2, 3), (3, 3), (0, 0), (1, 1), (2, 2)))
    seen = []
    for block in module.blocks:
        block.register_forward_hook(lambda _, arguments, output: seen.append((*arguments, output)))
    inputs = features()
    with torch.no_grad():
        module(inputs)
        pool = [adapter(x) for adapter, x in zip(module.adapters, inputs, strict=True)]
    tokens = module.read_back()
    for index, (x1, x2, output) in enumerate(seen):
        id1, id2 = tokens[5 * index], tokens[5 * index + 1]
        assert torch.equal(x1, pool[id1])
        assert torch.equal(x2, pool[id2])
        pool.append(output)


@pytest.mark.parametrize(
    "edit",
    [
        lambda block: setattr(block, "op1", build_operation("sep3x3", 32, "batch")),
        lambda block: setattr(block, "sources", (5, 2)),
        lambda block: setattr(block, "aggregation", ParamSum(32)),
    ],
    ids=["operation", "connection", "aggregation"],
)
def test_a_swapped_module_or_connection_is_detected(edit):
    module = neck(REFERENCE)
    assert module.read_back() == REFERENCE
    edit(module.blocks[4])
    assert module.read_back() != REFERENCE


def test_edited_levels_are_detected():
    module = neck(REFERENCE)
    module.outputs = (4, 5, 6)
    with pytest.raises(ValueError, match="levels"):
        module.read_back()


def test_channels_last_goes_through():
    module = neck(REFERENCE).to(memory_format=torch.channels_last)
    inputs = [x.contiguous(memory_format=torch.channels_last) for x in features()]
    assert all(x.is_contiguous(memory_format=torch.channels_last) for x in module(inputs))
    assert resize_to(inputs[0], (3, 3)).is_contiguous(memory_format=torch.channels_last)
