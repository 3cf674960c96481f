import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from nasperc.data.pixel_axis import PixelAxis, nearest_pixels


def chain(axis: PixelAxis, steps: list[tuple]) -> PixelAxis:
    for name, *arguments in steps:
        axis = getattr(axis, name)(*arguments)
    return axis


def test_untouched():
    axis = PixelAxis.untouched(5)
    assert (len(axis), axis.sources.tolist(), axis.shown.all()) == (5, [0, 1, 2, 3, 4], True)
    positions = np.array([-1.25, 0.1, 3.3])
    np.testing.assert_array_equal(axis.position(positions), positions)


@pytest.mark.parametrize(
    ("step", "sources", "of_one"),
    [
        (("mirrored",), [4, 3, 2, 1, 0], 4.0),
        (("cropped", 1, 3), [1, 2], 0.0),
        (("cropped", 3, 9), [3, 4], -2.0),
        (("padded", 2, 1), [-1, -1, 0, 1, 2, 3, 4, -1], 3.0),
        (("resized", 10), [0, 0, 1, 1, 2, 2, 3, 3, 4, 4], 2.0),
        (("resized", 2), [1, 3], 0.4),
        (("resized", 1), [2], 0.2),
    ],
)
def test_one_step(step, sources, of_one):
    axis = chain(PixelAxis.untouched(5), [step])
    assert axis.sources.tolist() == sources
    assert axis.position(np.array([1.0])).tolist() == pytest.approx([of_one])


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("mirrored")),
        st.tuples(st.just("cropped"), st.integers(0, 3), st.integers(6, 60)),
        st.tuples(st.just("padded"), st.integers(0, 4), st.integers(0, 4)),
        st.tuples(st.just("resized"), st.integers(8, 40)),
    ),
    max_size=6,
)


@given(st.integers(8, 30), STEPS)
def test_a_pixel_shows_what_went_to_its_place(length, steps):
    """The two descriptions agree: the centre of a source pixel lies, as it is now, near the pixel that shows it."""
    factors = [1.0]
    size = length
    for name, *arguments in steps:
        # No transform leaves nothing of an image.
        assume(size)
        after = len(chain(PixelAxis.untouched(size), [(name, *arguments)]))
        factors.append(factors[-1] * after / size if name == "resized" else factors[-1])
        size = after
    axis = chain(PixelAxis.untouched(length), steps)
    assert abs(axis.scale) == pytest.approx(factors[-1])
    places = np.flatnonzero(axis.shown)
    if len(places):
        # Nearest pixels are half a pixel off at each resizing, of either side, and are stretched by what follows.
        allowed = sum(0.5 * max(1.0, factor) * factors[-1] / factor for factor in factors) + factors[-1] + 0.5
        assert np.abs(axis.position(axis.sources[places] + 0.5) - (places + 0.5)).max() <= allowed
        # And in order.
        assert (np.diff(axis.sources[places]) * np.sign(axis.scale) >= 0).all()


def test_fields_and_positions_outside():
    axis = PixelAxis.untouched(3).padded(1, 1)
    field = np.array([[1, 2, 3], [4, 5, 6]])
    assert axis.take(field, 1).tolist() == [[0, 1, 2, 3, 0], [0, 4, 5, 6, 0]]
    assert axis.take(field.T, 0).tolist() == [[0, 0], [1, 4], [2, 5], [3, 6], [0, 0]]
    assert field.tolist() == [[1, 2, 3], [4, 5, 6]]
    positions = np.array([-0.1, 0.9, 1.0, 3.99, 4.0, 5.0, 1e9])
    assert axis.shown_at(positions).tolist() == [False, False, True, True, False, False, False]


@pytest.mark.parametrize(("length", "to"), [(7, 3), (3, 7), (480, 800), (640, 1067), (5, 5)])
def test_nearest_pixel_is_the_one_that_holds_the_centre(length, to):
    expected = [int((2 * k + 1) * length // (2 * to)) for k in range(to)]
    assert nearest_pixels(length, to).tolist() == expected
