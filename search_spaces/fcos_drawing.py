"""The diagram of an FCOS decoder."""

from __future__ import annotations

from search_spaces.base import Architecture
from search_spaces.diagram import Diagram


def draw_decoder(architecture: Architecture) -> Diagram:
    """FPN and head, side by side."""
    return Diagram(f"{architecture.space} ({architecture.variant})", ())
