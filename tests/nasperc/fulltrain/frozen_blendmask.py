"""A task in a plain file: BlendMask whose losses are those of its images, whatever else is in their batch."""

from torch import nn

from nasperc.models.normalisation import FrozenBatchNorm2d
from nasperc.tasks.instances.task import InstancesTask
from nasperc.tasks.instances.training import InstancesTraining


class FrozenTraining(InstancesTraining):
    """The BatchNorms of bottom module and semantic head normalise nothing: on CPU each process would see its own part
    of a batch."""

    def network(self, part):
        model = super().network(part)
        for module in list(model.modules()):
            for name, child in module.named_children():
                if isinstance(child, nn.BatchNorm2d):
                    setattr(module, name, FrozenBatchNorm2d(child.num_features))
        return model


class Frozen(InstancesTask):
    Training = FrozenTraining
