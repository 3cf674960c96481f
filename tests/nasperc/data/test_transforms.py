from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from nasperc.data.object_masks import ObjectMasks
from nasperc.data.sample import Meta, Sample
from nasperc.data.transforms import (
    Compose,
    HorizontalFlip,
    MultiScaleResize,
    Pad,
    RandomCrop,
    RandomScale,
    Resize,
    ResizeLongSide,
    shortest_edge_size,
)

properties = settings(deadline=None, max_examples=50)


def scene(height: int, width: int, count: int = 3, seed: int = 0, masks: bool = True) -> Sample:
    """Rectangles as objects, so that a mask's box is the box; the maps show the same rectangles."""
    rng = np.random.default_rng(seed)
    boxes = np.zeros((count, 4), np.float32)
    stack = np.zeros((count, height, width), bool)
    semantic = np.zeros((height, width), np.int64)
    for k in range(count):
        y1, x1 = int(rng.integers(height)), int(rng.integers(width))
        y2, x2 = int(rng.integers(y1, height)) + 1, int(rng.integers(x1, width)) + 1
        boxes[k] = x1, y1, x2, y2
        stack[k, y1:y2, x1:x2] = True
        semantic[y1:y2, x1:x2] = k + 1
    return Sample(
        image=torch.from_numpy(rng.integers(0, 256, (3, height, width), dtype=np.uint8)),
        meta=Meta(1, Path("scene.png"), (height, width)),
        boxes=torch.from_numpy(boxes),
        labels=torch.arange(count),
        crowd=torch.zeros(count, dtype=torch.bool),
        masks=ObjectMasks.of_bitmaps(stack) if masks else None,
        semantic=torch.from_numpy(semantic),
        panoptic=torch.from_numpy(semantic * 1000),
    )


def tensor(sample: Sample, name: str) -> torch.Tensor:
    value = getattr(sample, name)
    return value.bitmaps() if isinstance(value, ObjectMasks) else value


def tight_boxes(masks: torch.Tensor) -> list[list[float]]:
    boxes = []
    for mask in masks.numpy():
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        boxes.append([float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)])
    return boxes


sizes = st.integers(8, 48)
scenes = st.builds(scene, sizes, sizes, count=st.integers(1, 5), seed=st.integers(0, 10_000))


@properties
@given(scenes)
def test_flip_maps_every_field_and_is_its_own_inverse(sample):
    flip = HorizontalFlip(p=1.0)
    rng = np.random.default_rng(0)
    once = flip(sample, rng)
    assert once.boxes.tolist() == tight_boxes(once.masks.bitmaps())
    twice = flip(once, rng)
    for name in ("image", "boxes", "labels", "masks", "semantic", "panoptic"):
        assert torch.equal(tensor(twice, name), tensor(sample, name)), name
    width = sample.image.shape[-1]
    assert torch.equal(once.image[:, :, 0], sample.image[:, :, width - 1])
    assert torch.equal(once.panoptic, once.semantic * 1000)


def test_flip_probability():
    sample, rng = scene(8, 8), np.random.default_rng(0)
    assert not any(HorizontalFlip(0.0).draw(sample, rng) for _ in range(20))
    assert 60 < sum(HorizontalFlip(0.5).draw(sample, rng) for _ in range(200)) < 140


@properties
@given(scenes, st.tuples(sizes, sizes), st.integers(0, 1000), st.integers(0, 3))
def test_crop_maps_boxes_as_masks_and_keeps_an_object(sample, size, seed, attempts):
    crop = RandomCrop(size, attempts)
    top, left = crop.draw(sample, np.random.default_rng(seed))
    out = crop.apply(sample, (top, left))
    assert out.image.shape == (3, *size)
    assert len(out.boxes) == len(out.labels) == len(out.crowd) == len(out.masks) >= 1
    assert out.boxes.tolist() == tight_boxes(out.masks.bitmaps())
    height, width = (min(a, b) for a, b in zip(size, sample.image.shape[-2:], strict=True))
    inside = (slice(top, top + height), slice(left, left + width))
    assert torch.equal(out.image[:, :height, :width], sample.image[(slice(None), *inside)])
    assert torch.equal(out.semantic[:height, :width], sample.semantic[inside])
    assert torch.equal(out.panoptic[:height, :width], sample.panoptic[inside])
    assert not out.image[:, height:].any()
    assert not out.image[:, :, width:].any()
    assert (out.semantic[height:] == 255).all()
    assert (out.panoptic[:, width:] == 0).all()
    assert torch.equal(
        out.masks.bitmaps(),
        torch.nn.functional.pad(
            sample.masks.bitmaps()[(out.labels, *inside)], (0, size[1] - width, 0, size[0] - height)
        ),
    )


