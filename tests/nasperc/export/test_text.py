from nasperc.export.text import describe, describe_diagram
from search_spaces.diagram import Diagram, Edge, Node, Panel
from search_spaces.fcos_decoder import FcosDecoder
from search_spaces.fcos_recipe import FcosDecoderRecipe

SPACE = FcosDecoder(FcosDecoderRecipe())
FPN = (
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


def test_a_diagram_line_by_line():
    panel = Panel(
        "FPN",
        nodes=(
            Node("C5", "C5", "input", 0, 0, stride=32),
            Node("x1", "x1", "aggregation", 1, 0, detail="sum", stride=32),
            Node("a", "conv 3×3", "layer", 2, 0, shared=False),
        ),
        edges=(Edge("C5", "x1", "skip"), Edge("C5", "x1", "conv 1×1"), Edge("x1", "a", dashed=True)),
        notes=("A note.",),
    )
    assert describe_diagram(Diagram("title", (panel,))).splitlines() == [
        "title",
        "",
        "FPN",
        "  C5   /32",
        "  x1   /32   sum        C5 → skip; C5 → conv 1×1",
        "  a          conv 3×3   x1 (dangling)              separate for each level",
        "  A note.",
    ]


def test_the_reference_in_words():
    architecture = SPACE.architecture({"fpn": FPN, "head": (5, 1, 5, 0, 4, 4, 2)})
    text = describe(architecture, SPACE)
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert "C2 /4 not used" in lines
    assert "x6 /8 concat x1 → deform 3×3; x4 → deform 3×3" in lines
    assert "P4 /16 sum, resize x6; x3 (dangling)" in lines
    assert "P3 /8 sum x7; x3 (dangling)" in lines
    assert "class.2 conv 3×3 class.1 separate for each level" in lines
    assert "class.3 deform 3×3 class.2 shared by all levels" in lines
    assert "class.5 skip class.4" in lines
    assert "head: 5 1 5 0 4 4 2" in lines
    assert text.endswith(f"hash: {SPACE.hash(architecture)}\n")


def test_original_parts_in_words():
    text = describe(SPACE.architecture({"fpn": "original", "head": "original"}), SPACE)
    assert "FPN (original)" in text
    assert "Head (original)" in text
    assert "m4" in text
    assert "fpn: original" in text
