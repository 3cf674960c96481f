import pytest
import torch
from bitmaps import Bitmaps
from torch import Tensor
from torch.nn import functional as F

from nasperc.models.instances import Instances
from nasperc.models.masks.semantic_head import SemanticHead
from nasperc.models.masks.semantic_loss import IGNORE, semantic_loss, semantic_target

STRIDE = 8


def instances(
    *boxes: tuple[int, int, int, int], labels: list[int], crowd: list[bool] | None = None
) -> Instances:
    """Objects that fill their boxes (x1, y1, x2, y2) in pixels of an image of 48 x 64."""
    planes = torch.zeros(len(boxes), 48, 64, dtype=torch.bool)
    for plane, (x1, y1, x2, y2) in zip(planes, boxes, strict=True):
        plane[y1:y2, x1:x2] = True
    return Instances(
        torch.tensor(boxes, dtype=torch.float32).view(-1, 4),
        torch.tensor(labels, dtype=torch.int64),
        None if crowd is None else torch.tensor(crowd),
        masks=Bitmaps(planes),
    )


def test_the_smaller_of_two_objects_lies_on_top_whatever_their_order() -> None:
    large, small = (0, 0, 64, 48), (16, 16, 32, 24)
    expected = torch.full((6, 8), 3)
    expected[2:3, 2:4] = 5
    assert torch.equal(semantic_target(instances(large, small, labels=[2, 4]), (6, 8), STRIDE), expected)
    assert torch.equal(semantic_target(instances(small, large, labels=[4, 2]), (6, 8), STRIDE), expected)


def test_a_crowd_is_ignored_where_no_object_is() -> None:
    target = semantic_target(
        instances((0, 0, 32, 48), (16, 0, 64, 16), labels=[0, 1], crowd=[False, True]), (6, 8), STRIDE
    )
    expected = torch.zeros(6, 8, dtype=torch.int64)
    expected[:2, 2:] = IGNORE
    expected[:, :4] = 1
    assert torch.equal(target, expected)


def test_padding_and_images_without_objects_are_background() -> None:
    assert torch.equal(
        semantic_target(instances(labels=[]), (6, 8), STRIDE), torch.zeros(6, 8, dtype=torch.int64)
    )
    padded = semantic_target(instances((0, 0, 64, 48), labels=[0]), (8, 12), STRIDE)
    assert torch.equal(padded, F.pad(torch.ones(6, 8, dtype=torch.int64), (0, 4, 0, 2)))


def test_objects_without_masks_are_refused() -> None:
    with pytest.raises(ValueError, match="annotated masks"):
        semantic_target(instances((0, 0, 9, 9), labels=[0]).with_fields(masks=None), (6, 8), STRIDE)


def logits_and_target() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    target = torch.randint(0, 4, (3, 5, 6), generator=generator)
    target[0, :2] = IGNORE
    return torch.randn(3, 4, 5, 6, generator=generator), target


def test_the_loss_is_the_mean_over_what_is_not_ignored() -> None:
    logits, target = logits_and_target()
    kept = target != IGNORE
    picked = logits.log_softmax(1).permute(0, 2, 3, 1)[kept].gather(1, target[kept][:, None])
    torch.testing.assert_close(semantic_loss(logits, target), -picked.mean())


def test_the_losses_of_parts_of_a_batch_add_up_to_that_of_the_whole() -> None:
    logits, target = logits_and_target()
    cells = (target != IGNORE).sum().float()
    parts = [
        semantic_loss(logits[part], target[part], lambda _: cells) for part in (slice(0, 1), slice(1, 3))
    ]
    torch.testing.assert_close(parts[0] + parts[1], semantic_loss(logits, target))


def test_nothing_to_learn_from_is_a_loss_of_zero() -> None:
    logits = logits_and_target()[0].requires_grad_()
    loss = semantic_loss(logits, torch.full((3, 5, 6), IGNORE))
    loss.backward()
    assert loss == 0
    assert logits.grad is not None
    assert (logits.grad == 0).all()


def test_the_head_has_a_channel_for_the_background() -> None:
    assert SemanticHead(16, 8, 80)(torch.randn(2, 16, 6, 8)).shape == (2, 81, 6, 8)
