"""What every instance segmenter keeps to, in all its variants. A new one adds a subclass and inherits the tests.

A variant is a row of a recipe (``table_4_1:Blender``), built with few channels. The images have 128 x 128 pixels and an
object for every level of a pyramid from P3 to P7, whose sizes of interest are an eighth of those of real images.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from bitmaps import Bitmaps
from torch import Tensor

from nasperc.models.detector import Detector
from nasperc.models.instance_segmenter import InstanceSegmenter
from nasperc.models.instances import Instances
from nasperc.models.reduction import Reduce

SIZE, SIZE_SCALE, CLASSES = 128, 1 / 8, 3
# One a level, from P3 to P7: a location of the level lies near its middle.
OBJECTS = torch.tensor(
    [[6, 100, 18, 112], [94, 14, 114, 34], [60, 60, 100, 100], [2, 2, 70, 70], [0, 0, 128, 128]],
    dtype=torch.float32,
)


def annotations(boxes: Tensor, *, crowd: bool = False) -> Instances:
    """Objects that fill their boxes."""
    labels = torch.arange(len(boxes)) % CLASSES
    masks = Bitmaps.of_boxes(boxes, (SIZE, SIZE))
    return Instances(boxes, labels, torch.full((len(boxes),), crowd), masks=masks)


class SegmenterContract:
    @pytest.fixture
    def variant(self) -> str:
        """A row of a recipe; a subclass has them all as parameters."""
        raise NotImplementedError

    def build(self, variant: str) -> Detector:
        """The segmenter of a row, narrow, for ``CLASSES`` classes, with random weights."""
        raise NotImplementedError

    @pytest.fixture
    def model(self, variant: str) -> Detector:
        torch.manual_seed(0)
        return self.build(variant)

    @pytest.fixture
    def images(self) -> Tensor:
        return torch.randn(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))

    def losses(
        self, model: Detector, images: Tensor, objects: list[Tensor], **keys: Reduce
    ) -> dict[str, Tensor]:
        """Of ``images`` with annotated ``objects`` (M, 4) each."""
        targets = [self.targets(model, annotations(boxes)) for boxes in objects]
        found: dict[str, Tensor] = model.losses(model(images), model.stack(targets), **keys)._asdict()
        return found

    def targets(self, model: Detector, instances: Instances) -> object:
        level_sizes = [(SIZE // stride, SIZE // stride) for stride in model.strides]
        return model.targets(instances, level_sizes, SIZE_SCALE)

    def test_it_trains_and_gradients_reach_every_parameter(self, model: Detector, images: Tensor) -> None:
        """With positives on every level."""
        levels = torch.cat(
            [torch.full(((SIZE // stride) ** 2,), level) for level, stride in enumerate(model.strides)]
        )
        owner = self.targets(model, annotations(OBJECTS)).detection.owner  # type: ignore[attr-defined]
        assert levels[owner >= 0].unique().tolist() == list(range(len(model.strides)))
        before = self.losses(model, images, [OBJECTS, OBJECTS.flip(0)])
        assert all(loss.isfinite() for loss in before.values())
        torch.stack(list(before.values())).sum().backward()
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                assert parameter.grad is not None, name
                assert parameter.grad.isfinite().all(), name
                assert parameter.grad.abs().sum() > 0, name
        # A step so short that the gradient holds on all of it, whatever the random weights are.
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1e-5)
        torch.optim.SGD(model.parameters(), lr=1.0).step()
        after = self.losses(model, images, [OBJECTS, OBJECTS.flip(0)])
        assert torch.stack(list(after.values())).sum() < torch.stack(list(before.values())).sum()

    def test_detections_have_masks_inside_of_their_boxes(self, model: Detector, images: Tensor) -> None:
        model.eval()
        torch.nn.init.normal_(model.head.class_logits.weight, std=1.0)  # type: ignore[union-attr, arg-type]
        torch.nn.init.zeros_(model.head.class_logits.bias)  # type: ignore[union-attr, arg-type]
        with torch.no_grad():
            found = model.detect(model(images), [(SIZE, SIZE), (100, 90)])
        alone = model.detect(model(images[1:]), [(100, 90)])[0]
        for each in found:
            assert isinstance(each.masks, Tensor)
            assert 0 < len(each) == len(each.masks)
            assert each.masks.shape[1] == each.masks.shape[2]
            assert ((each.masks >= 0) & (each.masks <= 1)).all()
            assert len(each[torch.arange(1)].masks) == 1  # type: ignore[arg-type]
        # No image looks at another one's bases.
        torch.testing.assert_close(found[1].masks, alone.masks, rtol=1e-3, atol=1e-4)

    def test_masks_may_be_pasted_into_the_boxes_that_they_were_pooled_with(
        self, model: InstanceSegmenter, images: Tensor
    ) -> None:
        model.eval()
        torch.nn.init.zeros_(model.head.class_logits.bias)  # type: ignore[union-attr, arg-type]
        with torch.no_grad():
            output = model(images)
        for each in model.detect(output, [(SIZE, SIZE)] * 2):
            assert each.pooled is None
        model.paste_into = "pooled_box"
        for each in model.detect(output, [(SIZE, SIZE)] * 2):
            assert len(each) > 0
            assert torch.equal(each.pooled, each.boxes)  # type: ignore[arg-type]

    def test_nothing_found_is_no_mask(self, model: Detector, images: Tensor) -> None:
        model.eval()
        torch.nn.init.constant_(model.head.class_logits.bias, -100.0)  # type: ignore[union-attr, arg-type]
        with torch.no_grad():
            found = model.detect(model(images), [(SIZE, SIZE)] * 2)
        for each in found:
            assert isinstance(each.masks, Tensor)
            assert each.masks.shape[0] == len(each) == 0
            assert each.masks.ndim == 3

    @pytest.mark.parametrize("crowd", [False, True])
    def test_without_objects_the_losses_are_finite_and_every_gradient_is_known(
        self, model: Detector, images: Tensor, crowd: bool
    ) -> None:
        """Processes that share a batch add up the gradients of all parameters, whatever their images show."""
        instances = annotations(OBJECTS[-1:] if crowd else OBJECTS[:0], crowd=crowd)
        # And a batch may be one image.
        losses = model.losses(model(images[:1]), model.stack([self.targets(model, instances)]))
        assert all(loss.isfinite() for loss in losses)
        assert losses.mask == 0
        losses.total().backward()
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                assert parameter.grad is not None, name
                assert parameter.grad.isfinite().all(), name

    def test_images_may_differ_in_their_objects_and_one_may_have_hundreds(
        self, model: Detector, images: Tensor
    ) -> None:
        corners = torch.cartesian_prod(torch.arange(0, 120, 10), torch.arange(0, 120, 10)).float()
        many = torch.cat((corners, corners + 8), 1)
        assert len(many) > 100
        losses = self.losses(model, images, [many, OBJECTS[:1]])
        assert all(loss.isfinite() for loss in losses.values())
        assert losses["mask"] > 0

    def test_losses_and_gradients_of_parts_of_a_batch_add_up_to_those_of_the_whole(
        self, model: Detector, images: Tensor
    ) -> None:
        """As of processes that share a batch."""
        # With the statistics of BatchNorm fixed: those of a batch are another matter. In float64, since in float32 a
        # ReLU may be on in one of the two.
        model, images, objects = model.eval().double(), images.double(), [OBJECTS, OBJECTS[:2]]
        whole = self.losses(model, images, objects)
        sums: list[Tensor] = []
        for image in (0, 1):
            self.losses(model, images[image : image + 1], objects[image : image + 1], reduce=_adding_to(sums))
        parts = [
            self.losses(model, images[image : image + 1], objects[image : image + 1], reduce=_reading(sums))
            for image in (0, 1)
        ]
        for name, loss in whole.items():
            torch.testing.assert_close(parts[0][name] + parts[1][name], loss, rtol=1e-6, atol=1e-8)
        gradients = [self.gradients(model, terms) for terms in (whole, *parts)]
        for name, gradient in gradients[0].items():
            added = gradients[1][name] + gradients[2][name]
            torch.testing.assert_close(added, gradient, rtol=1e-6, atol=1e-8)

    def gradients(self, model: Detector, losses: dict[str, Tensor]) -> dict[str, Tensor]:
        """Of the sum of ``losses``, by parameter."""
        model.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        return {name: each.grad.clone() for name, each in model.named_parameters() if each.grad is not None}


def _adding_to(sums: list[Tensor]) -> Reduce:
    """What a process knows of the sums before the others have reported theirs: its calls, in order."""
    calls = iter(range(100))

    def reduce(values: Tensor) -> Tensor:
        call = next(calls)
        if call == len(sums):
            sums.append(values.detach().clone())
        else:
            sums[call] += values.detach()
        return values

    return reduce


def _reading(sums: list[Tensor]) -> Callable[[Tensor], Tensor]:
    known = iter(sums)
    return lambda _: next(known)
