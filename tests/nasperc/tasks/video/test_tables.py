import dataclasses

import pytest
import torch

from nasperc.evaluation.miou import SegmentationEvaluation
from nasperc.fulltrain.results import rank_rows, to_markdown, to_tables
from nasperc.tasks.row import Row
from nasperc.tasks.video.tables import VideoTables, video_metrics


def metrics(miou, far=0.25):
    return {
        **{"miou": miou, "macc": 0.6, "gacc": 0.9, "fwiou": 0.8, "tiou": None},
        "classes": {"Sky": 0.9},
        "sequences": {"1": 0.5, "2": 0.45},
        "runs": {"1": 0.5, "2-4": far},
    }


def row(name, miou, hash=None, rank=None, **more):
    base = Row(
        name=name,
        status="done",
        rank=rank,
        hash=hash,
        widths={"cell": 64} if hash else {},
        depth=None,
        reward=0.5 if hash else None,
        flops=None,
        params=2_850_000,
        cost_size=(360, 480),
        metrics={"val": metrics(miou)},
        latency={"median_s": 0.05, "device": "cpu, 1 threads"},
    )
    return dataclasses.replace(base, **more)


ROWS = [
    row("per-frame baseline", 0.40),
    row("rank 1", 0.43, "a", 1),
    row("sample 1", 0.41, "b", metrics={"val": metrics(0.41, far=None)}),
    row("rank 2", None, "c", 2, status="failed", reason="no kernel", metrics={}, latency=None),
]


def test_the_tables():
    results = rank_rows(ROWS, ("train", "val"), VideoTables())
    assert [each.name for each in results.rows] == ["rank 1", "sample 1", "per-frame baseline", "rank 2"]
    text = to_markdown(results)
    assert "| 1 | rank 1 | 0.5000 | 43.0 | 64 | 2.85 | 50.0 | 0.0 |" in text
    assert "| 3 | per-frame baseline |  | 40.0 |  | 2.85 | 50.0 | 0.0 |" in text
    assert "GFLOPs" not in text
    assert "| row | mIoU | mAcc | gAcc | fwIoU | tIoU |" in text
    assert "| rank 1 | 43.0 | 60.0 | 90.0 | 80.0 | - |" in text
    assert "| row | 1 | 2-4 |" in text
    assert "| sample 1 | 50.0 | - |" in text
    assert "median latency of a frame after the first, of 480x360 (cpu, 1 threads)" in text
    assert "- rank 2 failed: no kernel" in text
    assert [table.row_count for table in to_tables(results)] == [4, 3, 3, 3]


def test_the_best_is_one_that_a_search_found_ranked_or_drawn():
    assert rank_rows(ROWS[:1], ("val",), VideoTables()).best is None
    assert rank_rows([ROWS[0], ROWS[2]], ("val",), VideoTables()).best.name == "sample 1"


def test_metrics_as_counted():
    """Of two classes in four frames the second one is only ever right in the first frame."""
    target = torch.tensor([[0, 0, 1, 1]])
    runs, sequences = SegmentationEvaluation(2), SegmentationEvaluation(2, None)
    for position in range(4):
        prediction = target if position == 0 else torch.zeros_like(target)
        runs.add(prediction, target, position)
        if position < 2:
            sequences.add(prediction, target, position)
    values = video_metrics(runs, sequences, ("a", "b"))
    # After the first frame class 0 has an IoU of 1/2, class 1 of 0.
    assert values["runs"] == pytest.approx({"1": 1.0, "2": 0.25, "3": 0.25, "4": 0.25})
    assert values["sequences"] == pytest.approx({"1": 1.0, "2": 0.25})
    # 8 of 8 + 6 wrong ones; 2 of 8.
    assert values["classes"] == pytest.approx({"a": 8 / 14, "b": 2 / 8})
    assert values["gacc"] == 10 / 16
    assert VideoTables().measured(values) == values


@pytest.mark.parametrize(
    "values",
    [
        None,
        [],
        {},
        {"miou": 0.5},
        {**metrics(0.5), "runs": 3},
        {**metrics("high")},
        {**metrics(0.5), "classes": {"a": "b"}},
    ],
)
def test_what_a_file_may_hold_instead(values):
    assert VideoTables().measured(metrics(0.5)) == metrics(0.5)
    assert VideoTables().measured(values) is None