@properties
@given(st.integers(0, 1000), st.integers(0, 2))
def test_crop_around_a_far_small_object(seed, attempts):
    sample = scene(64, 64, count=0, masks=False).with_fields(
        boxes=torch.tensor([[60.0, 1.0, 63.0, 4.0]]), labels=torch.tensor([7]), crowd=torch.tensor([False])
    )
    out = RandomCrop((8, 8), attempts)(sample, np.random.default_rng(seed))
    assert out.labels.tolist() == [7]


def test_crop_does_not_count_crowd_and_needs_no_object():
    rng = np.random.default_rng(0)
    boxes = torch.tensor([[0.0, 0.0, 40.0, 40.0], [60.0, 60.0, 64.0, 64.0]])
    sample = scene(64, 64, count=0, masks=False).with_fields(
        boxes=boxes, labels=torch.tensor([0, 1]), crowd=torch.tensor([True, False])
    )
    crop = RandomCrop((8, 8), 2)
    assert all(1 in crop(sample, rng).labels.tolist() for _ in range(20))
    only_crowd = sample.with_fields(crowd=torch.tensor([True, True]))
    assert {crop.draw(only_crowd, rng) for _ in range(20)} != {crop.draw(only_crowd, rng)}
    bare = Sample(image=sample.image, meta=sample.meta)
    assert crop(bare, rng).boxes is None
    assert crop(scene(64, 64, count=0), rng).boxes.shape == (0, 4)


def test_crop_of_a_hollow_object_keeps_its_mask():
    # The window fits into the hole of a ring: its centre is inside, but nothing of the object.
    mask = torch.zeros(1, 40, 40, dtype=torch.bool)
    mask[0, 2:38, 2:38] = True
    mask[0, 6:34, 6:34] = False
    sample = scene(40, 40, count=0).with_fields(
        boxes=torch.tensor([[2.0, 2.0, 38.0, 38.0]]),
        labels=torch.tensor([0]),
        crowd=torch.tensor([False]),
        masks=ObjectMasks.of_bitmaps(mask),
    )
    rng = np.random.default_rng(0)
    for _ in range(20):
        out = RandomCrop((8, 8), 3)(sample, rng)
        assert len(out.boxes) == 1
        assert out.masks.visible().any()


@properties
@given(sizes, sizes, st.integers(0, 100), st.integers(8, 96), st.integers(8, 120))
def test_resize_keeps_the_ratio_and_the_limit(height, width, seed, short, longest):
    sample = scene(height, width, seed=seed)
    out = Resize(short, longest)(sample, np.random.default_rng(0))
    new_height, new_width = out.image.shape[-2:]
    assert abs(min(new_height, new_width) - short) <= 0.5 or max(new_height, new_width) == longest
    assert max(new_height, new_width) <= longest
    assert abs(new_height / height - new_width / width) <= 0.5 / height + 0.5 / width + 0.5 / min(
        height, width
    )
    assert out.masks.size == out.semantic.shape == out.panoptic.shape == (new_height, new_width)
    scale = torch.tensor([new_width / width, new_height / height] * 2)
    torch.testing.assert_close(out.boxes, sample.boxes * scale)
    assert torch.equal(out.panoptic, out.semantic * 1000)
    assert out.meta == sample.meta


def detectron2_sizes(h: np.ndarray, w: np.ndarray, size: int, max_size: int) -> np.ndarray:
    """``ResizeShortestEdge.get_output_shape`` of detectron2's ``augmentation_impl.py``, on arrays: (..., 2)."""
    scale = size * 1.0 / np.minimum(h, w)
    newh, neww = np.where(h < w, size, scale * h), np.where(h < w, scale * w, size)
    longest = np.maximum(newh, neww)
    scale = np.where(longest > max_size, max_size * 1.0 / longest, 1.0)
    # Of 1 x 2000 and its like nothing would be left; here a pixel is.
    return np.maximum(1, np.stack((newh * scale + 0.5, neww * scale + 0.5), axis=-1).astype(int))


