"""The largest network that fits, of toys: flash 1000 d w^2 + 100 w, ram 64 w; none keeps fewer than 0.04 w^2."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedtiny.budget.choose import Choice, Needs, NoneFits, choose, densities


def toy(width: int, density: float) -> Needs:
    if 1000 * density * width**2 < 40:
        raise ValueError("too small to be pruned that far")
    return {"flash_bytes": 1000 * density * width**2 + 100 * width, "ram_bytes": 64 * width}


@pytest.mark.parametrize(
    ("flash", "ram", "expected"),
    [
        # Room for all of it: 1000 * 16 + 400 = 16400 and 256.
        (16_400, 256, Choice(4, 1.0, {"flash_bytes": 16_400, "ram_bytes": 256}, {}, {})),
        # 16000 d + 400 <= 8400 at d = 0.5; the next density is 0.501.
        (8_400, 300, Choice(4, 0.5, {"flash_bytes": 8_400, "ram_bytes": 256}, {"flash_bytes": 8_416}, {})),
        # RAM for width 2 and no more; 4000 d + 200 <= 700 at d = 0.125.
        (
            700,
            191,
            Choice(2, 0.125, {"flash_bytes": 700, "ram_bytes": 128}, {"flash_bytes": 704}, {"ram_bytes": 192}),
        ),
        # Flash alone: width 4 takes 560 at its least density, 0.01; width 3 takes 390, so 9000 d + 300 <= 500.
        (
            500,
            300,
            Choice(3, 0.0222, {"flash_bytes": 499.8, "ram_bytes": 192}, {"flash_bytes": 500.7}, {"flash_bytes": 560}),
        ),
        # Width 1 exists from d = 0.04 on, where it takes 140; width 2 takes 240 at its least density.
        (
            145,
            300,
            Choice(1, 0.045, {"flash_bytes": 145, "ram_bytes": 64}, {"flash_bytes": 145.1}, {"flash_bytes": 240}),
        ),
    ],
)
def test_the_largest_that_fits(flash: float, ram: float, expected: Choice) -> None:
    chosen = choose(toy, {"flash_bytes": flash, "ram_bytes": ram}, 4, 0.01)
    assert (chosen.width, chosen.density) == (expected.width, expected.density)
    assert chosen.needs == pytest.approx(expected.needs)
    assert chosen.binding == pytest.approx(expected.binding)
    assert chosen.narrowed == pytest.approx(expected.narrowed)


def test_none_fits() -> None:
    with pytest.raises(NoneFits) as told:
        choose(toy, {"flash_bytes": 139, "ram_bytes": 300}, 4, 0.01)
    assert (told.value.width, told.value.density, told.value.needs) == (1, 0.04, {"flash_bytes": 140, "ram_bytes": 64})


@given(st.integers(140, 20_000), st.integers(64, 400), st.integers(1, 12))
def test_what_is_chosen_fits_and_what_binds_would_be_passed(flash: int, ram: int, width: int) -> None:
    limits: Needs = {"flash_bytes": flash, "ram_bytes": ram}
    chosen = choose(toy, limits, width, 0.01)
    assert all(chosen.needs[name] <= limit for name, limit in limits.items())
    assert bool(chosen.binding) == (chosen.density < 1)
    assert bool(chosen.narrowed) == (chosen.width < width)


def test_densities_have_three_digits() -> None:
    grid = densities(0.00997)
    assert grid[:5] == [0.00997, 0.00998, 0.00999, 0.01, 0.0101]
    assert grid[-2:] == [0.999, 1.0]
    assert grid == sorted(set(grid))
