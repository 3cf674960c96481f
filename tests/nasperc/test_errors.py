import pickle

from nasperc.errors import InputError
from nasperc.training.loop import DivergedError


def test_message_has_rule_value_where_and_repair():
    error = InputError("a width must be a multiple of 32", value=48, where="--width", repair="Use 32 or 64.")
    assert str(error) == "a width must be a multiple of 32, but got 48 (in --width). Use 32 or 64."


def test_survives_the_way_from_worker_to_driver():
    error = InputError("a file must exist", value="x.json", where="--arch", repair="Check the path.")
    copy = pickle.loads(pickle.dumps(error))
    assert isinstance(copy, InputError)
    assert str(copy) == str(error)
    assert (copy.rule, copy.where, copy.repair) == (error.rule, error.where, error.repair)


def test_a_kind_of_its_own_stays_what_it_is():
    error = DivergedError("a loss must be finite", value="nan", where="recipe", repair="Lower it.")
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is DivergedError
    assert str(copy) == str(error)


def test_what_was_found_is_one_short_line_that_no_terminal_obeys():
    bomb = ["x"]
    for _ in range(64):
        bomb = [bomb, bomb]
    for value in ("\x1b[2J\r\n\ud800" * 3, "x" * 10_000, 1 << 100_000, bomb, {"a": bomb}):
        error = InputError("a rule", value=value, where="file\x07\nname", repair="Mend it.")
        assert len(str(error)) < 600
        assert str(error).isprintable()
        assert str(pickle.loads(pickle.dumps(error))) == str(error)
    assert "\\x1b[2J\\r\\n\\ud800" in str(InputError("r", value="\x1b[2J\r\n\ud800", where="w", repair="m"))