def test_sizes_are_detectron2s_for_every_image_to_2000():
    for height in range(1, 2001):
        widths = np.arange(height, 2001)
        found = [shortest_edge_size(height, width, 800, 1333) for width in widths.tolist()]
        assert np.array_equal(found, detectron2_sizes(np.array(height), widths, 800, 1333)), height


@pytest.mark.parametrize(("size", "max_size"), [(800, 1333), (384, 640), (192, 320), (600, 1 << 20)])
def test_sizes_are_detectron2s_for_upright_images_and_other_bounds(size, max_size):
    sides = np.arange(1, 2001)
    for side in (1, 2, 3, 375, 500, 640, 999, 2000):
        found = [shortest_edge_size(height, side, size, max_size) for height in sides.tolist()]
        assert np.array_equal(found, detectron2_sizes(sides, np.array(side), size, max_size))


def test_two_to_one_rounds_up():
    image = scene(4, 8, count=0).image
    for shape, expected in (((4, 8), (667, 1333)), ((8, 4), (1333, 667))):
        sample = Sample(image.reshape(3, *shape), Meta(1, Path("x"), shape))
        assert Resize(800, 1333)(sample, np.random.default_rng(0)).image.shape[-2:] == expected


def test_long_side_rounds_halves_to_even():
    for long_side, expected in ((321, (160, 321)), (323, (162, 323))):
        assert ResizeLongSide(long_side).apply(scene(10, 20)).image.shape[-2:] == expected


@properties
@given(st.integers(0, 1000), st.integers(2, 4))
def test_boxes_and_masks_agree_after_whole_enlargement(seed, factor):
    sample = scene(12, 16, seed=seed)
    out = Resize(12 * factor, 1000)(sample, np.random.default_rng(0))
    assert out.boxes.tolist() == tight_boxes(out.masks.bitmaps())
    expected = sample.semantic.repeat_interleave(factor, 0).repeat_interleave(factor, 1)
    assert torch.equal(out.semantic, expected)


@pytest.mark.parametrize("size", [(40, 60), (150, 225)])
def test_resize_looks_like_pillow(size):
    pixels = np.random.default_rng(0).integers(0, 256, (100, 150, 3), dtype=np.uint8)
    sample = Sample(image=torch.from_numpy(pixels).permute(2, 0, 1), meta=Meta(1, Path("x"), (100, 150)))
    out = Resize(size[0], 1000)(sample, np.random.default_rng(0)).image
    reference = np.asarray(Image.fromarray(pixels).resize(size[::-1], Image.Resampling.BILINEAR))
    assert out.dtype == torch.uint8
    assert np.abs(out.permute(1, 2, 0).numpy().astype(int) - reference).max() <= 1


def test_multi_scale_draws_every_side():
    resize, rng = MultiScaleResize((8, 10, 12), 100), np.random.default_rng(0)
    sides = {min(resize(scene(20, 30), rng).image.shape[-2:]) for _ in range(40)}
    assert sides == {8, 10, 12}


def pipeline() -> Compose:
    return Compose(MultiScaleResize((24, 32, 40), 60), RandomCrop((20, 20)), HorizontalFlip(0.5))


@properties
@given(scenes, st.integers(0, 1000))
def test_calling_is_drawing_and_applying(sample, seed):
    called = pipeline()(sample, np.random.default_rng(seed))
    params = pipeline().draw(sample, np.random.default_rng(seed))
    applied = pipeline().apply(sample, params)
    for name in ("image", "boxes", "labels", "masks", "semantic"):
        assert torch.equal(tensor(called, name), tensor(applied, name)), name


def test_frames_of_a_sequence_get_the_same_map():
    frame = scene(30, 40)
    other = frame.with_fields(image=255 - frame.image)
    for seed in range(10):
        first, second = pipeline().sequence([frame, other], np.random.default_rng(seed))
        # Resampling rounds once in each direction, so the negative of the result may be off by two.
        assert (first.image.int() + second.image.int() - 255).abs().max() <= 2
        assert torch.equal(first.boxes, second.boxes)
        assert torch.equal(first.semantic, second.semantic)


