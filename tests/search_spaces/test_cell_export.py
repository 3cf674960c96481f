"""A cell with all the space's layers as ONNX, run as a loop over frames."""

import warnings
from itertools import pairwise

import pytest
import torch
from torch import nn

from nasperc.evaluation.cost import shapes_only
from nasperc.export.onnx_file import OPSET
from nasperc.models.features import FeatureSpec
from nasperc.models.video_segmenter import State
from search_spaces.cell_genotype import CellGenotype
from search_spaces.cell_module import SearchedCell

INPUTS = (
    FeatureSpec("layer2", 3, 8),
    FeatureSpec("layer3", 4, 16),
    FeatureSpec("layer4", 5, 32),
    FeatureSpec("dec", 6, 8),
)
# Each of the six operations and of the six aggregations, at one size and at two.
TOKENS = (
    *(1, 2, 0, 1, 0),
    *(3, 5, 2, 3, 1),
    *(0, 4, 4, 5, 2),
    *(7, 6, 5, 4, 3),
    *(2, 3, 0, 2, 4),
    *(8, 0, 4, 1, 5),
    *(1, 7, 4, 0, 2),
    *(4, 1, 3, 4, 3),
)


class Step(nn.Module):
    """The cell with tensors alone."""

    def __init__(self, cell):
        super().__init__()
        self.cell = cell

    def forward(self, layer4, dec, *levels):
        output = self.cell(State(layer4, dec), list(levels))
        return output.logits, output.dec


def cell():
    torch.manual_seed(0)
    return SearchedCell(INPUTS, CellGenotype.from_tokens(TOKENS), 8, 3).eval()


def levels(height=96, width=64):
    return [torch.randn(1, s.channels, -(-height // s.stride), -(-width // s.stride)) for s in INPUTS[:3]]


def test_the_tokens_have_every_layer():
    assert {token for block in zip(*[iter(TOKENS)] * 5, strict=True) for token in block[2:4]} == set(range(6))
    assert set(TOKENS[4::5]) == set(range(6))


@pytest.mark.parametrize("size", [(96, 64), (72, 40)])
def test_onnxruntime_agrees_over_frames(tmp_path, size):
    onnxruntime = pytest.importorskip("onnxruntime")
    step = Step(cell())
    frames = [levels(*size) for _ in range(3)]
    dec = torch.randn(1, 6, *frames[0][0].shape[2:])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            step, (frames[0][2], dec, *frames[1]), dynamo=True, opset_version=OPSET, verbose=False
        )
    program.save(str(tmp_path / "cell.onnx"))
    session = onnxruntime.InferenceSession(str(tmp_path / "cell.onnx"))
    names = [each.name for each in session.get_inputs()]
    state, exported = dec, dec
    for before, now in pairwise(frames):
        with torch.no_grad():
            logits, state = step(before[2], state, *now)
        values = [x.numpy() for x in (before[2], exported, *now)]
        outputs = session.run(None, dict(zip(names, values, strict=True)))
        theirs, exported = (torch.from_numpy(x) for x in outputs)
        torch.testing.assert_close(theirs, logits, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(exported, state, rtol=1e-4, atol=1e-4)


def test_shapes_alone_pass_through():
    """As the count of FLOPs has it."""
    step = shapes_only(Step(cell()))
    given = [x.to("meta") for x in levels()]
    logits, dec = step(given[2], torch.empty(1, 6, 12, 8, device="meta"), *given)
    assert (logits.shape, dec.shape) == ((1, 3, 12, 8), (1, 6, 12, 8))
