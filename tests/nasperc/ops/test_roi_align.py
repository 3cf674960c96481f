import math

import pytest
import torch

from nasperc.ops import roi_align as module
from nasperc.ops.roi_align import roi_align


def cell_or_zero(plane, y, x):
    """A bilinear sample of ``plane`` (H, W), one number at a time."""
    height, width = plane.shape
    if not (-1 <= y <= height and -1 <= x <= width):
        return 0.0
    y, x = min(max(y, 0), height - 1), min(max(x, 0), width - 1)
    top, left = math.floor(y), math.floor(x)
    bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
    down, aside = y - top, x - left
    return (
        plane[top, left] * (1 - down) * (1 - aside)
        + plane[top, right] * (1 - down) * aside
        + plane[bottom, left] * down * (1 - aside)
        + plane[bottom, right] * down * aside
    )


def slowly(features, boxes, image_index, output_size, scale, sampling_ratio, aligned=True):
    """As it is written in the docstring, sample by sample."""
    features, boxes = features.double().numpy(), boxes.double().tolist()
    out = torch.zeros(len(boxes), features.shape[1], *output_size, dtype=torch.float64)
    for r, box in enumerate(boxes):
        x1, y1, x2, y2 = (side * scale - (0.5 if aligned else 0) for side in box)
        height, width = y2 - y1, x2 - x1
        if not aligned:
            height, width = max(height, 1), max(width, 1)
        bin_height, bin_width = height / output_size[0], width / output_size[1]
        rows = sampling_ratio or max(math.ceil(bin_height), 0)
        columns = sampling_ratio or max(math.ceil(bin_width), 0)
        for c in range(features.shape[1]):
            plane = features[image_index[r], c]
            for i in range(output_size[0]):
                for j in range(output_size[1]):
                    samples = [
                        cell_or_zero(
                            plane,
                            y1 + (i + (k + 0.5) / rows) * bin_height,
                            x1 + (j + (m + 0.5) / columns) * bin_width,
                        )
                        for k in range(rows)
                        for m in range(columns)
                    ]
                    out[r, c, i, j] = sum(samples) / max(len(samples), 1)
    return out


def some(dtype=torch.float64, channels=3):
    """A batch of two maps at stride 4, and boxes inside of it, across its borders and outside."""
    torch.manual_seed(0)
    features = torch.randn(2, channels, 9, 13, dtype=dtype).contiguous(memory_format=torch.channels_last)
    corner = torch.rand(24, 2, dtype=dtype) * 70 - 15
    boxes = torch.cat((corner, corner + torch.rand(24, 2, dtype=dtype) ** 2 * 60), 1)
    boxes[0] = torch.tensor([0.0, 0.0, 52.0, 36.0])
    boxes[1] = torch.tensor([-90.0, -90.0, 150.0, 150.0])
    boxes[2] = torch.tensor([200.0, 10.0, 230.0, 30.0])
    boxes[3] = torch.tensor([10.0, -80.0, 30.0, -40.0])
    boxes[4] = torch.tensor([12.0, 8.0, 12.0, 20.0])
    boxes[5] = torch.tensor([12.0, 8.0, 12.0, 8.0])
    boxes[6] = torch.tensor([12.0, 8.0, 13.0, 9.0])
    return features, boxes, torch.arange(24) % 2


@pytest.fixture(params=["by rows", "by grid_sample"])
def path(request, monkeypatch):
    """Each of the two ways for maps of any width; a way that was not taken would be a test of nothing."""
    monkeypatch.setattr(module, "_WIDE", 1 if request.param == "by rows" else 10_000)
    taken = []
    for name in ("_by_rows", "_by_grid_sample"):
        function = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *a, name=name, f=function: (taken.append(name), f(*a))[1])
    yield request.param
    assert set(taken) == {"_" + request.param.replace(" ", "_")}


@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("sampling_ratio", [1, 2, 0])
@pytest.mark.parametrize("output_size", [(1, 1), (4, 3)])
def test_it_is_the_slow_reading(path, output_size, sampling_ratio, aligned):
    arguments = (*some(), output_size, 0.25, sampling_ratio, aligned)
    found = roi_align(*arguments)
    assert found.shape == (24, 3, *output_size)
    torch.testing.assert_close(found, slowly(*arguments))


@pytest.mark.parametrize("sampling_ratio", [1, 0])
def test_it_is_that_in_float32_too(path, sampling_ratio):
    arguments = (*some(torch.float32), (5, 5), 0.25, sampling_ratio)
    found = roi_align(*arguments)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), slowly(*arguments), atol=1e-5, rtol=1e-5)


def test_the_border_of_what_is_read(path):
    """Samples at -1 and at H are the last that read something, and what they read is the outermost cell."""
    features = (1 + torch.arange(20.0)).view(1, 1, 4, 5).contiguous(memory_format=torch.channels_last)
    # The centre of a box is its one sample, half a cell further up and left.
    centres = torch.tensor([[-0.5, 2.0], [-0.75, 2.0], [2.0, 4.5], [2.0, 4.75], [5.5, 2.5], [5.75, 2.5]])
    boxes = torch.cat((centres - 0.125, centres + 0.125), 1)
    found = roi_align(features, boxes, torch.zeros(6, dtype=torch.long), (1, 1), 1.0, 1).flatten()
    torch.testing.assert_close(found, torch.tensor([8.5, 0.0, 17.5, 0.0, 15.0, 0.0]))


