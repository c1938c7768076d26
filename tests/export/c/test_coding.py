import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedtiny.export.c.coding import Coding, Taps, coded


def decoded(taps: Taps, size: int) -> list[int]:
    """Places of the weights, read as the program reads them."""
    if taps.coding is Coding.EVERY:
        return list(range(size))
    if taps.coding is Coding.BITS:
        return [i for i in range(size) if taps.codes[i // 8] >> i % 8 & 1]
    escape, codes = 255, taps.codes.tolist()
    if taps.coding is Coding.NIBBLES:
        escape, codes = 15, [nibble for code in codes for nibble in (code & 15, code >> 4)]
    places, place = [], -1
    for code in codes:
        place += code
        if code != escape:
            place += 1
            places.append(place)
    return places[: len(taps.kept)]  # the last byte may have a nibble too many


@given(st.integers(1, 3000), st.sampled_from([0.0, 0.001, 0.02, 0.3, 0.9, 1.0]), st.integers(0, 99))
def test_codes_tell_the_places(size: int, density: float, seed: int) -> None:
    random = np.random.default_rng(seed)
    weight = (random.random(size) < density).astype(np.int8)
    taps = coded(weight)
    found = np.zeros(size, np.int8)
    found[decoded(taps, size)] = taps.kept
    np.testing.assert_array_equal(found, weight)
    assert taps.nbytes <= min(size, int(np.count_nonzero(weight)) + -(-size // 8))


def test_a_gap_of_255_is_an_escape_and_nothing_more() -> None:
    weight = np.zeros(1000, np.float32)
    weight[[0, 256, 511, 999]] = 1  # 0, 255, 254 and 487 are missing before them
    assert coded(weight).codes.tolist() == [0, 255, 0, 254, 255, 232]


@pytest.mark.parametrize(
    ("kept", "coding"), [(5, Coding.GAPS), (10, Coding.NIBBLES), (40, Coding.BITS), (95, Coding.EVERY)]
)
def test_the_smallest_coding_is_chosen(kept: int, coding: Coding) -> None:
    weight = np.zeros(400, np.int8)
    weight[:: 100 // kept if kept < 50 else 1][: 4 * kept] = 1
    assert coded(weight).coding is coding
