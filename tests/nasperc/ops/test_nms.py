import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nasperc.ops import nms as nms_module
from nasperc.ops.nms import batched_nms, nms


def iou(a, b):
    width = max(min(a[2], b[2]) - max(a[0], b[0]), 0)
    height = max(min(a[3], b[3]) - max(a[1], b[1]), 0)
    areas = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1])
    return width * height / (areas - width * height) if width * height else 0.0


def slow_nms(boxes, scores, labels, threshold):
    kept = []
    for i in sorted(range(len(boxes)), key=lambda i: (-scores[i], i)):
        if all(labels[i] != labels[k] or iou(boxes[i], boxes[k]) <= threshold for k in kept):
            kept.append(i)
    return kept


# Coarse numbers on purpose: equal scores, equal boxes, empty boxes, touching edges.
entry = st.tuples(
    st.integers(-9, 9),
    st.integers(-9, 9),
    st.integers(0, 8),
    st.integers(0, 8),
    st.integers(0, 5),
    st.integers(0, 2),
)


@given(st.lists(entry, max_size=40), st.sampled_from([0.3, 0.55, 0.7]))
def test_both_agree_with_the_greedy_loop(entries, threshold):
    boxes = torch.tensor([(x, y, x + w, y + h) for x, y, w, h, *_ in entries], dtype=torch.float32)
    boxes = boxes.reshape(-1, 4)
    scores = torch.tensor([e[4] / 5 for e in entries])
    labels = torch.tensor([e[5] for e in entries], dtype=torch.int64)
    rows, values = boxes.tolist(), scores.tolist()
    assert nms(boxes, scores, threshold).tolist() == slow_nms(rows, values, [0] * len(rows), threshold)
    expected = slow_nms(rows, values, labels.tolist(), threshold)
    assert batched_nms(boxes, scores, labels, threshold).tolist() == expected


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 7))
def test_blocks_do_not_show(seed, block):
    generator = torch.Generator().manual_seed(seed)
    corners = torch.rand(60, 2, generator=generator) * 20
    boxes = torch.cat((corners, corners + torch.rand(60, 2, generator=generator) * 15), dim=1)
    scores = torch.rand(60, generator=generator)
    before, nms_module._BLOCK = nms_module._BLOCK, block
    try:
        kept = nms(boxes, scores, 0.4).tolist()
    finally:
        nms_module._BLOCK = before
    assert kept == slow_nms(boxes.tolist(), scores.tolist(), [0] * 60, 0.4)


def test_a_chain_of_overlaps_is_settled_from_its_head():
    # Each box overlaps the next one only: every second one survives.
    x = torch.arange(300, dtype=torch.float32)
    boxes = torch.stack((x, torch.zeros(300), x + 1.9, torch.ones(300)), dim=1)
    assert nms(boxes, torch.linspace(1, 0, 300), 0.3).tolist() == list(range(0, 300, 2))


def test_an_iou_equal_to_the_threshold_is_kept():
    boxes = torch.tensor([[0.0, 0.0, 2.0, 2.0], [0.0, 0.0, 2.0, 1.0]])
    scores = torch.tensor([0.9, 0.8])
    assert nms(boxes, scores, 0.5).tolist() == [0, 1]
    assert nms(boxes, scores, 0.49).tolist() == [0]


def test_classes_stay_apart_far_from_the_origin_and_below_it():
    # Shifting each class by the largest coordinate would merge the first two and round the others.
    boxes = torch.tensor(
        [[-1000.0, -1000.0, -990.0, -990.0], [0.0, 0.0, 10.0, 10.0], [9e6, 9e6, 9e6 + 10, 9e6 + 10]]
    ).repeat(2, 1)
    labels = torch.tensor([0, 0, 0, 90, 90, 90])
    assert sorted(batched_nms(boxes, torch.linspace(1, 0.5, 6), labels, 0.5).tolist()) == [0, 1, 2, 3, 4, 5]
    assert batched_nms(boxes, torch.linspace(1, 0.5, 6), torch.zeros(6), 0.5).tolist() == [0, 1, 2]
