from __future__ import annotations

import torch

from nasperc.models.retinanet.anchors import anchors


def test_against_loops() -> None:
    wanted = []
    for (height, width), stride in zip([(2, 3), (1, 2)], [8, 16], strict=True):
        for row in range(height):
            for column in range(width):
                x, y = stride // 2 + column * stride, stride // 2 + row * stride
                for octave in range(3):
                    for ratio in (0.5, 1.0, 2.0):
                        area = (4 * stride * 2 ** (octave / 3)) ** 2
                        w = (area / ratio) ** 0.5
                        h = w * ratio
                        wanted.append([x - w / 2, y - h / 2, x + w / 2, y + h / 2])
    torch.testing.assert_close(anchors([(2, 3), (1, 2)], [8, 16]), torch.tensor(wanted))


def test_the_five_levels_have_sides_of_32_to_512() -> None:
    found = anchors([(1, 1)] * 5, [8, 16, 32, 64, 128]).reshape(5, 3, 3, 4)
    squares = found[:, 0, 1]
    torch.testing.assert_close(squares[:, 2] - squares[:, 0], torch.tensor([32.0, 64, 128, 256, 512]))


def test_the_scale_is_of_the_sizes_only() -> None:
    whole, half = anchors([(2, 2)], [8]), anchors([(2, 2)], [8], scale=0.5)
    torch.testing.assert_close(half[:, :2] + half[:, 2:], whole[:, :2] + whole[:, 2:])
    torch.testing.assert_close(half[:, 2:] - half[:, :2], (whole[:, 2:] - whole[:, :2]) / 2)
