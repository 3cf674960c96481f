import math

import pytest
import torch

from nasperc.ops.roi_pool import roi_pool


def rounded(x):
    return math.floor(x + 0.5) if x >= 0 else math.ceil(x - 0.5)


def slowly(features, boxes, image_index, output_size, scale):
    """As it is written in the docstring, bin by bin; ends of bins in fractions, so that nothing is rounded."""
    boxes = boxes.tolist()
    out = torch.zeros(len(boxes), features.shape[1], *output_size, dtype=features.dtype)
    for r, (x1, y1, x2, y2) in enumerate(boxes):
        left, top, right, bottom = (rounded(side * scale) for side in (x1, y1, x2, y2))
        for i, rows in enumerate(bins(top, bottom, output_size[0], features.shape[2])):
            for j, columns in enumerate(bins(left, right, output_size[1], features.shape[3])):
                if rows and columns:
                    cells = features[image_index[r], :, rows.start : rows.stop, columns.start : columns.stop]
                    out[r, :, i, j] = cells.amax((1, 2))
    return out


def bins(first, last, count, size):
    length = max(last - first + 1, 1)
    for place in range(count):
        start, end = first + place * length // count, first - (-(place + 1) * length // count)
        yield range(min(max(start, 0), size), min(max(end, 0), size))


def some(dtype=torch.float64, channels=3):
    """A batch of two maps at stride 4, and boxes inside of it, across its borders and outside."""
    torch.manual_seed(0)
    features = torch.randn(2, channels, 9, 13, dtype=dtype)
    corner = torch.rand(24, 2, dtype=dtype) * 70 - 15
    boxes = torch.cat((corner, corner + torch.rand(24, 2, dtype=dtype) ** 2 * 60), 1)
    boxes[0] = torch.tensor([0.0, 0.0, 52.0, 36.0])
    boxes[1] = torch.tensor([-90.0, -90.0, 150.0, 150.0])
    boxes[2] = torch.tensor([200.0, 10.0, 230.0, 30.0])
    boxes[3] = torch.tensor([10.0, -80.0, 30.0, -40.0])
    boxes[4] = torch.tensor([12.0, 8.0, 12.0, 20.0])
    # Halves, away from zero; an upside-down box is one cell.
    boxes[5] = torch.tensor([-6.0, -2.0, 10.0, 18.0])
    boxes[6] = torch.tensor([30.0, 20.0, 12.0, 8.0])
    return features, boxes, torch.arange(24) % 2


# In these numbers of bins no end of one is rounded to another cell.
@pytest.mark.parametrize("output_size", [(1, 1), (4, 2), (8, 16)])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_it_is_the_slow_reading(output_size, layout):
    features, *others = some()
    found = roi_pool(features.to(memory_format=layout), *others, output_size, 0.25)
    assert torch.equal(found, slowly(features, *others, output_size, 0.25))


@pytest.mark.parametrize("output_size", [(1, 1), (4, 6), (7, 7), (28, 14)])
def test_it_is_the_operator_of_onnx(output_size):
    """Where a bin's end is no whole number but for its rounding, too."""
    onnx, onnxruntime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    features, boxes, image_index = some(torch.float32)
    node = onnx.helper.make_node(
        "MaxRoiPool", ["features", "rois"], ["out"], pooled_shape=output_size, spatial_scale=0.25
    )
    kind = onnx.TensorProto.FLOAT
    inputs = [
        onnx.helper.make_tensor_value_info("features", kind, [None] * 4),
        onnx.helper.make_tensor_value_info("rois", kind, [None, 5]),
    ]
    output = onnx.helper.make_tensor_value_info("out", kind, [None] * 4)
    graph = onnx.helper.make_graph([node], "roi_pool", inputs, [output])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 16)], ir_version=8)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    rois = torch.cat((image_index[:, None], boxes), 1)
    (theirs,) = session.run(None, {"features": features.numpy(), "rois": rois.numpy()})
    assert torch.equal(roi_pool(features, boxes, image_index, output_size, 0.25), torch.from_numpy(theirs))


def test_its_gradient():
    features, boxes, image_index = (each[:8] for each in some(channels=1))
    # Small, since every number of it is moved.
    features = features[..., :4, :6].clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: roi_pool(x, boxes, image_index, (2, 3), 0.25), features)


def test_equal_maxima_share_the_gradient():
    features = torch.zeros(1, 1, 2, 2, requires_grad=True)
    out = roi_pool(features, torch.tensor([[0.0, 0.0, 1.0, 1.0]]), torch.tensor([0]), (1, 1), 1.0)
    (grad,) = torch.autograd.grad(out.sum(), features)
    assert torch.equal(grad, torch.full((1, 1, 2, 2), 0.25))


def test_without_boxes_there_is_a_gradient_of_zeros():
    features = some()[0].requires_grad_()
    out = roi_pool(features, torch.zeros(0, 4), torch.zeros(0, dtype=torch.long), (4, 3), 0.25)
    assert out.shape == (0, 3, 4, 3)
    (grad,) = torch.autograd.grad(out.sum(), features)
    assert not grad.any()


@pytest.mark.parametrize("grad", [True, False])
def test_many_cells_are_read_in_parts(monkeypatch, grad):
    features, boxes, image_index = some()
    expected = roi_pool(features, boxes, image_index, (4, 3), 0.25)
    monkeypatch.setattr("nasperc.ops.rois._CHUNK_ELEMENTS", 100)
    found = roi_pool(features.requires_grad_(grad), boxes, image_index, (4, 3), 0.25)
    assert found.requires_grad == grad
    assert torch.equal(found, expected)


def test_on_the_meta_device_it_has_its_shape():
    assert roi_pool(*(each.to("meta") for each in some()), (4, 3), 0.25).shape == (24, 3, 4, 3)


def test_it_exports_with_free_sizes(exported):
    dim = torch.export.Dim
    boxes_dim = dim("boxes", min=0, max=1000)
    sides = {0: dim("images", max=64), 2: dim("height", min=2, max=500), 3: dim("width", min=2, max=500)}

    def function(*arguments):
        return roi_pool(*arguments, (4, 3), 0.25)

    runtimes = exported(function, some(torch.float32), (sides, {0: boxes_dim}, {0: boxes_dim}))
    _, boxes, _ = some(torch.float32)
    for images, height, width in ((1, 17, 8), (3, 6, 21)):
        features = torch.randn(images, 3, height, width)
        for count in (0, 1, 5, 24):
            arguments = (features, boxes[:count], torch.arange(count) % images)
            expected = function(*arguments)
            assert expected.shape == (count, 3, 4, 3)
            for run in runtimes.values():
                assert torch.equal(run(*arguments), expected)
