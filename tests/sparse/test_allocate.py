import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedtiny.sparse.allocate import Allocation, Er, Erk, Noisy, Uniform, whole_counts

SHAPES = {"a": (4, 2, 3, 3), "b": (8, 4, 1, 1), "c": (10, 8)}  # 72, 32 and 80 weights
RNG = np.random.default_rng


def test_uniform_gives_each_layer_its_share() -> None:
    # 0.25 * 184 = 46: 18, 8 and 20.
    assert Uniform().counts(SHAPES, 0.25, RNG(0)) == {"a": 18, "b": 8, "c": 20}


def test_what_rounding_leaves_goes_to_the_largest_remainder() -> None:
    # 0.1 * 184 = 18.4, so 18 in all: 7.2, 3.2 and 8.0 round down to 7, 3 and 8.
    assert Uniform().counts(SHAPES, 0.1, RNG(0)) == {"a": 7, "b": 3, "c": 8}
    # 0.12 * 184 = 22.08, so 22 in all: 8.64, 3.84 and 9.6 round down to 20; first b gets one, then a.
    assert Uniform().counts(SHAPES, 0.12, RNG(0)) == {"a": 9, "b": 4, "c": 9}


def test_erk_by_hand() -> None:
    # raw: a (4+2+3+3)/72 = 1/6, b (8+4+1+1)/32 = 7/16, c 18/80 = 9/40; raw * size: 12, 14, 18, together 44.
    # 0.2 * 184 = 36.8, eps = 36.8 / 44: densities 0.1394, 0.3659, 0.1882, counts 10.04, 11.71, 15.05.
    assert Erk().densities(SHAPES, 0.2, RNG(0)) == pytest.approx([0.13939, 0.36591, 0.18818], abs=1e-5)
    assert Erk().counts(SHAPES, 0.2, RNG(0)) == {"a": 10, "b": 11, "c": 15}


def test_er_by_hand() -> None:
    # raw: a (4+2)/8 = 3/4, b (8+4)/32 = 3/8, c 18/80 = 9/40; raw * size: 54, 12, 18, together 84.
    # 0.2 * 184 = 36.8, eps = 36.8 / 84: densities 0.3286, 0.1643, 0.0986, counts 23.66, 5.26, 7.89.
    assert Er().densities(SHAPES, 0.2, RNG(0)) == pytest.approx([0.32857, 0.16429, 0.09857], abs=1e-5)
    assert Er().counts(SHAPES, 0.2, RNG(0)) == {"a": 23, "b": 5, "c": 8}


def test_er_and_erk_agree_on_linear_layers_alone() -> None:
    shapes = {"a": (4, 2), "b": (8, 4), "c": (10, 8)}
    linear = Erk().densities(shapes, 0.3, RNG(0))
    assert Er().densities(shapes, 0.3, RNG(0)) == pytest.approx(linear)


def test_erk_makes_a_layer_dense_before_it_would_exceed_1_and_solves_again() -> None:
    # At 0.6, b would have 1.0977: it is dense, and eps = (110.4 - 32) / 30 for the others.
    assert Erk().densities(SHAPES, 0.6, RNG(0)) == pytest.approx([2.61333 / 6, 1.0, 2.61333 * 9 / 40], abs=1e-5)


def test_a_layer_keeps_at_least_one_and_the_largest_pays_for_it() -> None:
    counts = whole_counts(np.array([0.1, 0.2, 9.7]), np.array([10, 20, 970]), 10)
    assert counts.tolist() == [1, 1, 8]


@pytest.mark.parametrize("allocation", [Uniform(), Er(), Erk(), Noisy()])
def test_too_low_a_density_is_refused_with_the_least_one(allocation: Allocation) -> None:
    with pytest.raises(
        ValueError, match=r"one weight in each of the 3 .* keeps 1 of 184 .* the least density is 0.016"
    ):
        allocation.counts(SHAPES, 0.01, RNG(0))


def test_noisy_draws_lie_within_the_noise_and_two_percent_below_the_target() -> None:
    share = np.array([72, 32, 80]) / 184
    for seed in range(50):
        densities = Noisy().densities(SHAPES, 0.2, RNG(seed))
        assert ((densities >= 0.1) & (densities <= 0.3)).all()
        assert 0.98 * 0.2 <= densities @ share <= 0.2


def test_without_noise_noisy_is_uniform() -> None:
    assert Noisy(noise=0).counts(SHAPES, 0.1, RNG(1)) == Uniform().counts(SHAPES, 0.1, RNG(2))


def test_noisy_draws_around_another_allocation() -> None:
    assert Noisy(noise=0, around="erk").counts(SHAPES, 0.2, RNG(0)) == Erk().counts(SHAPES, 0.2, RNG(0))
    centre, share = Erk().densities(SHAPES, 0.2, RNG(0)), np.array([72, 32, 80]) / 184
    for seed in range(50):
        densities = Noisy(noise=0.3, around="erk").densities(SHAPES, 0.2, RNG(seed))
        assert ((densities >= 0.7 * centre) & (densities <= 1.3 * centre)).all()
        assert 0.98 * 0.2 <= densities @ share <= 0.2


def test_noisy_ends_even_where_hardly_a_draw_fits() -> None:
    densities = Noisy(noise=0.5).densities({str(i): (10,) for i in range(40)}, 1.0, RNG(0))
    assert densities.max() <= 1.0
    assert densities.mean() <= 1.0


@given(
    st.sampled_from([Uniform(), Er(), Erk(), Noisy(), Noisy(noise=1.0), Noisy(around="erk")]),
    st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=6),
    st.floats(0.02, 1.0),
    st.integers(0, 99),
)
def test_never_above_the_target_never_an_empty_layer(
    allocation: Allocation, shapes: list[tuple[int, int]], density: float, seed: int
) -> None:
    named = {str(i): shape for i, shape in enumerate(shapes)}
    size = sum(a * b for a, b in shapes)
    if density * size < len(shapes):
        with pytest.raises(ValueError, match="the least density is"):
            allocation.counts(named, density, RNG(seed))
        return
    counts = allocation.counts(named, density, RNG(seed))
    assert sum(counts.values()) <= density * size + 1e-9
    assert all(1 <= counts[name] <= a * b for name, (a, b) in named.items())
