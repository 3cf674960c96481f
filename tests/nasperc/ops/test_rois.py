import torch

from nasperc.ops import rois
from nasperc.ops.rois import alike


def test_sets_are_alike_whole_and_small_enough(monkeypatch):
    monkeypatch.setattr(rois, "_CHUNK_ELEMENTS", 60)
    torch.manual_seed(0)
    counts = torch.randint(1, 4, (50, 2))
    sets = list(alike(counts, 5))
    for rows, columns, members in sets:
        assert (counts[members] == torch.tensor([rows, columns])).all()
        assert members.tolist() == sorted(members.tolist())
        assert len(members) * rows * columns * 5 <= 60
    assert sorted(torch.cat([members for *_, members in sets]).tolist()) == list(range(50))
    # Cut, but not into single boxes.
    assert 9 < len(sets) < 50


def test_a_box_that_is_too_large_is_read_alone(monkeypatch):
    monkeypatch.setattr(rois, "_CHUNK_ELEMENTS", 60)
    assert [members.tolist() for *_, members in alike(torch.full((3, 2), 9), 5)] == [[0], [1], [2]]
