from __future__ import annotations

import pytest
import torch
from torch import Tensor

from nasperc.models.dr1mask.recipe import DR1MaskRecipe
from nasperc.models.dr1mask.top import TopLayer
from nasperc.models.fcos.head import FCOSHead
from nasperc.models.fcos.preset import PRESETS
from nasperc.models.fcos.towers import FCOSTowers
from nasperc.models.features import FeatureSpec, HeadOutput

LEVELS = tuple(FeatureSpec(f"P{level}", 32, 2**level) for level in range(3, 8))
SIZES = ((16, 12), (8, 6), (4, 3), (2, 2), (1, 1))


def build(**choices: object) -> tuple[TopLayer, list[Tensor], HeadOutput]:
    torch.manual_seed(0)
    head = FCOSHead(FCOSTowers(32, 64, 1), 3, PRESETS["adelaidet"], LEVELS)
    neck = [torch.randn(2, 32, *size) for size in SIZES]
    return TopLayer(head, DR1MaskRecipe.model_validate({"width": 8, **choices})), neck, head(neck)


@pytest.mark.parametrize("place", ["neck", "cls_tower", "box_tower"])
def test_the_context_moves_and_the_embedding_stays_on_the_box_tower(place: str) -> None:
    """Table 5.3."""
    top, neck, output = build(context_on=place)
    contexts, embeddings = top(neck, output)
    on = {"neck": neck, "cls_tower": output.cls_tower, "box_tower": output.box_tower}[place]
    assert top.context is not None
    for level in range(5):
        # Split evenly along the channels (5.4.2): A, then B.
        both = top.context(on[level])
        a, b = contexts[level]
        assert a is not None
        assert b is not None
        torch.testing.assert_close(torch.cat((a, b), 1), both)
        assert a.shape == b.shape == (2, 8, *SIZES[level])
        torch.testing.assert_close(embeddings[level], top.embedding(output.box_tower[level]))


@pytest.mark.parametrize(
    ("factors", "has"), [("neither", (0, 0)), ("A", (1, 0)), ("B", (0, 1)), ("both", (1, 1))]
)
def test_only_the_factors_that_are_used_are_predicted(factors: str, has: tuple[int, int]) -> None:
    top, neck, output = build(factors=factors)
    contexts, _ = top(neck, output)
    assert {tuple(int(each is not None) for each in context) for context in contexts} == {has}
    channels = 0 if top.context is None else top.context.out_channels
    assert channels == 8 * sum(has)


def test_contexts_start_near_one_and_embeddings_near_zero() -> None:
    top, neck, output = build()
    contexts, embeddings = top(neck, output)
    for context, embedding in zip(contexts, embeddings, strict=True):
        for factor in context:
            assert factor is not None
            assert factor.mean().item() == pytest.approx(1, abs=0.1)
            assert (factor - 1).abs().max() < 1
        assert embedding.abs().max() < 1


def test_all_levels_share_one_convolution() -> None:
    """5.5; of the numbers of its outputs, C_l are the first."""
    top, _, _ = build()
    assert {name for name, _ in top.named_parameters()} == {
        "context.weight",
        "context.bias",
        "embedding.weight",
        "embedding.bias",
    }
    assert top.embedding.weight.shape == (8 * 4 + 16, 64, 3, 3)
