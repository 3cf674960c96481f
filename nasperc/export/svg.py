"""A diagram as SVG text, without any library."""

from __future__ import annotations

from nasperc.export.svg_layout import ROW_HEIGHT, TITLE_HEIGHT, Card, Layout, Point, Wire, lay_out
from nasperc.shown_text import for_xml
from search_spaces.diagram import Diagram, Panel

_MARGIN = 28.0
_ROW_LABELS = 96.0
_PANEL_TITLE = 40.0
_NOTE = 22.0
_LEGEND = 44.0
_RADIUS = 5.0
_STACK = 3.0
_FONT = "Helvetica, Arial, 'DejaVu Sans', sans-serif"

# Okabe and Ito's palette, darkened where a thin line on white would be faint, and neighbours of it.
_WIRES = (
    "#0072B2", "#D55E00", "#009E73", "#AA3377", "#B8860B", "#56A0D3",
    "#7A4FBF", "#8C564B", "#C2185B", "#4C7A34", "#37474F",
)  # fmt: skip
_FILLS = {"input": "#E8ECF1", "aggregation": "#FFFFFF", "output": "#FFF3D6", "predictor": "#E6E0F3"}
_SHARED, _SEPARATE, _SKIP = "#CFE8D5", "#FAD7C3", "#FFFFFF"
_GREY = "#5b6470"
_LANE = 8.0
_DASHED = ' stroke-dasharray="5 3"'


def render_svg(diagram: Diagram) -> str:
    """A standalone SVG document: the title, the panels below one another, a legend."""
    layouts = [(panel, lay_out(panel)) for panel in diagram.panels]
    body: list[str] = []
    y = _MARGIN + 34
    for panel, layout in layouts:
        body.append(_text(_MARGIN, y + 18, panel.title, size=16, weight="bold"))
        y += _PANEL_TITLE
        left = _MARGIN + (_ROW_LABELS if panel.rows else 0)
        body.append(f'<g transform="translate({left:g} {y:g})">')
        body += _panel(panel, layout)
        body.append("</g>")
        y += layout.height
        for note in panel.notes:
            y += _NOTE
            body.append(_text(_MARGIN, y, note, size=12, fill="#555"))
        y += _MARGIN
    legend = _legend(diagram)
    if legend:
        body += [f'<g transform="translate({_MARGIN:g} {y:g})">', *legend, "</g>"]
        y += _LEGEND
    width = 2 * _MARGIN + _ROW_LABELS + max([620.0, *(layout.width for _, layout in layouts)])
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {y:g}" '
            f'width="{width:g}" height="{y:g}" font-family="{_FONT}">',
            f"<title>{for_xml(diagram.title)}</title>",
            f'<rect width="{width:g}" height="{y:g}" fill="#fff"/>',
            _text(_MARGIN, _MARGIN + 14, diagram.title, size=19, weight="bold"),
            *body,
            "</svg>\n",
        ]
    )


