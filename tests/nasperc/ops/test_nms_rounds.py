from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from nasperc.ops.nms import batched_nms
from nasperc.ops.nms_rounds import Chosen, nms_rounds


def candidates(seed: int, images: int, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Boxes that overlap, some without area; a third are no candidates."""
    generator = torch.Generator().manual_seed(seed)
    corners = torch.rand(images, count, 2, generator=generator) * 40
    sides = (torch.rand(images, count, 2, generator=generator) * 30 - 3).clamp(min=0)
    scores = torch.rand(images, count, generator=generator)
    scores = scores.where(torch.rand(images, count, generator=generator) > 1 / 3, 0.0)
    labels = torch.randint(0, 3, (images, count), generator=generator)
    return torch.cat((corners, corners + sides), dim=2), scores, labels


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10_000), count=st.integers(1, 40), threshold=st.sampled_from([0.0, 0.3, 0.6, 1.0]))
def test_it_is_greedy_suppression_cut_after_so_many(seed: int, count: int, threshold: float) -> None:
    boxes, scores, labels = candidates(seed, 2, count)
    rounds = 7
    found = nms_rounds(boxes, scores, labels, threshold, rounds)
    assert found.scores.shape == found.candidates.shape == (2, rounds)
    for image in range(2):
        known = scores[image].nonzero()[:, 0]
        kept = known[batched_nms(boxes[image, known], scores[image, known], labels[image, known], threshold)][
            :rounds
        ]
        assert found.candidates[image, : len(kept)].tolist() == kept.tolist()
        torch.testing.assert_close(found.scores[image, : len(kept)], scores[image, kept], rtol=0, atol=0)
        assert (found.scores[image, len(kept) :] == 0).all()


class _Rounds(nn.Module):
    def forward(self, boxes: Tensor, scores: Tensor, labels: Tensor) -> Chosen:
        return nms_rounds(boxes, scores, labels, 0.5, 9)


def test_an_exported_program_gives_the_same_for_any_batch() -> None:
    batch = {0: torch.export.Dim("batch", min=1, max=8)}
    program = torch.export.export(_Rounds(), candidates(0, 2, 50), dynamic_shapes=(batch, batch, batch))
    # The rounds are a loop, not a hundred copies.
    assert len(program.graph.nodes) < 60
    for images in (1, 3):
        given_ = candidates(1, images, 50)
        for found, wanted in zip(program.module()(*given_), _Rounds()(*given_), strict=True):
            assert torch.equal(found, wanted)
