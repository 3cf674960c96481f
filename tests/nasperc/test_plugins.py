import pytest

from nasperc.errors import InputError
from nasperc.plugins import component_names, load_component


def test_built_in_components_register_by_entry_point():
    assert {"fcos_decoder", "table"} <= set(component_names("space"))
    assert {"evolution", "ppo", "random", "surrogate", "tpe"} <= set(component_names("controller"))
    assert {"detection", "table"} <= set(component_names("proxy"))
    assert load_component("controller", "random").__name__ == "RandomController"


def test_unknown_name_lists_the_known_ones():
    with pytest.raises(InputError, match="fcos_decoder"):
        load_component("space", "fcos_decodr")


def test_class_from_a_file(tmp_path):
    file = tmp_path / "my_space.py"
    file.write_text(
        "from pydantic import BaseModel\n\nclass Mine:\n    class Recipe(BaseModel):\n        pass\n"
    )
    assert load_component("space", f"{file}:Mine").__name__ == "Mine"


@pytest.mark.parametrize(
    ("content", "class_name", "message"),
    [
        (None, "Mine", "must exist"),
        ("1 / 0\n", "Mine", "ZeroDivisionError"),
        ("x = 1\n", "Mine", "define the class"),
        ("class Mine:\n    pass\n", "Mine", "pydantic model Recipe"),
    ],
)
def test_broken_plugin_files_are_told_apart(tmp_path, content, class_name, message):
    file = tmp_path / f"broken_{len(message)}.py"
    if content is not None:
        file.write_text(content)
    with pytest.raises(InputError, match=message):
        load_component("space", f"{file}:{class_name}")