@properties
@given(scenes, st.integers(0, 100))
def test_scaling_draws_within_the_range_and_keeps_the_ratio(sample, seed):
    factor = RandomScale(0.5, 2.0).draw(sample, np.random.default_rng(seed))
    assert 0.5 <= factor < 2.0
    out = RandomScale(0.5, 2.0)(sample, np.random.default_rng(seed))
    size = tuple(round(n * factor) for n in sample.image.shape[-2:])
    assert out.image.shape[-2:] == out.masks.size == out.semantic.shape == size
    # Labels are copied, never mixed.
    assert set(out.semantic.unique().tolist()) <= set(sample.semantic.unique().tolist())


def test_scales_are_spread_over_the_range():
    rng, sample = np.random.default_rng(0), scene(8, 8)
    drawn = np.array([RandomScale(0.5, 2.0).draw(sample, rng) for _ in range(2000)])
    np.testing.assert_allclose(np.histogram(drawn, 3, (0.5, 2.0))[0] / 2000, 1 / 3, atol=0.04)


@properties
@given(scenes, st.tuples(sizes, sizes))
def test_padding_goes_around_and_moves_boxes_with_the_masks(sample, size):
    out = Pad(size, (10, 20, 30)).apply(sample)
    height, width = sample.image.shape[-2:]
    assert out.image.shape[-2:] == (max(size[0], height), max(size[1], width))
    top, left = ((new - old) // 2 for new, old in zip(out.semantic.shape, (height, width), strict=True))
    window = (..., slice(top, top + height), slice(left, left + width))
    for name in ("image", "masks", "semantic", "panoptic"):
        assert torch.equal(tensor(out, name)[window], tensor(sample, name)), name
    outside = torch.ones(out.semantic.shape, dtype=torch.bool)
    outside[window] = False
    assert (out.image[:, outside] == torch.tensor([[10], [20], [30]], dtype=torch.uint8)).all()
    assert (out.semantic[outside] == 255).all()
    assert not out.panoptic[outside].any()
    assert out.boxes.tolist() == tight_boxes(out.masks.bitmaps())


def test_window_without_padding_ends_with_the_image():
    sample = scene(30, 50)
    out = RandomCrop((40, 40), pad=False)(sample, np.random.default_rng(0))
    assert out.image.shape[-2:] == out.semantic.shape == (30, 40)
    assert out.boxes.tolist() == tight_boxes(out.masks.bitmaps())


def test_recipe_of_the_thesis_on_a_sequence_draws_once():
    """A.1: scale 0.5 to 2, pad, crop; every frame shows the same window of its scene."""
    transform = Compose(RandomScale(0.5, 2), Pad((40, 40)), RandomCrop((40, 40)), HorizontalFlip())
    frames = [scene(30, 50, count=0, seed=seed) for seed in range(3)]
    rows, columns = torch.meshgrid(torch.arange(30), torch.arange(50), indexing="ij")
    # The label of a pixel is its place, so equal maps mean equal windows.
    frames = [frame.with_fields(semantic=10_000 + rows * 50 + columns) for frame in frames]
    drawn = set()
    unlabelled = frames[0].with_fields(semantic=None)
    for seed in range(12):
        first, *others = transform.sequence(frames, np.random.default_rng(seed))
        # A first frame without annotation takes part like any other.
        bare, *labelled = transform.sequence([unlabelled, *frames[1:]], np.random.default_rng(seed))
        assert bare.semantic is None
        assert torch.equal(bare.image, first.image)
        assert torch.equal(labelled[0].semantic, others[0].semantic)
        assert first.image.shape == (3, 40, 40)
        assert all(torch.equal(first.semantic, other.semantic) for other in others)
        assert not torch.equal(first.image, others[0].image)
        alone = transform(frames[0], np.random.default_rng(seed))
        assert torch.equal(alone.image, first.image)
        drawn.add(tuple(first.semantic.flatten().tolist()))
    assert len(drawn) == 12
