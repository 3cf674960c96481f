import dataclasses
import json

import pytest
import torch

from nasperc.fulltrain import results as module
from nasperc.fulltrain.entry_run import _latency_before
from nasperc.fulltrain.results import to_markdown, to_tables, write_results
from nasperc.recipe.thesis import printed_table
from nasperc.tasks.detection.tables import NUMBERS, CocoTables
from nasperc.tasks.row import Row


def rank_rows(rows, splits, printed=None):
    return module.rank_rows(rows, splits, CocoTables(), printed)


def row(name, val, test, rank=None, reward=None, **more):
    metrics = {
        split: {key: ap if key != "ap_small" else None for key, _ in NUMBERS}
        for split, ap in (("val", val), ("test", test))
        if ap is not None
    }
    base = Row(
        name=name,
        status="done" if metrics else "failed",
        rank=rank,
        hash=None,
        widths={"fpn": 64, "head": 128},
        depth=None if rank else 2,
        reward=reward,
        flops=2_340_000_000,
        params=1_500_000,
        cost_size=(480, 672),
        metrics=metrics,
    )
    return dataclasses.replace(base, **more)


ROWS = [
    row("rank 1", 0.30, 0.41, 1, -1.1),
    row("rank 2", None, None, 2, -1.2, reason="the loss is nan"),
    row("rank 3", 0.35, 0.40, 3, -1.3),
    row("FPN-FCOS", 0.32, 0.42, latency={"median_s": 0.0123, "device": "cpu, 1 threads"}),
]


def test_val_selects_and_test_reports():
    results = rank_rows(ROWS, ("train", "val", "test"))
    assert [r.name for r in results.rows] == ["rank 3", "FPN-FCOS", "rank 1", "rank 2"]
    assert (results.selected_on, results.reported_on) == ("val", "test")
    assert results.best.name == "rank 3"
    only_test = rank_rows(ROWS, ("train", "test"))
    assert [r.name for r in only_test.rows][:3] == ["FPN-FCOS", "rank 1", "rank 3"]
    assert rank_rows(ROWS, ("train", "val")).reported_on == "val"


def test_only_the_baseline_is_done():
    assert rank_rows([ROWS[1], ROWS[3]], ("val",)).best is None


def test_markdown():
    text = to_markdown(rank_rows(ROWS, ("val", "test")))
    assert "| 1 | rank 3 | -1.3000 | 35.0 | 40.0 | 64-128 | 2.34 | 1.50 |  | 0.0 |" in text
    assert "| 2 | FPN-FCOS |  | 32.0 | 42.0 | 64-128 x2 | 2.34 | 1.50 | 12.3 | 0.0 |" in text
    assert "ms: median latency of the network on such an image (cpu, 1 threads)" in text
    # All twelve numbers, undefined ones as a dash.
    assert "| rank 3 | 40.0 | 40.0 | 40.0 | - | 40.0 |" in text
    assert all(f" {heading} " in text for _, heading in NUMBERS)
    assert "- rank 2 failed: the loss is nan" in text


def test_the_tables_say_what_their_times_are_of_and_which_cannot_be_trusted():
    times = {"median_s": 0.01, "device": "cpu, 1 threads", "threads": 1}
    rows = [
        row("rank 1", 0.3, 0.4, 1, -1.1, latency={**times, "core_share": 0.42}),
        row("rank 2", 0.3, 0.4, 2, -1.2, latency={**times, "core_share": 0.99}),
        ROWS[3],
    ]
    results = rank_rows(rows, ("val", "test"))
    said = "(cpu, 1 threads; rank 1 measured on a busy machine (42 % of a core))"
    assert f"such an image {said}" in to_markdown(results)
    first, *others = to_tables(results)
    assert str(first.caption) == f"ms: median latency {said}"
    assert not any(table.caption for table in others)


OLD = {"median_s": 0.5, "fastest_s": 0.4, "slowest_s": 0.6, "runs": 5, "device": "cpu, 1 threads"}


@pytest.mark.skipif(torch.cuda.is_available(), reason="latencies are measured on the GPU")
@pytest.mark.parametrize(
    ("latency", "kept"),
    [
        (OLD, True),
        ({**OLD, "threads": 1, "core_share": 0.9}, True),
        ({**OLD, "threads": None, "core_share": None}, True),
        # Of as many threads as there were cores: not what others are compared with.
        ({**OLD, "device": "cpu, 2 threads"}, False),
        ({**OLD, "core_share": "much"}, False),
        ({**OLD, "load": 1.0}, False),
        ({"median_s": 0.5, "threads": 1}, False),
    ],
)
def test_a_latency_of_an_earlier_run(latency, kept):
    read = _latency_before({"latency": latency, "cost_size": [480, 672]}, (480, 672))
    assert read == (latency if kept else None)


def test_tables_have_every_row():
    summary, numbers = to_tables(rank_rows(ROWS, ("val", "test")))
    assert summary.row_count == 4
    assert numbers.row_count == 3
    assert len(numbers.columns) == 13


