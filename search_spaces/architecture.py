"""A point of a search space: tokens by part, with the space, version and variant that they belong to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from nasperc.errors import InputError

Tokens = tuple[int, ...]
Part = Tokens | Literal["original"]
ORIGINAL: Literal["original"] = "original"


@dataclass(frozen=True)
class Architecture:
    """A point of a space: for each part its tokens, or ``"original"``."""

    space: str
    version: int
    variant: str
    parts: Mapping[str, Part]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, without the hash (only the space knows the canonical form)."""
        parts = {name: part if isinstance(part, str) else list(part) for name, part in self.parts.items()}
        return {"space": self.space, "version": self.version, "variant": self.variant, "parts": parts}


def parse_architecture(values: Any, *, where: str) -> Architecture:
    """An architecture from plain values; its types are checked, its tokens are not (a space does that)."""
    repair = 'Expected {space, version, variant, parts: {name: [tokens] or "original"}}.'
    if not isinstance(values, dict) or not isinstance(values.get("parts"), dict):
        raise InputError(
            "an architecture must be a JSON object with parts",
            value=type(values).__name__,
            where=where,
            repair=repair,
        )
    unknown = set(values) - {"space", "version", "variant", "parts", "hash"}
    missing = {"space", "version", "variant"} - set(values)
    if unknown or missing:
        raise InputError(
            "an architecture must have exactly its keys",
            value=f"missing {sorted(missing)}, unknown {sorted(unknown)}",
            where=where,
            repair=repair,
        )
    parts: dict[str, Part] = {}
    for name, part in values["parts"].items():
        if part == ORIGINAL:
            parts[name] = ORIGINAL
        elif isinstance(part, list) and all(type(token) is int for token in part):
            parts[name] = tuple(part)
        else:
            raise InputError(
                'a part must be a list of whole numbers or "original"',
                value=str(part)[:80],
                where=f"{where}, part {name}",
                repair=repair,
            )
    if type(values["version"]) is not int:
        raise InputError(
            "version must be a whole number", value=values["version"], where=where, repair=repair
        )
    return Architecture(str(values["space"]), values["version"], str(values["variant"]), parts)