@pytest.mark.parametrize("sampling_ratio", [1, 2, 0])
def test_it_is_the_operator_of_onnx(sampling_ratio):
    onnx, onnxruntime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    features, boxes, image_index = some()
    names = ("features", "boxes", "image_index")
    node = onnx.helper.make_node(
        "RoiAlign",
        names,
        ["out"],
        coordinate_transformation_mode="half_pixel",
        output_height=4,
        output_width=6,
        sampling_ratio=sampling_ratio,
        spatial_scale=0.25,
    )
    kinds = (onnx.TensorProto.DOUBLE, onnx.TensorProto.DOUBLE, onnx.TensorProto.INT64)
    inputs = [
        onnx.helper.make_tensor_value_info(name, kind, [None] * dimensions)
        for name, kind, dimensions in zip(names, kinds, (4, 2, 1), strict=True)
    ]
    output = onnx.helper.make_tensor_value_info("out", onnx.TensorProto.DOUBLE, [None] * 4)
    graph = onnx.helper.make_graph([node], "roi_align", inputs, [output])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 16)], ir_version=8)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    feed = dict(
        zip(names, (each.numpy() for each in (features.contiguous(), boxes, image_index)), strict=True)
    )
    (theirs,) = session.run(None, feed)
    ours = roi_align(features, boxes, image_index, (4, 6), 0.25, sampling_ratio)
    # Its scale is a float32, and so is what follows from it.
    torch.testing.assert_close(ours, torch.from_numpy(theirs), atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("sampling_ratio", [1, 2, 0])
def test_its_gradient(path, sampling_ratio):
    features, boxes, image_index = (each[:8] for each in some(channels=1))
    # Small, since every number of it is moved.
    features = features[..., :4, :6].contiguous(memory_format=torch.channels_last).requires_grad_()

    def function(features):
        return roi_align(features, boxes, image_index, (2, 3), 0.25, sampling_ratio)

    assert torch.autograd.gradcheck(function, features)


def test_many_maps_are_sampled_as_exactly_as_one():
    torch.manual_seed(0)
    features = torch.randn(600, 1, 40, 8)
    boxes = (torch.rand(600, 4) * 20).add(torch.tensor([0.0, 0.0, 10.0, 140.0]))
    arguments = (boxes, torch.arange(600), (5, 5), 0.25, 1)
    expected = roi_align(features.double(), *arguments)
    torch.testing.assert_close(roi_align(features, *arguments).double(), expected, atol=1e-4, rtol=0)


def test_without_boxes_there_is_a_gradient_of_zeros(path):
    features = some()[0].requires_grad_()
    for sampling_ratio in (1, 0):
        out = roi_align(
            features, torch.zeros(0, 4), torch.zeros(0, dtype=torch.long), (4, 3), 0.25, sampling_ratio
        )
        assert out.shape == (0, 3, 4, 3)
        (grad,) = torch.autograd.grad(out.sum(), features)
        assert not grad.any()


def test_boxes_that_are_not_finite_are_zero(path):
    features, boxes, image_index = some()
    boxes[7], boxes[8, 2] = torch.nan, torch.nan
    for sampling_ratio in (1, 0):
        out = roi_align(features, boxes, image_index, (2, 2), 0.25, sampling_ratio)
        assert out.isfinite().all()
        assert not out[7].any()


@pytest.mark.parametrize("grad", [True, False])
def test_many_samples_are_read_in_parts(path, monkeypatch, grad):
    features, boxes, image_index = some()
    expected = roi_align(features, boxes, image_index, (4, 3), 0.25, 0)
    monkeypatch.setattr("nasperc.ops.rois._CHUNK_ELEMENTS", 100)
    found = roi_align(features.requires_grad_(grad), boxes, image_index, (4, 3), 0.25, 0)
    assert found.requires_grad == grad
    torch.testing.assert_close(found, expected)


def test_half_precision_is_sampled_in_full():
    features, boxes, image_index = some(torch.float32)
    half = features.bfloat16()
    found = roi_align(half, boxes, image_index, (4, 3), 0.25, 1)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found, roi_align(half.float(), boxes, image_index, (4, 3), 0.25, 1).bfloat16())


def test_on_the_meta_device_it_has_its_shape():
    features, boxes, image_index = (each.to("meta") for each in some())
    for sampling_ratio in (1, 0):
        assert roi_align(features, boxes, image_index, (4, 3), 0.25, sampling_ratio).shape == (24, 3, 4, 3)


def test_it_exports_with_free_sizes(exported):
    dim = torch.export.Dim
    boxes_dim = dim("boxes", min=0, max=1000)
    sides = {0: dim("images", max=64), 2: dim("height", min=2, max=500), 3: dim("width", min=2, max=500)}

    def function(features, boxes, image_index):
        once = roi_align(features, boxes, image_index, (4, 3), 0.25, 1)
        return torch.cat((once, roi_align(features, boxes, image_index, (4, 3), 0.25, 2)), 1)

    runtimes = exported(function, some(torch.float32), (sides, {0: boxes_dim}, {0: boxes_dim}))
    _, boxes, _ = some(torch.float32)
    for images, height, width in ((1, 17, 8), (3, 6, 21)):
        features = torch.randn(images, 3, height, width)
        for count in (0, 1, 5, 24):
            arguments = (features, boxes[:count], torch.arange(count) % images)
            expected = function(*arguments)
            assert expected.shape == (count, 6, 4, 3)
            for name, run in runtimes.items():
                torch.testing.assert_close(run(*arguments), expected, atol=1e-5, rtol=1e-5, msg=name)


def test_adaptive_sampling_cannot_be_exported():
    class Adaptive(torch.nn.Module):
        def forward(self, *arguments):
            return roi_align(*arguments, (4, 3), 0.25, 0)

    with pytest.raises(ValueError, match="sampling_ratio 0 cannot be exported"):
        torch.export.export(Adaptive(), some())
