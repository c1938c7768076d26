"""How numbers are written: the quantiser by hand, and what holds of it whatever the numbers."""

import struct

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedtiny.payload.messages import Order, Upload
from fedtiny.payload.packing import Layout, Packing
from fedtiny.payload.training import Training
from fedtiny.payload.upload import decode_upload, encode_upload, upload_bytes
from fedtiny.payload.values import AnyCodec, Exact, Quantised
from fedtiny.sparse.mask import Mask

# Sixteen weights, of which four are pruned; a bias; a batch norm of two channels.
LAYOUT = Layout(
    {
        "w": torch.Size([4, 4]),
        "b": torch.Size([2]),
        "n.running_mean": torch.Size([2]),
        "n.running_var": torch.Size([2]),
    },
    frozenset({"w"}),
)
MASK = Mask({"w": torch.tensor([[1, 1, 1, 0]] * 4, dtype=torch.bool)})
PACKING = Packing.of(LAYOUT, MASK)
REST = [0.25, -7.0, 0.1, 3.0, 1e-8, 900.0]  # bias, means, variances


def matrix(count: int) -> Packing:
    return Packing.of(Layout({"w": torch.Size([count, 1])}, frozenset()), None)


def round_trip(codec: AnyCodec, values: torch.Tensor, packing: Packing) -> torch.Tensor:
    buffer = codec.encode(values, packing)
    assert len(buffer) == codec.size(packing)
    return codec.decode(b"head" + buffer, 4, packing)


def test_the_quantiser_by_hand() -> None:
    """Two bits are four values; from -1 to 2 they are -1, 0, 1 and 2."""
    weights = [-1.0, 2.0, 0.4, 0.6, -0.6, 1.4, 1.6, -0.4, 0.0, 1.0, -1.0, 2.0]
    codec, values = Quantised(bits=2), torch.tensor(weights + REST)
    buffer = codec.encode(values, PACKING)
    # Places 0 3 1 2, 0 2 3 1, 1 2 0 3: the lower bit of a place stands first.
    assert buffer[:11] == struct.pack("<ff", -1.0, 1.0) + bytes([0b00111001, 0b00011110, 0b10010011])
    assert len(buffer) == codec.size(PACKING) == 8 + 3 + 4 * 6
    back = round_trip(codec, values, PACKING)
    assert back.tolist() == [-1, 2, 0, 1, -1, 1, 2, 0, 0, 1, -1, 2, *values[12:].tolist()]


@pytest.mark.parametrize(("bits", "weights"), [(8, 12), (4, 6), (5, 8), (16, 24)])
def test_a_layer_takes_its_grid_and_so_many_bits_a_weight(bits: int, weights: int) -> None:
    assert Quantised(bits=bits).size(PACKING) == 8 + weights + 4 * 6
    assert Exact().size(PACKING) == 4 * 18


def test_a_layer_that_would_not_become_shorter_is_exact() -> None:
    for count, size in ((0, 0), (1, 4), (2, 8), (3, 11)):  # 8 + 3 bytes are fewer than 12
        packing = matrix(count)
        assert Quantised().size(packing) == size
        values = torch.arange(count) / 3
        assert round_trip(Quantised(), values, packing).equal(values) == (count < 3)


def test_vectors_are_exact_so_no_variance_becomes_negative_or_is_lost() -> None:
    values = torch.tensor([*range(12), *REST])
    back = PACKING.unpack(round_trip(Quantised(bits=2), values, PACKING))
    assert back["n.running_var"].equal(torch.tensor([1e-8, 900.0]))
    assert back["b"].equal(torch.tensor([0.25, -7.0]))


floats = st.floats(-1e8, 1e8, width=32)


@settings(max_examples=200, deadline=None)
@given(st.lists(floats, min_size=5, max_size=40), st.sampled_from([2, 3, 4, 7, 8, 12, 16]))
def test_a_round_trip_moves_no_weight_by_more_than_half_a_step(numbers: list[float], bits: int) -> None:
    packing, values = matrix(len(numbers)), torch.tensor(numbers)
    codec = Quantised(bits=bits)
    back = round_trip(codec, values, packing)
    assert back.isfinite().all()
    least, step = struct.unpack_from("<ff", codec.encode(values, packing))
    exact = codec.size(packing) == 4 * len(numbers)
    far = (back.double() - values.double()).abs().numpy()
    rounded = np.spacing(np.abs(back.numpy())).astype(np.float64) / 2  # what float32 rounds off
    assert (far <= 0).all() if exact else (far <= step / 2 * (1 + 1e-12) + rounded).all()
    assert back.min() >= values.min()
    if not exact:
        assert least == values.min()
        assert back[values.argmin()] == values.min()


