import mmap
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch

from benchmarks.cache_read import pss, shuffled, write_cache
from feature_cache.reader import CacheReader

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "cache_read.py"


def test_a_cache_has_the_size_that_was_asked_for(tmp_path):
    write_cache(tmp_path / "cache.h5", 2**20)
    reader = CacheReader(tmp_path / "cache.h5")
    assert 0.9 * 2**20 <= reader.nbytes <= 2**20
    assert reader.tensor("C2").dtype == torch.float16


def test_an_epoch_has_every_record_once_in_a_seeds_order():
    batches = shuffled(10, 4, seed=1)
    assert [len(batch) for batch in batches] == [4, 4, 2]
    assert sorted(torch.cat(batches).tolist()) == list(range(10))
    assert torch.cat(batches).tolist() != torch.cat(shuffled(10, 4, seed=2)).tolist()


def test_memory_of_ones_own_counts_in_full():
    before = pss(os.getpid())
    # Pages of its own: what others have freed before would be taken again, and count already.
    held = np.frombuffer(mmap.mmap(-1, 2**25), dtype=np.uint8)
    held[:] = 1
    assert 0.9 * len(held) <= pss(os.getpid()) - before <= 1.5 * len(held)


def test_the_script_prints_both_ratios():
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--megabytes", "2", "--rounds", "2", "--batch", "4"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "copies (bound <= 1.1" in done.stdout
    assert "of numpy.memmap's" in done.stdout
