import torch

from nasperc.assembly.detector import Baseline
from nasperc.assembly.recipe import ModelRecipe
from nasperc.evaluation.cost import measure_cost
from nasperc.models.blendmask.recipe import BlendMaskRecipe
from nasperc.models.instance_segmenter import WholeSegmenter
from nasperc.tasks.instances.models import InstancesRecipe, build_segmenter

WIDTH, CHANNELS = 32, 4 * 4**2


def test_of_the_top_layer_the_locations_that_run_are_counted() -> None:
    torch.manual_seed(0)
    recipe = ModelRecipe.model_validate({"backbone": {"width_mult": 0.1}})
    options = InstancesRecipe(blendmask=BlendMaskRecipe(region=8, attention=4))
    decoder = Baseline(WIDTH, WIDTH, 1)
    model = build_segmenter(recipe, options, decoder, 3, load_weights=False).eval()
    size = (64, 96)
    none, seven = (measure_cost(WholeSegmenter(model, instances), size) for instances in (0, 7))
    # Kernel and bias.
    assert seven.flops - none.flops == 7 * CHANNELS * (9 * WIDTH + 1)
    assert none.flops == measure_cost(model, size).flops
    with torch.no_grad():
        assert WholeSegmenter(model, 7)(torch.randn(1, 3, *size)).shape == (7, 8, 8)
