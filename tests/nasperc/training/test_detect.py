import numpy as np
import pytest
import torch
from pycocotools import mask as coco_mask

from nasperc.data.normalisation import get_normalisation
from nasperc.models.instances import Instances
from nasperc.training.detect import detect, detect_dataset

TF = get_normalisation("tf")


class Oracle(torch.nn.Module):
    """Stands in for a detector: knows where the objects are in the resized image, from its size."""

    def __init__(self, boxes, divisor=32):
        super().__init__()
        self.divisor = divisor
        self.anchor = torch.nn.Parameter(torch.zeros(()))
        self.boxes, self.seen = boxes, []

    def forward(self, images):
        self.seen.append(tuple(images.shape))
        return images

    def detect(self, output, sizes):
        labels, scores = torch.tensor([0, 1, 1]), torch.tensor([0.9, 0.8, 0.7])
        return [Instances(self.boxes, labels=labels, scores=scores) for _ in sizes]


def test_boxes_come_back_in_original_pixels(dataset):
    sample = dataset[0]
    assert sample.meta.size == (64, 80)
    # Resized to 32 x 40; the second reaches outside, the third lies outside altogether.
    model = Oracle(torch.tensor([[2.0, 4.0, 10.0, 20.0], [30.0, 10.0, 45.0, 40.0], [41.0, 1.0, 50.0, 9.0]]))
    (found,) = detect(model, [sample], TF, 32, 64)
    assert model.seen == [(1, 3, 32, 64)]
    torch.testing.assert_close(found.boxes, torch.tensor([[4.0, 8.0, 20.0, 40.0], [60.0, 20.0, 80.0, 64.0]]))
    assert found.labels.tolist() == [0, 1]


@pytest.mark.parametrize(("divisor", "size"), [(4, (32, 40)), (128, (128, 128))])
def test_images_are_padded_to_the_divisor_of_the_model(dataset, divisor, size):
    model = Oracle(torch.tensor([[2.0, 4.0, 10.0, 20.0]] * 3), divisor)
    (found,) = detect(model, [dataset[0]], TF, 32, 64)
    assert model.seen == [(1, 3, *size)]
    torch.testing.assert_close(found.boxes[0], torch.tensor([4.0, 8.0, 20.0, 40.0]))


@pytest.mark.parametrize("paste", ["clipped_box", "pooled_box"])
def test_the_mask_of_an_object_that_leaves_the_image(dataset, paste):
    """A ring of four by four cells, of which the left half is outside: it is cut, or squeezed into what is left."""
    boxes = torch.tensor([[-16.0, 8.0, 16.0, 24.0]])
    ring = torch.tensor([[1.0, 1, 1, 1], [1, 0, 0, 1], [1, 0, 0, 1], [1, 1, 1, 1]])
    masks = ring.repeat_interleave(8, 0).repeat_interleave(8, 1)[None]

    class Segmenter(Oracle):
        def detect(self, output, sizes):
            found = Instances(boxes, torch.tensor([0]), scores=torch.tensor([0.9]), masks=masks)
            return [found.with_fields(pooled=boxes) if paste == "pooled_box" else found for _ in sizes]

    # Two pixels of the image for one of the resized one.
    first = detect_dataset(Segmenter(None), dataset, TF, 32, 64)[0]
    assert first["bbox"] == [0.0, 16.0, 32.0, 32.0]
    mask = coco_mask.decode(first["segmentation"])
    assert mask.shape == (64, 80)
    (middle,) = np.unique(mask[25:39, :32], axis=0)
    # Of a row through the hole: the ring's right half has the hole first, then its edge of 16 pixels.
    wanted = [0] * 16 + [1] * 16 if paste == "pooled_box" else [1] * 8 + [0] * 16 + [1] * 8
    assert middle.tolist() == wanted
    assert not mask[:, 32:].any()
    assert not mask[48:].any()


def test_results_in_coco_form_and_batches(dataset):
    model = Oracle(torch.tensor([[2.0, 4.0, 10.0, 20.0]] * 3))
    done = []
    results = detect_dataset(model.train(), dataset, TF, 32, 64, batch_size=2, on_image=done.append)
    assert not model.training
    assert done == [2, 4, 5]
    assert [shape[0] for shape in model.seen] == [2, 2, 1]
    assert len(results) == 15
    first = results[0]
    assert (first["image_id"], first["category_id"]) == (dataset.records[0].image_id, 1)
    assert first["bbox"] == [4.0, 8.0, 16.0, 32.0]
