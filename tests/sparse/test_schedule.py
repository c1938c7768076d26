import pytest

from fedtiny.sparse.schedule import adjustment, cosine_count


def test_the_cosine_of_methods_md_and_0_from_the_stop_on() -> None:
    # 0.15 (1 + cos(pi r / 100)) of 10,000 kept weights.
    counts = [cosine_count(10_000, r, 100, 0.15) for r in (0, 10, 20, 30, 40, 50, 60, 70, 80, 90, 99, 100, 150)]
    assert counts == [3000, 2926, 2713, 2381, 1963, 1500, 1036, 618, 286, 73, 0, 0, 0]


@pytest.mark.parametrize(
    ("round", "number"), [(0, None), (5, None), (10, 0), (15, None), (20, 1), (100, 9), (110, None)]
)
def test_adjustments_are_counted_from_the_first(round: int, number: int | None) -> None:
    assert adjustment(round, every=10, stop=100) == number
