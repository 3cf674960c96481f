import io

import pytest
import torch
from torch import nn

# As a worker does; two threads on busy cores wait for each other forty times longer than they compute.
torch.set_num_threads(1)


class _Module(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, *arguments):
        return self.function(*arguments)


@pytest.fixture
def exported(caplog):
    """``exported(function, arguments, dynamic_shapes)``: what torch.export and onnxruntime make of it, by name."""
    caplog.set_level("ERROR", "torch.onnx")

    def export(function, arguments, dynamic_shapes):
        onnxruntime = pytest.importorskip("onnxruntime")
        module, shapes = _Module(function).eval(), (tuple(dynamic_shapes),)
        program = torch.export.export(module, arguments, dynamic_shapes=shapes)
        model = torch.onnx.export(program, dynamo=True, opset_version=19, verbose=False)
        file = io.BytesIO()
        model.save(file)
        session = onnxruntime.InferenceSession(file.getvalue(), providers=["CPUExecutionProvider"])
        names = [each.name for each in session.get_inputs()]

        def by_onnxruntime(*arguments):
            (out,) = session.run(None, {n: a.numpy() for n, a in zip(names, arguments, strict=True)})
            return torch.from_numpy(out)

        return {"torch.export": program.module(), "onnxruntime": by_onnxruntime}

    return export
