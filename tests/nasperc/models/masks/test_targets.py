import pytest
import torch
from bitmaps import Bitmaps
from torch import Tensor

from nasperc.models.fcos.targets import FCOSTargets
from nasperc.models.instances import Instances
from nasperc.models.masks.targets import MaskTargets, owned_masks, stack_mask_targets

BOXES = torch.tensor([[0.0, 0, 16, 16], [8, 8, 24, 24], [0, 0, 32, 32]])


def instances() -> Instances:
    """Three objects, each of which fills the left upper quarter of its box."""
    quarters = torch.cat((BOXES[:, :2], (BOXES[:, :2] + BOXES[:, 2:]) / 2), 1)
    return Instances(BOXES, masks=Bitmaps.of_boxes(quarters, (32, 32)))


def test_masks_stand_where_the_owner_points_to_and_others_are_not_made() -> None:
    made: list[int] = []

    class Counting(Bitmaps):
        def __getitem__(self, index: Tensor) -> Bitmaps:
            made.extend(index.tolist())
            return super().__getitem__(index)

    shapes = instances().masks
    assert isinstance(shapes, Bitmaps)
    counted = instances().with_fields(masks=Counting(shapes.planes))
    masks = owned_masks(counted, torch.tensor([-1, 2, 0, 0, -1]), 4)
    quarter = torch.zeros(4, 4, dtype=torch.bool)
    quarter[:2, :2] = True
    assert torch.equal(masks, torch.stack((quarter, torch.zeros_like(quarter), quarter)))
    assert made == [0, 2]


def test_no_owner_is_no_mask() -> None:
    assert not owned_masks(instances(), torch.full((5,), -1), 4).any()
    assert owned_masks(instances()[torch.tensor([], dtype=torch.int64)], torch.full((5,), -1), 4).shape == (
        0,
        4,
        4,
    )


@pytest.mark.parametrize("masks", [None, torch.zeros(3, 4, 4)])
def test_what_is_no_annotation_is_refused(masks: Tensor | None) -> None:
    with pytest.raises(ValueError, match="annotated masks"):
        owned_masks(instances().with_fields(masks=masks), torch.tensor([0]), 4)


def test_images_with_more_and_fewer_objects_are_stacked() -> None:
    def targets(count: int, *, semantic: bool) -> MaskTargets:
        detection = FCOSTargets(
            torch.full((5,), count), torch.zeros(5, 4), torch.zeros(5), torch.full((5,), count - 1)
        )
        masks = torch.ones(count, 4, 4, dtype=torch.bool)
        return MaskTargets(detection, BOXES[:count], masks, torch.full((2, 2), count) if semantic else None)

    stacked = stack_mask_targets([targets(count, semantic=True) for count in (1, 3, 0)])
    assert stacked.detection.labels.tolist() == [[1] * 5, [3] * 5, [0] * 5]
    assert stacked.boxes.shape == (3, 3, 4)
    assert torch.equal(stacked.boxes[1], BOXES)
    assert stacked.masks.sum((1, 2, 3)).tolist() == [16, 48, 0]
    assert stacked.semantic is not None
    assert stacked.semantic[:, 0, 0].tolist() == [1, 3, 0]
    assert stack_mask_targets([targets(2, semantic=False)]).semantic is None
