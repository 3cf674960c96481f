import re
import xml.etree.ElementTree as ET
from itertools import combinations

import numpy as np
import pytest

from nasperc.export.svg import render_svg
from nasperc.export.svg_layout import lay_out
from search_spaces.diagram import Diagram, Edge, Node, Panel
from search_spaces.fcos_decoder import FcosDecoder
from search_spaces.fcos_recipe import FcosDecoderRecipe

SPACES = [FcosDecoder(FcosDecoderRecipe(variant=name)) for name in ("nas_fcos", "thesis")]
SVG = "{http://www.w3.org/2000/svg}"


def sampled_diagrams(count=12):
    for space in SPACES:
        yield space.draw(space.architecture({"fpn": "original", "head": "original"}))
        # Four dangling blocks, and blocks that all read the same feature.
        yield space.draw(space.architecture({"fpn": (0, 0, 1, 2, 0) * 7, "head": "original"}))
        for seed in range(count):
            rng = np.random.default_rng(seed)
            yield space.draw(space.architecture({part: space.sample(part, rng) for part in space.parts}))


DIAGRAMS = list(sampled_diagrams())
LAYOUTS = [lay_out(panel) for diagram in DIAGRAMS for panel in diagram.panels]


def segments(wire):
    return list(zip(wire.points, wire.points[1:], strict=False))


def test_cards_do_not_overlap_and_stay_inside():
    for layout in LAYOUTS:
        for card in layout.cards:
            assert card.x >= 0
            assert card.y >= 0
            assert card.x + card.width <= layout.width
            assert card.y + card.height <= layout.height
        for one, other in combinations(layout.cards, 2):
            apart_x = one.x + one.width < other.x or other.x + other.width < one.x
            apart_y = one.y + one.height < other.y or other.y + other.height < one.y
            assert apart_x or apart_y


def test_wires_run_along_the_axes_from_their_source_to_their_row_of_the_target():
    for diagram in DIAGRAMS:
        for panel in diagram.panels:
            layout = lay_out(panel)
            cards = {card.node.id: card for card in layout.cards}
            assert len(layout.wires) == len(panel.edges)
            for wire in layout.wires:
                assert all(a[0] == b[0] or a[1] == b[1] for a, b in segments(wire))
                target = cards[wire.edge.target]
                assert wire.source.node.id == wire.edge.source
                assert wire.points[0] == (wire.source.x + wire.source.width, wire.source.exit_y)
                assert wire.points[-1][0] in (target.x, target.x + target.width)
                assert target.y < wire.points[-1][1] < target.y + target.height
            ends = [wire.points[-1] for wire in layout.wires]
            assert len(set(ends)) == len(ends)


def test_no_wire_crosses_a_card():
    for layout in LAYOUTS:
        for wire in layout.wires:
            for (x0, y0), (x1, y1) in segments(wire):
                for card in layout.cards:
                    inside_x = max(min(x0, x1), card.x) < min(max(x0, x1), card.x + card.width) or (
                        x0 == x1 and card.x < x0 < card.x + card.width
                    )
                    inside_y = max(min(y0, y1), card.y) < min(max(y0, y1), card.y + card.height) or (
                        y0 == y1 and card.y < y0 < card.y + card.height
                    )
                    assert not (inside_x and inside_y), (wire, card)


def test_wires_of_different_sources_never_lie_on_one_another():
    for layout in LAYOUTS:
        runs = [(wire.source.node.id, segment) for wire in layout.wires for segment in segments(wire)]
        for (one, ((ax0, ay0), (ax1, ay1))), (other, ((bx0, by0), (bx1, by1))) in combinations(runs, 2):
            if one == other:
                continue
            if ax0 == ax1 == bx0 == bx1:
                assert max(ay0, ay1) <= min(by0, by1) or max(by0, by1) <= min(ay0, ay1)
            if ay0 == ay1 == by0 == by1:
                assert max(ax0, ax1) <= min(bx0, bx1) or max(bx0, bx1) <= min(ax0, ax1)


@pytest.mark.parametrize("diagram", DIAGRAMS[:6])
def test_the_document_is_well_formed_and_says_everything(diagram):
    root = ET.fromstring(render_svg(diagram))
    width, height = (float(root.attrib[key]) for key in ("width", "height"))
    words = ["".join(text.itertext()) for text in root.iter(f"{SVG}text")]
    for panel in diagram.panels:
        assert panel.title in words
        for node in panel.nodes:
            assert any(word.startswith(node.label) for word in words)
    arrows = [path for path in root.iter(f"{SVG}path") if path.attrib["d"].endswith("z")]
    assert len(arrows) == sum(len(panel.edges) for panel in diagram.panels)
    for text in root.iter(f"{SVG}text"):
        assert float(text.attrib["x"]) < width
        assert float(text.attrib["y"]) < height


def test_dangling_arrows_are_dashed_and_shared_layers_marked():
    panel = Panel(
        "P",
        nodes=(
            Node("a", "a", "input", 0, 0),
            Node("b", "b", "output", 1, 0),
            Node("l", "shared one", "layer", 1, 1, shared=True),
            Node("s", "separate one", "layer", 2, 1, shared=False),
        ),
        edges=(Edge("a", "b", dashed=True), Edge("a", "l"), Edge("l", "s")),
    )
    text = render_svg(Diagram("title", (panel,)))
    wires = re.findall(r'<path d="M[^"]*" fill="none" stroke="#[0-9a-fA-F]+"[^>]*>', text)
    assert sum("stroke-dasharray" in wire for wire in wires) == 2  # the wire and its legend
    assert "shared by all levels" in text
    assert "separate weights for each level" in text
    # The separate layer is drawn as a stack of five.
    fills = re.findall(r'<rect[^>]*fill="(#[0-9A-F]+)"', text)
    counts = {fill: fills.count(fill) for fill in fills}
    assert 6 in counts.values()
    assert 2 in counts.values()


def test_the_legend_names_only_what_occurs():
    plain = Panel(
        "P", nodes=(Node("a", "a", "input", 0, 0), Node("b", "b", "output", 1, 0)), edges=(Edge("a", "b"),)
    )
    text = render_svg(Diagram("title", (plain,)))
    assert "levels" not in text
    assert "dangling" not in text


def test_labels_are_escaped():
    panel = Panel("<P> & co", nodes=(Node("a", 'x < "y" & z', "input", 0, 0),), edges=())
    root = ET.fromstring(render_svg(Diagram("a < b", (panel,))))
    words = ["".join(text.itertext()) for text in root.iter(f"{SVG}text")]
    assert words == ["a < b", "<P> & co", 'x < "y" & z']


def test_text_of_any_kind_leaves_it_xml():
    name = 'a\x01<b>&"\uffff\ud800\x1b[2J'
    panel = Panel(name, (Node(name, name, "input", 0, 0),), (), notes=(name,))
    root = ET.fromstring(render_svg(Diagram(name, (panel,))))
    shown = 'a\\x01<b>&"\\uffff\\ud800\\x1b[2J'
    assert {text.text for text in root.iter(f"{SVG}text")} == {shown}
    assert root.find(f"{SVG}title").text == shown
