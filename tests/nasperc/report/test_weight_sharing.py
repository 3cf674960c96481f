from pathlib import Path

from nasperc.report.weight_sharing import fully_shared, plot_weight_sharing
from search_spaces.base import ORIGINAL
from search_spaces.fcos_decoder import FcosDecoder
from search_spaces.fcos_recipe import FcosDecoderRecipe

SPACE = FcosDecoder(FcosDecoderRecipe())
SKIP = 4


def completion(head: object) -> dict[str, object]:
    architecture = SPACE.architecture({"fpn": ORIGINAL, "head": head})  # type: ignore[dict-item]
    return {"event": "completion", "stage": "head", "architecture": architecture.to_dict()}


def test_periods_of_searched_heads() -> None:
    shared, separate = (1, 1, 1, 1, 1, 1, 0), (1, 1, 1, 1, 1, 1, 3)
    events = [completion(head) for head in (shared, separate, ORIGINAL, shared, shared, separate)]
    assert fully_shared([*events, {"event": "failure"}], SPACE, period=2) == [0.5, 1.0, 0.0]


def test_a_skip_below_the_share_index_has_nothing_to_share() -> None:
    assert fully_shared([completion((SKIP, 1, 1, 1, 1, 1, 1))], SPACE) == [1.0]
    assert fully_shared([completion((1, SKIP, 1, 1, 1, 1, 1))], SPACE) == [0.0]


def test_the_plot(tmp_path: Path) -> None:
    plot_weight_sharing({"one": [0.2, 0.6, 0.9], "other": []}, tmp_path / "sharing.png")
    assert (tmp_path / "sharing.png").read_bytes()[1:4] == b"PNG"
