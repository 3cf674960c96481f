"""Reading YAML that anybody may have written, by the rules of :mod:`nasperc.plain_files`.

A module of its own: where only weights are read, no YAML parser is needed.
"""

from __future__ import annotations

from typing import Any

import yaml

from nasperc.plain_files import check_plain

# The parser is slow, and what people write is short.
MOST_YAML_BYTES = 1 << 20


def parse_yaml(text: str) -> Any:
    """The value of a YAML text; infinity and NaN are numbers there.

    Raises:
        ValueError: no YAML, too long, a key that stands twice in one mapping, a merge key (``<<``), or not plain.
    """
    if len(text) > MOST_YAML_BYTES:
        raise ValueError(f"{len(text)} characters, more than {MOST_YAML_BYTES}")
    try:
        value = yaml.load(text, Loader=_Loader)
    # PyYAML makes dates and the like of whatever text bears their tag: !!timestamp x, !!bool x.
    except (yaml.YAMLError, AttributeError, LookupError, TypeError) as error:
        raise ValueError(" ".join(str(error).split()) or type(error).__name__) from error
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    check_plain(value, finite=False)
    return value


class _Loader(yaml.SafeLoader):
    """Without merge keys, which may double what is there with every line, and without keys that stand twice."""

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        if any(key.tag == "tag:yaml.org,2002:merge" for key, _ in node.value):
            raise yaml.constructor.ConstructorError(
                None, None, "merge keys (<<) are not read: use base: and rows:", node.start_mark
            )
        names = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise yaml.constructor.ConstructorError(None, None, f"the key {twice!r} twice", node.start_mark)
