import math

import pytest

from fedtiny.compare.statistics import interval, mean_ranks, paired


def test_an_interval_by_hand() -> None:
    """1, 2, 3: mean 2, s = 1, t(0.975, 2) = 4.302653; 4.302653 / sqrt 3 = 2.484138."""
    told = interval([1.0, 2.0, 3.0])
    assert (told.mean, told.n) == (2.0, 3)
    assert told.half == pytest.approx(2.484138, abs=1e-6)
    # t(0.975, 1) = 12.7062; s of 0 and 2 is sqrt 2, over sqrt 2 is 1.
    assert interval([0.0, 2.0]).half == pytest.approx(12.7062, abs=1e-4)
    assert interval([0.5]).half is None


def test_a_paired_test_by_hand() -> None:
    """Differences 1, 2, 3: t = 2 / (1 / sqrt 3) = 3.4641 with 2 degrees of freedom, p = 0.0742."""
    told = paired([2.0, 4.0, 6.0], [1.0, 2.0, 3.0])
    assert told.difference.mean == 2.0
    assert told.t_p == pytest.approx(0.07418, abs=1e-5)
    # Of the eight choices of signs, only + + + and - - - are as far from 0.
    assert told.flip_p == told.least_p == 0.25


def test_the_sign_flip_test_counts_all_signs() -> None:
    """Differences 3, -1, 1: the sums are +-5, +-3, +-3, +-1; 3 was seen, and six of eight are as far."""
    assert paired([3.0, -1.0, 1.0], [0.0, 0.0, 0.0]).flip_p == 0.75
    assert paired([1.0] * 6, [0.0] * 6).flip_p == 2 / 64


def test_equal_differences_have_no_t_test_and_none_is_nothing_found() -> None:
    assert paired([0.3, 0.4], [0.1, 0.2]).t_p is None
    same = paired([0.5, 0.5, 0.5], [0.5, 0.5, 0.5])
    assert (same.t_p, same.flip_p) == (None, 1.0)
    assert paired([1.0], [0.0]).flip_p == 1.0
    assert math.isclose(paired([0.1] * 21, [0.0] * 21).difference.mean, 0.1)
    assert paired([0.1] * 21, [0.0] * 21).flip_p is None


def test_ranks_share_ties() -> None:
    """First block: b 1, a and c share 2.5; second block: a 1, b 2, c 3."""
    told = mean_ranks([{"a": 0.5, "b": 0.9, "c": 0.5}, {"a": 0.9, "b": 0.8, "c": 0.1}])
    assert told == {"a": 1.75, "b": 1.5, "c": 2.75}
