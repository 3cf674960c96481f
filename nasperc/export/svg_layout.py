"""Where the boxes and wires of a diagram go: a grid of cards, wires in the gutters and bands between them.

The grid's columns are separated by gutters, its rows by bands. A wire leaves a card on its right, runs up or
down in the gutter there, along a band if the next column is not its target, and enters its target on the left
after a last run in the gutter before it. Gutters and bands hold no cards, so no wire ever crosses one; and
each wire has a track of its own there, so no two wires of different sources ever lie on one another.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from search_spaces.diagram import Edge, Node, Panel

TITLE_HEIGHT = 28.0
ROW_HEIGHT = 20.0
TRACK = 9.0
# Room between a card and the first track beside it; on the left of a card also for the arrow.
_LEAVE, _ARRIVE, _BAND_MARGIN = 12.0, 20.0, 12.0
_CHARACTER = 6.9
_CARD_PADDING = 24.0
_MIN_CARD = 84.0

Point = tuple[float, float]


@dataclass
class Card:
    """A placed node, in pixels; ``inputs``: what its rows say, one for each edge that enters it."""

    node: Node
    inputs: list[tuple[Node, Edge]]
    column: int
    row: int
    x: float = 0.0
    y: float = 0.0
    width: float = 0.0

    @property
    def has_rows(self) -> bool:
        """Whether the inputs are listed in the card; plain layers only show their name."""
        return self.node.kind in ("aggregation", "output") and bool(self.inputs)

    @property
    def height(self) -> float:
        """Pixels."""
        listed = ROW_HEIGHT * len(self.inputs) + 6 if self.has_rows else 0.0
        return TITLE_HEIGHT + listed

    @property
    def exit_y(self) -> float:
        """Where wires leave it."""
        return self.y + TITLE_HEIGHT / 2

    def entry_y(self, port: int) -> float:
        """Where the wire of input number ``port`` enters it."""
        if not self.has_rows:
            return self.exit_y
        return self.y + TITLE_HEIGHT + ROW_HEIGHT * (port + 0.5)


class Wire(NamedTuple):
    """A polyline from a card to an input of another."""

    source: Card
    edge: Edge
    points: list[Point]


class Row(NamedTuple):
    """A row of the grid: its label, and where its cards start and how high they get."""

    label: str
    y: float
    height: float


@dataclass
class Layout:
    """Cards, wires and rows in pixels."""

    cards: list[Card]
    wires: list[Wire]
    rows: list[Row]
    width: float
    height: float


def lay_out(panel: Panel) -> Layout:
    """Place a panel's nodes and route its edges; the upper left corner is (0, 0)."""
    return _Router(panel).layout()


class _Span(NamedTuple):
    """A stretch of a gutter or band that one source occupies."""

    source: str
    low: float
    high: float


def _assign_tracks(spans: Iterable[_Span]) -> dict[str, int]:
    """A track for each source such that stretches on one track do not touch."""
    ends: list[float] = []
    tracks = {}
    for span in sorted(spans, key=lambda span: (span.low, span.high, span.source)):
        free = next((track for track, end in enumerate(ends) if end < span.low), len(ends))
        if free == len(ends):
            ends.append(span.high)
        else:
            ends[free] = span.high
        tracks[span.source] = free
    return tracks


