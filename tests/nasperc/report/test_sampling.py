from collections import Counter

import numpy as np
import pytest

from nasperc.report.sampling import plot_sampling, sampling_proportions
from search_spaces.base import ORIGINAL, SearchSpace
from search_spaces.dynamic_cell import DynamicCell, DynamicCellRecipe
from search_spaces.fcos_decoder import FcosDecoder
from search_spaces.fcos_recipe import FcosDecoderRecipe

CELL = DynamicCell(DynamicCellRecipe(variant="4_layers"))
FCOS = FcosDecoder(FcosDecoderRecipe())


def draws(
    space: SearchSpace, stage: str, free: list[str], count: int, kinds: tuple[str, ...] = ("proposal",)
):
    """The events of a stage that draws its free parts at random; the others are original."""
    rng = np.random.default_rng(0)
    events = [{"event": "stage_start", "stage": stage, "free": free}]
    for index in range(count):
        parts = {part: space.sample(part, rng) if part in free else ORIGINAL for part in space.parts}
        architecture = space.architecture(parts).to_dict()
        events.append({"event": kinds[index % len(kinds)], "stage": stage, "architecture": architecture})
    return events


def by_hand(space: SearchSpace, part: str, kind: str, tokens: list[int]) -> Counter[str]:
    """The choices of one kind, one token after the other."""
    decisions = space.decisions(part)
    chosen = [(d, d.choices[token]) for d, token in zip(decisions, tokens, strict=True) if d.kind == kind]
    return Counter(name for _, name in chosen)


@pytest.mark.parametrize(
    ("space", "stage", "free"),
    [(CELL, "cell", ["cell"]), (FCOS, "fpn", ["fpn"]), (FCOS, "all", ["fpn", "head"])],
)
def test_shares_are_those_counted_token_by_token(space, stage, free):
    events = draws(space, stage, free, 12)
    panels = sampling_proportions(events, space)
    assert {panel.part for panel in panels} == set(free)
    for panel in panels:
        assert panel.stage == stage
        np.testing.assert_allclose(panel.shares.sum(axis=0), 1)
        np.testing.assert_allclose(panel.uniform.sum(), 1)
        for index, event in enumerate(events[1:]):
            counted = by_hand(space, panel.part, panel.kind, event["architecture"]["parts"][panel.part])
            total = sum(counted.values())
            for label, share in zip(panel.labels, panel.shares[:, index], strict=True):
                if " to x" not in label and label != "x1, x2":
                    assert share == pytest.approx(counted[label] / total)


def test_kinds_and_labels_of_a_cell():
    panels = sampling_proportions(draws(CELL, "cell", ["cell"], 2), CELL)
    assert [panel.kind for panel in panels] == ["input", "op", "agg"]
    inputs, operations, aggregations = panels
    assert inputs.labels == (
        "previous layer 4", "previous dec", "layer 2", "layer 3", "layer 4", "x1 to x3",
    )  # fmt: skip
    assert len(operations.labels) == len(aggregations.labels) == 6
    np.testing.assert_allclose(operations.uniform, 1 / 6)
    # Two of eight decisions each have 5, 6, 7 and 8 choices.
    np.testing.assert_allclose(inputs.uniform[0], (1 / 5 + 1 / 6 + 1 / 7 + 1 / 8) / 4)


def test_everything_that_the_controller_drew_counts_and_nothing_else():
    events = draws(CELL, "cell", ["cell"], 9, ("proposal", "replay", "redraw"))
    others = draws(CELL, "cell", ["cell"], 4, ("completion", "external"))[1:]
    assert sampling_proportions([*events, *others], CELL)[0].shares.shape == (6, 9)
    assert sampling_proportions([], CELL) == []


def test_fixed_parts_are_not_drawn():
    events = draws(FCOS, "head", ["head"], 3)
    assert {panel.part for panel in sampling_proportions(events, FCOS)} == {"head"}


@pytest.mark.parametrize(("space", "free", "count"), [(CELL, ["cell"], 40), (FCOS, ["fpn", "head"], 1)])
def test_the_plot(tmp_path, space, free, count):
    plot_sampling(sampling_proportions(draws(space, "s", free, count), space), tmp_path / "sampling.png")
    assert (tmp_path / "sampling.png").read_bytes()[1:4] == b"PNG"
