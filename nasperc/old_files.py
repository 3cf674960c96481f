"""What files from before the bytes of images counted leave out: the one list of the keys that came since.

Runs, caches and checkpoints of that time keep the fingerprints that they were given. To compute such a fingerprint
again, or to compare such a checkpoint, every key that has come since is taken out first.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# By key: the value that does what was done before there was one. Whoever adds a key to a recipe, a preset or a cache's
# contents adds it here.
NEW_KEYS: Mapping[str, Any] = {
    "range": None,
    "exif": "ignore",
    "images": {"range": None, "exif": "ignore"},
    "crowd": "ignore",
    "one_class": False,
    "annotations": None,
}
# Said wherever something of that time goes on.
PIXELS_NOT_KNOWN = "pixels not known"


def without_new_keys(values: Any, *, whatever: bool = True) -> Any:
    """Plain values as they were written before, however deep the new keys lie.

    Args:
        values: dicts, lists and plain values.
        whatever: take a key out whatever its value is; False: where its value does what was done before, since a
            training that would go on in another way is another one.
    """
    if isinstance(values, Mapping):
        return {
            key: without_new_keys(value, whatever=whatever)
            for key, value in values.items()
            if key not in NEW_KEYS or not (whatever or value == NEW_KEYS[key])
        }
    if isinstance(values, list | tuple):
        return [without_new_keys(value, whatever=whatever) for value in values]
    return values