def _panel(panel: Panel, layout: Layout) -> list[str]:
    parts = []
    for row in layout.rows:
        if row.label:
            middle = row.y + TITLE_HEIGHT / 2 + 4
            parts.append(_lane(row.y - _LANE, row.height + 2 * _LANE, layout.width + _ROW_LABELS))
            parts.append(_text(10 - _ROW_LABELS, middle, row.label, size=12, fill="#667"))
    colours = _wire_colours(panel)
    by_source: dict[str, list[Wire]] = {}
    for wire in layout.wires:
        by_source.setdefault(wire.source.node.id, []).append(wire)
    for source, wires in by_source.items():
        # A white edge below each wire makes crossings readable; all of a source's before its own lines.
        paths = [_path(wire.points) for wire in wires]
        parts += [f'<path d="{path}" fill="none" stroke="#fff" stroke-width="5"/>' for path in paths]
        colour = colours[source]
        for wire, path in zip(wires, paths, strict=True):
            dash = _DASHED if wire.edge.dashed else ""
            parts.append(f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="1.6"{dash}/>')
            parts.append(_arrow(wire.points, colour))
    for card in layout.cards:
        parts += _card(card, colours)
    return parts


def _wire_colours(panel: Panel) -> dict[str, str]:
    """A colour for the wires of each source; grey in plain sequences and behind the outputs."""
    branching = any(node.kind == "aggregation" for node in panel.nodes)
    colours = {}
    for index, node in enumerate(panel.nodes):
        coloured = branching and node.kind in ("input", "aggregation")
        colours[node.id] = _WIRES[index % len(_WIRES)] if coloured else _GREY
    return colours


def _lane(y: float, height: float, width: float) -> str:
    return _box(-_ROW_LABELS, y, width, height, fill="#F6F7F9")


def _card(card: Card, colours: dict[str, str]) -> list[str]:
    node = card.node
    fill = _fill(card)
    unused = node.kind == "input" and node.detail == "not used"
    ink = "#999" if node.kind == "skip" or unused else "#111"
    border = f' stroke="{_GREY}"' + (' stroke-dasharray="3 3"' if node.kind == "skip" or unused else "")
    parts = []
    copies = 4 if node.shared is False else 0
    for copy in range(copies, -1, -1):
        shift = copy * _STACK
        parts.append(_box(card.x + shift, card.y - shift, card.width, card.height, fill=fill, border=border))
    middle = card.y + TITLE_HEIGHT / 2 + 4.5
    if card.has_rows or node.stride is not None:
        colour = colours[node.id] if node.kind != "output" and not unused else ink
        parts.append(_text(card.x + 10, middle, node.label, node.detail, size=14, weight="bold", fill=colour))
        if node.stride is not None:
            end = card.x + card.width - 9
            parts.append(_text(end, middle, f"/{node.stride}", size=11, fill="#888", anchor="end"))
    else:
        centre = card.x + card.width / 2
        parts.append(_text(centre, middle, node.label, node.detail, size=13, fill=ink, anchor="middle"))
    if card.has_rows:
        line = card.y + TITLE_HEIGHT
        parts.append(f'<path d="M{card.x:g} {line:g}h{card.width:g}" stroke="#c9ced6"/>')
        for port, (source, edge) in enumerate(card.inputs):
            y = card.y + TITLE_HEIGHT + ROW_HEIGHT * (port + 0.5) + 4.5
            label = edge.label or ("dangling" if edge.dashed else "")
            colour = colours[source.id]
            parts.append(_text(card.x + 10, y, source.label, label, size=12, weight="bold", fill=colour))
    return parts


def _fill(card: Card) -> str:
    node = card.node
    if node.kind == "skip":
        return _SKIP
    if node.kind == "layer":
        return _SEPARATE if node.shared is False else _SHARED
    return _FILLS[node.kind]


def _path(points: list[Point]) -> str:
    """The polyline with rounded corners."""
    parts = [f"M{points[0][0]:g} {points[0][1]:g}"]
    for before, corner, after in zip(points, points[1:], points[2:], strict=False):
        enter, leave = _towards(corner, before), _towards(corner, after)
        parts.append(f"L{enter[0]:g} {enter[1]:g}Q{corner[0]:g} {corner[1]:g} {leave[0]:g} {leave[1]:g}")
    parts.append(f"L{points[-1][0]:g} {points[-1][1]:g}")
    return "".join(parts)


def _towards(corner: Point, other: Point) -> Point:
    """The point where the rounding of ``corner`` meets the axis-parallel line to ``other``."""
    dx, dy = other[0] - corner[0], other[1] - corner[1]
    length = abs(dx) + abs(dy)
    if not length:
        return corner
    step = min(_RADIUS, length / 2) / length
    return corner[0] + dx * step, corner[1] + dy * step


def _arrow(points: list[Point], colour: str) -> str:
    (x0, _), (x, y) = points[-2], points[-1]
    back = -8 if x >= x0 else 8
    return f'<path d="M{x:g} {y:g}l{back} -4v8z" fill="{colour}"/>'


def _legend(diagram: Diagram) -> list[str]:
    """Only what occurs in the diagram."""
    nodes = [node for panel in diagram.panels for node in panel.nodes]
    entries: list[tuple[str, str]] = []
    if any(node.kind == "layer" and node.shared for node in nodes):
        entries.append((_SHARED, "shared by all levels"))
    if any(node.kind == "layer" and node.shared is False for node in nodes):
        entries.append((_SEPARATE, "separate weights for each level"))
    if any(edge.dashed for panel in diagram.panels for edge in panel.edges):
        entries.append(("", "dangling block, added to every level"))
    parts, x = [], 0.0
    for fill, label in entries:
        if fill:
            parts.append(_box(x, 2, 26, 16, fill=fill, border=f' stroke="{_GREY}"'))
        else:
            parts.append(f'<path d="M{x:g} 10h26" fill="none" stroke="#444" stroke-width="1.6"{_DASHED}/>')
        parts.append(_text(x + 34, 14, label, size=12, fill="#333"))
        x += 34 + 6.6 * len(label) + 28
    return parts


def _box(x: float, y: float, width: float, height: float, *, fill: str, border: str = "") -> str:
    place = f'x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}"'
    return f'<rect {place} rx="5" fill="{fill}"{border}/>'


def _text(
    x: float,
    y: float,
    text: str,
    aside: str = "",
    *,
    size: int,
    weight: str = "normal",
    fill: str = "#111",
    anchor: str = "start",
) -> str:
    """A line of text, with a quieter ``aside`` behind it."""
    bold = ' font-weight="bold"' if weight == "bold" else ""
    at = f' text-anchor="{anchor}"' if anchor != "start" else ""
    quiet = ""
    if aside:
        quiet = f'<tspan dx="7" font-size="12" fill="#444" font-weight="normal">{for_xml(aside)}</tspan>'
    style = f'font-size="{size}" fill="{fill}"{bold}{at}'
    return f'<text x="{x:g}" y="{y:g}" {style}>{for_xml(text)}{quiet}</text>'
