"""The whole recipe of a run: its sections, each of which lies with what it configures."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from nasperc.assembly.decoder_recipe import DecoderRecipe
from nasperc.assembly.detector import BaselineKind
from nasperc.assembly.recipe import ModelRecipe
from nasperc.data.recipe import DataRecipe
from nasperc.evaluation.recipe import CostRecipe
from nasperc.recipe.search_section import SearchRecipe
from nasperc.training.recipe import TrainingRecipe
from nasperc.training.segmentation_recipe import VideoTrainingRecipe


class ComponentSection(BaseModel):
    """A component by name; the other keys are checked by the component's own recipe model."""

    model_config = ConfigDict(extra="allow", frozen=True)

    name: str

    @property
    def options(self) -> dict[str, Any]:
        """All keys but the name."""
        return dict(self.model_extra or {})


class Recipe(BaseModel):
    """Everything that a run depends on."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    description: str = ""
    # The package recipe that it began as, NAME or NAME:ROW, whatever was changed since.
    origin: str = ""
    seed: int = Field(default=0, ge=0, lt=2**31)
    data: DataRecipe = DataRecipe()
    model: ModelRecipe = ModelRecipe()
    space: ComponentSection = ComponentSection(name="fcos_decoder")
    controller: ComponentSection = ComponentSection(name="ppo")
    proxy: ComponentSection = ComponentSection(name="detection")
    # What is trained in full; None: the task that the proxy task names.
    task: ComponentSection | None = None
    search: SearchRecipe = SearchRecipe()
    fulltrain: TrainingRecipe = TrainingRecipe()
    # The per-frame network and full training, of a search of dynamic cells.
    video: VideoTrainingRecipe = VideoTrainingRecipe()
    # What full training has beside the entries, each at the cost of the best of them.
    baselines: tuple[BaselineKind, ...] = ("fpn-fcos",)
    # The recipe's own model, and how its cost is stated (nasperc cost); a search does not look at them.
    decoder: DecoderRecipe = DecoderRecipe()
    cost: CostRecipe = CostRecipe()

    def to_dict(self) -> dict[str, Any]:
        """Plain values, loadable by :func:`parse_recipe`."""
        return self.model_dump(mode="json")
