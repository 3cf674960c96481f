import pytest

from controllers.base import Candidate
from nasperc.assembly.recipe import ModelRecipe
from nasperc.data.recipe import DataRecipe
from nasperc.errors import InputError
from proxy_tasks.base import TaskContext
from proxy_tasks.table import TableProxy, TableProxyRecipe
from search_spaces.fcos_decoder import FcosDecoder
from search_spaces.fcos_recipe import FcosDecoderRecipe
from search_spaces.table import TableRecipe, TableSpace


def proxy(space, folder):
    return TableProxy(TableProxyRecipe(), TaskContext(space, ModelRecipe(), DataRecipe(), folder, seed=0))


def table_space(folder, text="tokens,signal,test\n01,1.5,2\n11,3,4\n"):
    file = folder / "table.csv"
    file.write_text(text)
    return TableSpace(TableRecipe(file=file))


def test_looks_the_score_up(tmp_path):
    space = table_space(tmp_path)
    task = proxy(space, tmp_path)
    task.prepare()
    architecture = space.architecture({"row": (1, 0)})
    result = task.evaluate(Candidate(0, "table", architecture, {}, space.hash(architecture), seed=1))
    assert (result.status, result.reward, result.metrics) == ("completed", 3.0, {"test": 4.0})
    assert "2 architectures of 2 decisions; reward: signal" in task.notes()[0]


def test_fingerprint_is_of_the_scores(tmp_path):
    first = proxy(table_space(tmp_path), tmp_path).fingerprint()
    assert proxy(table_space(tmp_path), tmp_path).fingerprint() == first
    changed = table_space(tmp_path, "tokens,signal,test\n01,1.5,2\n11,3,5\n")
    assert proxy(changed, tmp_path).fingerprint() != first


def test_another_space_is_refused(tmp_path):
    with pytest.raises(InputError, match="table:FILE"):
        proxy(FcosDecoder(FcosDecoderRecipe()), tmp_path)