@given(floats, st.integers(3, 30), st.sampled_from([2, 8, 16]))
def test_equal_weights_are_exact(number: float, count: int, bits: int) -> None:
    values = torch.full((count,), number)
    assert round_trip(Quantised(bits=bits), values, matrix(count)).equal(values)


@pytest.mark.parametrize("spoilt", [float("nan"), float("inf"), -float("inf")])
def test_what_is_not_finite_is_refused_and_nothing_is_made_of_it(spoilt: float) -> None:
    values = torch.tensor([spoilt, *range(11), *REST])
    buffer = Quantised().encode(values, PACKING)
    with pytest.raises(ValueError, match="the grid of w must be finite and its step not negative, got nan"):
        Quantised().decode(buffer, 0, PACKING)


def order(codec: AnyCodec, limit: float | None = None) -> Order:
    return Order(0, {}, MASK, Training(), codec=codec, limit=limit)


VALUES = torch.tensor([*range(12), *REST])


def sent(codec: AnyCodec, values: torch.Tensor | None = VALUES, loss: float = 0.25) -> bytes:
    return encode_upload(Upload(1, 5, loss, values, PACKING), order(codec))


def test_a_quantised_upload_is_read_and_as_long_as_foretold() -> None:
    buffer = sent(Quantised())
    upload = decode_upload(buffer, order(Quantised()), PACKING, 1, 100)
    assert upload.values is not None
    assert upload.values.tolist() == pytest.approx(VALUES.tolist(), abs=11 / 255 / 2 + 1e-5)
    assert upload.sent_bytes == len(buffer) == upload_bytes(order(Quantised()), PACKING) == 12 + 8 + 12 + 24


@pytest.mark.parametrize(
    ("grid", "reason"),
    [
        ((0.0, -1.0), "the grid of w must be finite and its step not negative, got 0 \\+ -1 q"),
        ((float("inf"), 1.0), "the grid of w must be finite"),
        ((0.0, 1e30), r"w must lie within 1e\+08"),
    ],
)
def test_a_grid_that_cannot_be_is_refused(grid: tuple[float, float], reason: str) -> None:
    buffer = bytearray(sent(Quantised()))
    struct.pack_into("<ff", buffer, 12, *grid)
    with pytest.raises(ValueError, match=reason):
        decode_upload(bytes(buffer), order(Quantised()), PACKING, 1, 100)


def test_a_negative_variance_is_refused_quantised_or_not() -> None:
    values = VALUES.clone()
    values[-1] = -1.0
    with pytest.raises(ValueError, match=r"n.running_var must not be negative"):
        decode_upload(sent(Quantised(), values), order(Quantised()), PACKING, 1, 100)


@pytest.mark.parametrize("codec", [Exact(), Quantised()])
def test_weights_kept_back_cost_nothing_and_only_where_they_may(codec: AnyCodec) -> None:
    upload = decode_upload(sent(codec, None), order(codec, 0.25), PACKING, 1, 100)  # 0.25 is not below 0.25
    assert (upload.values, upload.weights, upload.sent_bytes, upload.loss) == (None, None, 12, 0.25)
    assert decode_upload(sent(codec), order(codec, 0.26), PACKING, 1, 100).values is not None
    for buffer, limit, reason in (
        (sent(codec), 0.25, "weights that had to be kept back: must send 0 numbers, got 18"),
        (sent(codec, None), 0.26, "must send 18 numbers, got 0"),
        (sent(codec, None), None, "must send 18 numbers, got 0"),
        (sent(codec, None, float("nan")), 0.26, "the training loss is not finite"),
        (sent(codec, None) + b"\0", 0.25, "must be 12 bytes, got 13"),
    ):
        with pytest.raises(ValueError, match=reason):
            decode_upload(buffer, order(codec, limit), PACKING, 1, 100)


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 55), st.integers(1, 255))
def test_any_byte_that_was_changed_does_no_harm(place: int, change: int) -> None:
    buffer = bytearray(sent(Quantised()))
    buffer[place] ^= change
    try:
        upload = decode_upload(bytes(buffer), order(Quantised()), PACKING, 1, 100)
    except ValueError:
        return
    assert upload.values is not None
    assert upload.values.isfinite().all()
    assert upload.values.abs().max() <= 1e8
