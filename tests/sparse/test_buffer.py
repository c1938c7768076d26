import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import tensor

from fedtiny.sparse.buffer import TopBuffer


def test_by_hand() -> None:
    buffer = TopBuffer(2)
    buffer.push(tensor([1.0, -3.0, 9.0, 2.0]), tensor([False, False, True, False]))
    assert (buffer.indices.tolist(), buffer.values.tolist()) == ([1, 3], [-3.0, 2.0])
    buffer.push(tensor([3.0, -2.0]), tensor([False, False]), start=4)
    assert (buffer.indices.tolist(), buffer.values.tolist()) == ([1, 4], [-3.0, 3.0])


@given(st.integers(0, 2**32 - 1), st.integers(1, 5000), st.integers(0, 300), st.booleans())
def test_equals_the_dense_top_k(seed: int, size: int, k: int, ties: bool) -> None:
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(size, generator=generator)
    values = values.round() if ties else values
    keep = torch.rand(size, generator=generator) < 0.3
    buffer = TopBuffer(k)
    buffer.push(values, keep)
    pruned = [i for i in range(size) if not keep[i]]
    best = sorted(pruned, key=lambda i: (-abs(float(values[i])), i))[:k]
    assert buffer.indices.tolist() == sorted(best)
    assert buffer.values.tolist() == values[sorted(best)].tolist()


def test_holds_a_fixed_number_of_entries_however_long_the_stream() -> None:
    peaks = []
    for size in (100_000, 1_000_000):
        buffer = TopBuffer(50)
        buffer.push(torch.randn(size), torch.zeros(size, dtype=torch.bool))
        peaks.append(buffer.peak)
    assert peaks[0] == peaks[1] <= 2 * 1024