class _Router:
    def __init__(self, panel: Panel) -> None:
        self.panel = panel
        columns = {value: index for index, value in enumerate(sorted({node.column for node in panel.nodes}))}
        row_count = max(max(node.row for node in panel.nodes) + 1, len(panel.rows))
        self.cards = {
            node.id: Card(node, panel.inputs_of(node), columns[node.column], node.row) for node in panel.nodes
        }
        self.columns, self.rows = len(columns), row_count
        # Taps of each source: the targets with the port that the wire enters.
        self.taps: dict[str, list[tuple[Card, int, Edge]]] = {}
        for card in self.cards.values():
            for port, (source, edge) in enumerate(card.inputs):
                self.taps.setdefault(source.id, []).append((card, port, edge))

    def layout(self) -> Layout:
        self._size_cards()
        self._choose_bands()
        height = self._place_rows()
        width = self._place_columns()
        wires = [
            Wire(self.cards[source], edge, self._route(source, target, port))
            for source, taps in self.taps.items()
            for target, port, edge in taps
        ]
        return Layout(list(self.cards.values()), wires, self.placed_rows, width, height)

    def _size_cards(self) -> None:
        for column in range(self.columns):
            cards = [card for card in self.cards.values() if card.column == column]
            width = max([_MIN_CARD, *(_text_width(card) for card in cards)])
            for card in cards:
                card.width = width

    def _is_far(self, source: str, target: Card) -> bool:
        return target.column > self.cards[source].column + 1

    def _choose_bands(self) -> None:
        """The band of each source with far targets, where its wires are shortest; tracks in each band."""
        self.band: dict[str, int] = {}
        spans: dict[int, list[_Span]] = {}
        for source, taps in self.taps.items():
            far = [target for target, _, _ in taps if self._is_far(source, target)]
            if not far:
                continue
            card = self.cards[source]
            rows = [card.row, *(target.row for target in far)]
            # Band b lies above row b.
            band = min(range(self.rows + 1), key=lambda b: sum(abs(b - 0.5 - row) for row in rows))
            self.band[source] = band
            last = max(target.column for target in far) - 1
            spans.setdefault(band, []).append(_Span(source, card.column, last))
        self.band_tracks = {band: _assign_tracks(each) for band, each in spans.items()}

    def _place_rows(self) -> float:
        heights = [0.0] * self.rows
        for card in self.cards.values():
            heights[card.row] = max(heights[card.row], card.height)
        y = 0.0
        self.band_y: dict[str, float] = {}
        self.placed_rows: list[Row] = []
        for row in range(self.rows + 1):
            tracks = self.band_tracks.get(row, {})
            count = max(tracks.values(), default=-1) + 1
            for source, track in tracks.items():
                self.band_y[source] = y + _BAND_MARGIN + TRACK * track
            y += 2 * _BAND_MARGIN + TRACK * max(count - 1, 0)
            if row < self.rows:
                label = self.panel.rows[row] if row < len(self.panel.rows) else ""
                self.placed_rows.append(Row(label, y, heights[row]))
                for card in self.cards.values():
                    if card.row == row:
                        card.y = y
                y += heights[row]
        return y

    def _place_columns(self) -> float:
        """Tracks in each gutter (gutter g lies right of column g), then the columns."""
        spans: dict[int, dict[str, list[float]]] = {}
        for source, taps in self.taps.items():
            card = self.cards[source]
            for target, port, _ in taps:
                entry = target.entry_y(port)
                if self._is_far(source, target):
                    bus = self.band_y[source]
                    spans.setdefault(card.column, {}).setdefault(source, []).extend((card.exit_y, bus))
                    spans.setdefault(target.column - 1, {}).setdefault(source, []).extend((entry, bus))
                elif target.column == card.column or entry != card.exit_y:
                    spans.setdefault(card.column, {}).setdefault(source, []).extend((card.exit_y, entry))
        x = 0.0
        self.track_x: dict[tuple[int, str], float] = {}
        for column in range(self.columns):
            for card in self.cards.values():
                if card.column == column:
                    card.x = x
                    right = x + card.width
            x = right
            runs = spans.get(column, {})
            tracks = _assign_tracks(_Span(source, min(ys), max(ys)) for source, ys in runs.items())
            for source, track in tracks.items():
                self.track_x[column, source] = x + _LEAVE + TRACK * track
            if column < self.columns - 1 or tracks:
                count = max(tracks.values(), default=-1) + 1
                x += _LEAVE + TRACK * max(count - 1, 0) + (_ARRIVE if column < self.columns - 1 else 0)
        return x

    def _route(self, source: str, target: Card, port: int) -> list[Point]:
        card = self.cards[source]
        start = (card.x + card.width, card.exit_y)
        entry = target.entry_y(port)
        if target.column == card.column:
            x = self.track_x[card.column, source]
            return [start, (x, start[1]), (x, entry), (target.x + target.width, entry)]
        end = (target.x, entry)
        if self._is_far(source, target):
            first, last = self.track_x[card.column, source], self.track_x[target.column - 1, source]
            bus = self.band_y[source]
            return [start, (first, start[1]), (first, bus), (last, bus), (last, entry), end]
        if entry == start[1]:
            return [start, end]
        x = self.track_x[card.column, source]
        return [start, (x, start[1]), (x, entry), end]


def _text_width(card: Card) -> float:
    title = len(card.node.label) + (len(card.node.detail) + 2 if card.node.detail else 0) + 1
    if card.node.stride is not None:
        title += len(str(card.node.stride)) + 3
    rows = [len(f"{source.label}  {edge.label}") for source, edge in card.inputs] if card.has_rows else []
    return _CHARACTER * max(title, *rows, 0) + _CARD_PADDING
