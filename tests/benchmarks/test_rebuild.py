import math
import statistics

import pytest
from scipy.stats import ttest_1samp

from benchmarks.rebuild import CANDIDATE, Measured, candidate, compare, training_step


def test_the_ratio_and_its_bound_are_those_of_a_test_of_means():
    before, after = [1.0, 1.1, 0.9, 1.2, 1.0], [1.02, 1.09, 0.95, 1.26, 0.99]
    logarithms = [math.log(b / a) for a, b in zip(before, after, strict=True)]
    found = compare(before, after)
    assert found.ratio == pytest.approx(statistics.geometric_mean(map(math.exp, logarithms)))
    interval = ttest_1samp(logarithms, 0.0, alternative="less").confidence_interval(0.95)
    assert found.upper == pytest.approx(math.exp(interval.high))


def test_both_are_measured():
    settings = {**CANDIDATE, "crop": 64, "crops": 6, "batch": 2, "iterations": 2, "backbone": "resnet18"}
    found = Measured(training_step(1, (64, 96)), candidate(1, settings))
    assert min(found) > 0
