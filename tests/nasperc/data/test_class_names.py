from pathlib import Path

import pytest

from nasperc.data.class_names import labels_by_name
from nasperc.errors import InputError


def test_labels_are_those_of_the_names_without_blanks():
    assert labels_by_name(("dog ", "hot dog", "cat"), Path("x")) == {"dog": 0, "hot dog": 1, "cat": 2}


def test_two_names_that_look_alike_are_refused():
    with pytest.raises(InputError, match=r"more than blanks, but got 'dog' and ' dog' \(in x\)"):
        labels_by_name(("dog", " dog"), Path("x"))
