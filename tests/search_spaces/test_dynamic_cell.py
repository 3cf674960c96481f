import json

import pytest
import torch
from cell_networks import CellNetworks
from contract import SearchSpaceContract
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from nasperc.errors import InputError
from nasperc.models.features import FeatureSpec
from nasperc.models.video_segmenter import State
from nasperc.plugins import load_component
from search_spaces.base import BuildContext
from search_spaces.cell_module import SearchedCell
from search_spaces.dynamic_cell import DynamicCell, DynamicCellRecipe

SPACES = {name: DynamicCell(DynamicCellRecipe(variant=name, width=8)) for name in ("4_layers", "5_layers")}
INPUTS = (
    FeatureSpec("layer2", 3, 8),
    FeatureSpec("layer3", 4, 16),
    FeatureSpec("layer4", 5, 32),
    FeatureSpec("dec", 6, 8),
)
CONTEXT = BuildContext(num_classes=3)
# Table 6.2 and 6.1.
SUM, CONCAT, PREDICTIVE, BILINEAR, CONV3D, ATTENTION = range(6)
SKIP = 4


class TestFiveLayers(SearchSpaceContract):
    space = SPACES["5_layers"]
    inputs = INPUTS
    networks = CellNetworks("5_layers")


class TestFourLayers(SearchSpaceContract):
    space = SPACES["4_layers"]
    inputs = INPUTS
    networks = CellNetworks("4_layers")


def build(tokens, variant="5_layers", inputs=INPUTS, width=8):
    space = SPACES[variant]
    return space.build(space.architecture({"cell": tokens}), inputs, {"cell": width}, CONTEXT)["cell"]


