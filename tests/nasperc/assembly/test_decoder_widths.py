from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydantic import BaseModel

from nasperc.assembly.decoder_recipe import DecoderRecipe, recipe_decoder
from nasperc.assembly.detector import Baseline, Searched
from nasperc.errors import InputError
from search_spaces.base import Decision, SearchSpace


class TwoParts(SearchSpace):
    name = "two_parts"
    Recipe = BaseModel
    parts = ("towers", "pyramid")
    variant = "plain"
    made_of = {"neck": "pyramid", "head": "towers"}  # noqa: RUF012

    def __init__(self) -> None: ...

    def decisions(self, part: str) -> tuple[Decision, ...]:
        return (Decision(f"{part}.op", "op", ("3x3", "5x5")),)


class Headless(TwoParts):
    made_of = {"neck": "pyramid"}  # noqa: RUF012


def searched(folder: Path, space: SearchSpace) -> DecoderRecipe:
    path = folder / "architecture.json"
    path.write_text(json.dumps(space.to_dict(space.architecture({"towers": (0,), "pyramid": (1,)}))))
    return DecoderRecipe(name="searched", architecture=str(path), fpn_width=64, head_width=128)


def test_the_widths_of_a_searched_decoder_are_by_the_parts_of_its_space(tmp_path: Path) -> None:
    space = TwoParts()
    decoder = recipe_decoder(searched(tmp_path, space), space)
    assert isinstance(decoder, Searched)
    assert decoder.widths == {"pyramid": 64, "towers": 128}
    assert decoder.architecture.parts == {"towers": (0,), "pyramid": (1,)}


def test_a_space_without_a_head_is_refused(tmp_path: Path) -> None:
    space = Headless()
    with pytest.raises(InputError, match="must be of a space that makes neck and head"):
        recipe_decoder(searched(tmp_path, space), space)


def test_a_baseline_has_its_widths_by_part() -> None:
    decoder = recipe_decoder(DecoderRecipe(fpn_width=64, head_width=128, depth=2), TwoParts())
    assert decoder == Baseline(64, 128, 2)
    assert decoder.widths == {"fpn": 64, "head": 128}
