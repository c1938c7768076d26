"""What a device keeps of activations, number by number."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn, tensor

from fedtiny.models.zoo import ResNet8
from fedtiny.sparse.activations import Gate, Kept, Nothing, kept_bytes, kept_numbers
from fedtiny.sparse.cost import activation_bytes
from fedtiny.sparse.engine.layout import planes
from fedtiny.sparse.network import Network, Prunable


def test_the_largest_magnitudes_by_hand() -> None:
    x = tensor([[1.0, -3.0, 0.0], [2.0, -2.0, 0.5]])
    # Half of six: 3, and of the two 2s the first one next; then the other.
    assert Kept.of(x, 0.34).restored().tolist() == [[0, -3, 0], [2, 0, 0]]
    assert Kept.of(x, 0.5).restored().tolist() == [[0, -3, 0], [2, -2, 0]]
    assert Kept.of(x, 1.0).restored().equal(x)
    assert len(Kept.of(x, 1.0).values) == 5  # zeros are not stored
    assert Kept.of(torch.zeros(4), 0.5).restored().equal(torch.zeros(4))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 400), st.sampled_from([0.01, 0.03, 0.3, 0.7]), st.booleans())
def test_what_is_kept_is_the_top_and_takes_no_more_bytes_than_said(
    seed: int, count: int, density: float, rectified: bool
) -> None:
    x = torch.randn(count, generator=torch.Generator().manual_seed(seed))
    x = x.relu() if rectified else x
    kept = Kept.of(x, density)
    top = x.abs().argsort(descending=True, stable=True)[: kept_numbers(count, density)]
    expected = torch.zeros(count)
    expected[top] = x[top]
    assert kept.restored().equal(expected)
    taken = sum(part.numel() * part.element_size() for part in (kept.values, kept.places))
    assert taken <= kept_bytes(count, density)


def test_few_are_kept_with_their_places_and_many_with_a_bit_each() -> None:
    x = torch.arange(1.0, 641.0)
    assert Kept.of(x, 0.02).places.dtype == torch.int32
    assert Kept.of(x, 0.3).places.dtype == torch.uint8
    assert kept_bytes(640, 0.02) == 12 * 4 + 12 * 4
    assert kept_bytes(640, 0.3) == 192 * 4 + 80


def test_tensors_come_back_as_they_lay_in_memory() -> None:
    x = planes(torch.randn(5, 3, 4, 4))
    assert not x.is_contiguous()
    for back in (Kept.of(x, 1.0).restored(), Gate.of(x, 6.0).restored()):
        assert back.stride() == x.stride()
        assert back.shape == x.shape
    assert Kept.of(x, 1.0).restored().equal(x)
    assert Nothing(x.shape, x.dtype, x.device).restored().shape == x.shape


def test_a_gate_is_open_between_0_and_the_ceiling() -> None:
    x = tensor([-1.0, 0.0, 0.5, 6.0, 7.0])
    assert Gate.of(x, float("inf")).restored().tolist() == [0, 0, 1, 1, 1]
    assert Gate.of(x, 6.0).restored().tolist() == [0, 0, 1, 0, 0]
    assert Gate.of(x, 6.0).bits.numel() == 1


def test_what_a_network_keeps_by_hand() -> None:
    """A picture of 4x4 in 2 channels; tensors that two layers read count once."""
    plain = nn.Sequential(
        nn.Conv2d(1, 2, 3, padding=1), nn.Identity(), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(2, 3, 3, padding=1),
        nn.BatchNorm2d(3), nn.ReLU6(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2),
    )  # fmt: skip
    kept = Network.of(plain, (1, 4, 4), Prunable()).activations
    # The ReLU's output 32, the pool's 8 (the convolution's input) and its 8 places, the batch norm's input 12 and its
    # output 12 (the ReLU6's input), the mean's output 3 (the linear layer's input).
    assert kept.numbers == 32 + 8 + 2 * 8 + 12 + 12 + 3
    assert kept.inputs == (8,)
    assert kept.gates == (32, 12)
    assert kept.rest == 2 * 8 + 12 + 3


def test_the_bytes_of_a_step_by_hand() -> None:
    """Inputs of convolutions at 0.3 of 4 bytes and a bit, ReLUs at a bit, the head's input whole."""
    network = Network.of(ResNet8(width=4, normalisation="weight").build(1, 4, 0), (1, 8, 8), Prunable())
    stem, mid, late = 4 * 64, 8 * 16, 16 * 4
    kept = network.activations
    # The output of the last block goes to the mean alone, which keeps nothing; the ReLU itself keeps it.
    assert kept.inputs == (stem, stem, stem, mid, mid, late)
    assert kept.gates == (stem, stem, stem, mid, mid, late, late)
    assert (kept.numbers, kept.rest) == (3 * stem + 2 * mid + 2 * late + 16, 16)
    assert activation_bytes(network, 5) == 4 * 5 * kept.numbers
    pruned = sum(4 * int(0.3 * 5 * n + 1e-9) + 5 * n // 8 for n in kept.inputs) + sum(5 * n // 8 for n in kept.gates)
    assert activation_bytes(network, 5, 0.3) == 4 * 5 * 16 + pruned
    assert pruned < 0.37 * 4 * 5 * (kept.numbers - 16)
