"""Full training of a model of the task that pads its images to another divisor than FCOS does."""

from pathlib import Path

import pytest

from nasperc.assembly.detector import Baseline, Decoder
from nasperc.evaluation.cost import measure_cost
from nasperc.models.detector import Detector
from nasperc.recipe.root import Recipe
from nasperc.tasks.detection.training import DetectionTraining
from nasperc.tasks.row import Job


@pytest.fixture(params=[4, 128])
def training(request: pytest.FixtureRequest, recipe: Recipe, tmp_path: Path) -> DetectionTraining:
    class Other(DetectionTraining):
        def network(self, part: Decoder) -> Detector:
            model = super().network(part)
            model.divisor = request.param
            return model

    return Other(recipe, tmp_path, recipe, None)


def test_costs_and_metrics_of_another_divisor(training: DetectionTraining) -> None:
    job = Job("hand-made", "hand-made", Baseline(32, 32, 1))
    model, known = training.build(job)
    size = {4: (64, 88), 128: (128, 128)}[model.divisor]
    assert training.size == size
    assert known["flops"] == measure_cost(model, size).flops
    assert training.latency(model).median_s > 0
    assert "ap" in training.measure(model, "val", lambda *told: None)
    # At equal cost of plain FCOS, which a size that is no multiple of 32 would refuse.
    assert [each.folder.startswith("fpn-fcos-") for each in training.baselines([job])] == [True]