def frame(height=64, width=96, images=2):
    """What the frame before left and what this one offers, at sizes rounded up as an encoder's are."""
    layer2, layer3, layer4, dec = (
        torch.randn(images, spec.channels, -(-height // spec.stride), -(-width // spec.stride))
        for spec in INPUTS
    )
    return State(torch.randn_like(layer4), dec), [layer2, layer3, layer4]


@st.composite
def architectures(draw, space):
    tokens = ()
    for _ in space.decisions("cell"):
        allowed = [choice for choice, ok in enumerate(space.allowed("cell", tokens)) if ok]
        tokens += (draw(st.sampled_from(allowed)),)
    return space.architecture({"cell": tokens})


def test_it_is_registered():
    assert load_component("space", "dynamic_cell") is DynamicCell


@pytest.mark.parametrize("variant", SPACES)
def test_the_decisions_are_those_of_6_3_2(variant):
    space = SPACES[variant]
    layers = int(variant[0])
    decisions = space.decisions("cell")
    assert len(decisions) == 5 * layers
    assert [len(each.choices) for each in decisions[:5]] == [5, 5, 6, 6, 6]
    assert [len(each.choices) for each in decisions[-5:]] == [4 + layers, 4 + layers, 6, 6, 6]
    inputs = ("previous layer 4", "previous dec", "layer 2", "layer 3", "layer 4")
    assert decisions[5].choices == (*inputs, "x1")
    assert [each.kind for each in decisions[:5]] == ["input", "input", "op", "op", "agg"]


@pytest.mark.parametrize("variant", SPACES)
@settings(max_examples=15, deadline=None)
@given(data=st.data(), size=st.sampled_from([(64, 96), (72, 40), (50, 70)]))
def test_any_architecture_runs_and_trains(variant, data, size):
    architecture = data.draw(architectures(SPACES[variant]))
    torch.manual_seed(0)
    cell = build(architecture.parts["cell"], variant).to(memory_format=torch.channels_last)
    state, levels = frame(*size)
    output = cell(state, levels)
    assert output.dec.shape == state.dec.shape
    assert output.logits.shape == (2, 3, *state.dec.shape[2:])
    (output.logits.square().mean() + output.dec.sum()).backward()
    assert [name for name, parameter in cell.named_parameters() if parameter.grad is None] == []
    used = {
        id
        for start in range(0, 5 * int(variant[0]), 5)
        for id in architecture.parts["cell"][start : start + 2]
    }
    assert {int(source) for source in cell.adapters} == {id for id in used if id < 5}


def skips(*blocks):
    """Layers of skip-connections: (id1, id2, aggregation) each."""
    return tuple(token for id1, id2, agg in blocks for token in (id1, id2, SKIP, SKIP, agg))


def test_the_ends_by_hand():
    """x1 is consumed by x2; x2, x3, x4 and x5 are left, x3 at 1/16: resized, concatenated, ReLU, 1x1, 3x3."""
    cell = build(skips((1, 2, SUM), (5, 4, SUM), (3, 4, SUM), (0, 1, ATTENTION), (2, 2, SUM))).eval()
    assert cell.outputs == (1, 2, 3, 4)
    with torch.no_grad():
        for block in cell.blocks[:4:2]:
            # So that the ReLU behind the concatenation has something to do.
            block.aggregation.b.fill_(-1.0)
    state, (layer2, layer3, layer4) = frame()
    previous4, dec, two, three, four = (
        cell.adapters[str(i)](x) for i, x in enumerate((state.layer4, state.dec, layer2, layer3, layer4))
    )

    def up(x, like):
        return torch.nn.functional.interpolate(x, size=like.shape[2:], mode="bilinear", align_corners=False)

    x1 = dec - two
    x2 = x1 + up(four, x1)
    x3 = three - up(four, three)
    x4 = up(previous4, dec) * dec.sigmoid()
    x5 = two + two
    results = torch.cat((x2, up(x3, dec), x4, x5), 1)
    expected = cell.project(results.clamp(min=0))
    output = cell(state, [layer2, layer3, layer4])
    torch.testing.assert_close(output.dec, expected)
    torch.testing.assert_close(output.logits, cell.classifier(expected))
    convolution, norm, _ = cell.project
    assert convolution.weight.shape == (6, 4 * 8, 1, 1)
    assert isinstance(norm, torch.nn.BatchNorm2d)


def test_the_frame_before_is_told_from_this_one():
    """A cell that reads both layers 4 and both features of 1/8 answers a change of each differently."""
    cell = build(skips((0, 4, SUM), (1, 2, SUM), (5, 6, SUM), (5, 5, SUM), (6, 6, SUM))).eval()
    with torch.no_grad():
        cell.blocks[0].aggregation.a.fill_(3.0)
    state, levels = frame()
    base = cell(state, levels).dec
    previous = cell(state._replace(layer4=state.layer4 + 1), levels).dec
    current = cell(state, [*levels[:2], levels[2] + 1]).dec
    assert not torch.allclose(previous, base)
    assert not torch.allclose(previous, current)


def test_channels_last_stays():
    cell = build(skips((1, 2, SUM), (5, 4, SUM), (3, 4, SUM), (0, 1, ATTENTION), (2, 2, SUM)))
    cell = cell.to(memory_format=torch.channels_last)
    state, levels = frame()
    last = [x.contiguous(memory_format=torch.channels_last) for x in (*state, *levels)]
    output = cell(State(*last[:2]), last[2:])
    assert all(x.is_contiguous(memory_format=torch.channels_last) for x in output)


def test_other_static_networks_have_other_channels():
    inputs = tuple(spec._replace(channels=2 * spec.channels) for spec in reversed(INPUTS))
    cell = build(skips((1, 2, SUM), (3, 4, SUM), (0, 1, SUM), (0, 0, SUM), (2, 2, SUM)), inputs=inputs)
    assert cell.project[0].out_channels == 12
    assert cell.adapters["4"][0].in_channels == 10


@pytest.mark.parametrize("inputs", [INPUTS[:3], INPUTS[1:], (*INPUTS[:3], FeatureSpec("dec", 6, 4))])
def test_a_static_network_without_the_outputs_is_refused(inputs):
    with pytest.raises(InputError, match="layer2, layer3, layer4 and dec"):
        build(skips(*[(1, 2, SUM)] * 5), inputs=inputs)


@pytest.mark.parametrize("widths", [{}, {"cell": 7}, {"cell": 0}, {"cell": 8, "head": 8}])
def test_widths_that_do_not_fit_are_refused(widths):
    space = SPACES["5_layers"]
    architecture = space.architecture({"cell": skips(*[(1, 2, SUM)] * 5)})
    with pytest.raises(InputError, match="even number"):
        space.build(architecture, INPUTS, widths, CONTEXT)


def test_there_is_no_original_cell():
    with pytest.raises(InputError, match="baseline"):
        SPACES["5_layers"].architecture({"cell": "original"})


def test_the_other_variant_is_refused():
    values = SPACES["4_layers"].to_dict(SPACES["4_layers"].architecture({"cell": skips(*[(1, 2, SUM)] * 4)}))
    with pytest.raises(InputError, match="variant"):
        SPACES["5_layers"].from_dict(json.loads(json.dumps(values)), where="test")


@pytest.mark.parametrize("variant", ["5", "0_layers", "12_layers", "layers"])
def test_variants_that_are_none(variant):
    with pytest.raises(ValidationError, match="variant"):
        DynamicCellRecipe(variant=variant)


def test_the_thesis_defaults():
    recipe = DynamicCellRecipe()
    assert (recipe.layers, recipe.width) == (5, 64)
    assert DynamicCell(recipe).stages()[0].widths == {"cell": 64}


def test_edited_modules_are_noticed():
    cell = build(skips((1, 2, SUM), (5, 4, SUM), (3, 4, SUM), (0, 1, SUM), (2, 2, SUM)))
    cell.outputs = (0, 1)
    with pytest.raises(ValueError, match="outputs"):
        cell.read_back()
    with pytest.raises(ValueError, match="Identity"):
        SPACES["5_layers"].read_back({"cell": torch.nn.Identity()})


def test_the_diagram_says_what_is_read():
    space = SPACES["5_layers"]
    tokens = skips((1, 2, SUM), (5, 3, BILINEAR), (3, 3, CONCAT), (1, 1, CONV3D), (5, 2, PREDICTIVE))
    (panel,) = space.draw(space.architecture({"cell": tokens})).panels
    nodes = {node.id: node for node in panel.nodes}
    assert [nodes[name].detail for name in ("previous layer 4", "layer 4", "layer 3")] == [
        "not used",
        "not used",
        "",
    ]
    assert nodes["x2"].detail == "bilinear sampling"
    assert [source.id for source, _ in panel.inputs_of(nodes["x2"])] == ["x1", "layer 3"]
    ends = {source.id: edge.label for source, edge in panel.inputs_of(nodes["dec"])}
    assert ends == {"x2": "", "x3": "resize", "x4": "", "x5": ""}
    assert nodes["x3"].stride == 16


def test_a_worker_can_check_what_it_built():
    tokens = skips((1, 2, SUM), (5, 4, SUM), (3, 4, SUM), (0, 1, SUM), (2, 2, SUM))
    cell = build(tokens)
    assert isinstance(cell, SearchedCell)
    assert cell.read_back() == tokens