def test_what_was_measured_stands_above_what_the_thesis_prints():
    printed = printed_table("table_4_9:R-101")
    assert printed is not None
    results = rank_rows(ROWS, ("val", "test"), printed)
    table = results.tables()[-1]
    assert table.title == (
        "AP on test, above what the thesis prints for COCO: Table 4.9 - BlendMask-RT, on COCO val2017 at a short side "
        "of 550 (of this recipe's row: 61.2 and 42.4 do not fit an AP of 36.8: they look misprinted)"
    )
    # A detector has no masks beside its boxes; what fails was not measured.
    assert table.header == ["row", "AP", "AP50", "AP75"]
    assert table.body[:3] == [
        ["rank 3", "40.0", "40.0", "40.0"],
        ["FPN-FCOS", "42.0", "42.0", "42.0"],
        ["rank 1", "41.0", "41.0", "41.0"],
    ]
    assert table.body[3:] == [
        ["quoted: YOLACT R-101, 550 x 550", "29.8", "48.3", "31.3"],
        ["quoted: YOLACT R-101, 700 x 700", "30.9", "49.8", "32.5"],
        ["thesis, this recipe: R-101", "36.8", "61.2", "42.4"],
        ["quoted: Mask R-CNN R-50, 550 x *", "35.3", "56.5", "37.6"],
        ["thesis: R-50", "35.1", "55.5", "37.1"],
    ]
    assert "| thesis: R-50 | 35.1 | 55.5 | 37.1 |" in to_markdown(results)
    assert len(to_tables(results)) == 1 + len(to_tables(rank_rows(ROWS, ("val", "test"))))


def test_a_figure_that_the_thesis_does_not_print_of_a_row_is_left_empty():
    printed = printed_table("table_7_2:FPN-FCOS@256 R-50")
    assert printed is not None
    table = rank_rows(ROWS, ("val", "test"), printed).tables()[-1]
    assert table.header == ["row", "AP"]
    assert ["thesis, this recipe: FPN-FCOS@256 R-50", "37.4"] in table.body
    one, *others = printed.rows
    without = printed._replace(rows=(one._replace(figures={}), *others))
    assert rank_rows(ROWS, ("val",), without).tables()[-1].body[3] == [f"thesis: {one.name}", ""]


def test_without_a_row_that_is_done_nothing_stands_above_the_thesis():
    assert len(rank_rows([ROWS[1]], ("val",), printed_table("table_4_9:R-50")).tables()) == 2


def test_files(tmp_path):
    write_results(rank_rows(ROWS, ("val", "test")), tmp_path, {"top10": "x"})
    content = json.loads((tmp_path / "results.json").read_text())
    assert [r["name"] for r in content["rows"]] == ["rank 3", "FPN-FCOS", "rank 1", "rank 2"]
    assert content["rows"][0]["metrics"]["test"]["ap"] == 0.40
    assert not (tmp_path / "reward_ap.png").exists()
    more = [*ROWS, row("rank 4", 0.1, 0.1, 4, -1.4)]
    write_results(rank_rows(more, ("val", "test")), tmp_path, {})
    assert (tmp_path / "reward_ap.png").read_bytes().startswith(b"\x89PNG")


def test_an_undefined_metric_ranks_nothing_and_is_said(tmp_path):
    undefined = {"val": dict.fromkeys((key for key, _ in NUMBERS))}
    rows = [row(f"rank {k}", 0.1, 0.1 * k, k, -float(k)) for k in (1, 2, 3)]
    rows = [dataclasses.replace(each, metrics={**each.metrics, **undefined}) for each in rows]
    failed = row("rank 0", None, None, 0, -0.5, reason="x")
    results = rank_rows([failed, *rows], ("val", "test"))
    assert [each.name for each in results.rows] == ["rank 1", "rank 2", "rank 3", "rank 0"]
    assert results.selected(results.rows[0]) is None
    text = to_markdown(results)
    assert text.startswith(
        "Not ranked, since AP on val is undefined: it has no object that counts; the twelve"
    )
    assert "| 1 | rank 1 | -1.0000 | - | 10.0 |" in text
    assert "| - | rank 0 | -0.5000 |  |  |" in text
    assert "Kendall's tau -1.00" in results.agreement()
    write_results(results, tmp_path, {})
    assert json.loads((tmp_path / "results.json").read_text())["rows"][0]["metrics"]["val"]["ap"] is None
    assert (tmp_path / "reward_ap.png").exists()
    # The reported split undefined, too: nothing to compare, nothing to plot.
    nothing = rank_rows([dataclasses.replace(each, metrics=undefined) for each in rows], ("val",))
    assert nothing.agreement() is None
    (tmp_path / "nothing").mkdir()
    write_results(nothing, tmp_path / "nothing", {})
    assert not (tmp_path / "nothing" / "reward_ap.png").exists()
    assert nothing.best.name == "rank 1"


def test_metrics_of_older_files_have_minus_one_where_they_are_undefined():
    values = {key: 0.5 for key, _ in NUMBERS} | {"ap_small": -1.0, "per_class": {"cat": 0.25, "dog": -1.0}}
    found = CocoTables().measured(values)
    assert found == values | {"ap_small": None, "per_class": {"cat": 0.25, "dog": None}}
    assert CocoTables().measured(found) == found
    for broken in (
        {**values, "ap": "high"},
        {**values, "ap": 2},
        {**values, "ap": float("nan")},
        {"ap": 0.5},
        [],
    ):
        assert CocoTables().measured(broken) is None


def test_agreement_of_reward_and_ap_needs_three_entries():
    assert rank_rows(ROWS, ("val", "test")).agreement() is None
    entries = [row(f"rank {k}", ap, ap, k, -float(k)) for k, ap in ((1, 0.5), (2, 0.3), (3, 0.4))]
    results = rank_rows([*entries, ROWS[3]], ("val", "test"))
    # Of three pairs two agree; the baseline, which has no reward, does not count.
    assert results.agreement() == "Proxy reward and AP on test of 3 architectures: Kendall's tau 0.33."
    assert results.agreement() in to_markdown(results)
    alike = rank_rows([row(f"rank {k}", 0.1, 0.1, k, -float(k)) for k in (1, 2, 3)], ("val", "test"))
    assert alike.agreement().endswith("Kendall's tau undefined, since all are alike.")
