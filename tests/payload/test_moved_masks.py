"""Orders that have clients move their masks, and uploads of clients that did."""

import struct

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, tensor

from fedtiny.payload.adjustment import Adjustment
from fedtiny.payload.bits import mask_bytes, pack_mask, pack_signs, unpack_signs
from fedtiny.payload.codec import NOTHING, decode_order, encode_order, held_after
from fedtiny.payload.messages import Order, Upload
from fedtiny.payload.packing import Layout, Packing
from fedtiny.payload.training import Training
from fedtiny.payload.upload import LARGEST, decode_upload, encode_upload, upload_bytes
from fedtiny.sparse.mask import Mask

# Two layers: `w` of 300 weights, of which every tenth is kept, and `v` of 10, of which 0 and 5 are; then a bias.
LAYOUT = Layout({"w": torch.Size([20, 15]), "v": torch.Size([10]), "b": torch.Size([2])}, frozenset({"w", "v"}))
W = torch.arange(300).view(20, 15) % 10 == 0
V = torch.arange(10) % 5 == 0
MASK = Mask({"w": W, "v": V})
PACKING = Packing.of(LAYOUT, MASK)
WEIGHTS = {"w": W * 0.5, "v": V * 0.5, "b": torch.zeros(2)}
ADJUST = Adjustment(after_epochs=1, count={"w": 3, "v": 1})
ORDER = Order(0, WEIGHTS, MASK, Training(epochs=2), adjust=ADJUST)
HEAD = struct.Struct("<IfI")


def swapped(keep: Tensor, gone: list[int], grown: list[int]) -> Tensor:
    flat = keep.flatten().clone()
    assert flat[gone].all()
    assert not flat[grown].any()
    flat[gone], flat[grown] = False, True
    return flat.view(keep.shape)


MOVED = Mask({"w": swapped(W, [10, 20, 290], [1, 2, 299]), "v": swapped(V, [5], [9])})


def sent(mask: Mask = MOVED, value: float = 1.5) -> bytes:
    packing = Packing.of(LAYOUT, mask)
    weights = {"w": mask.keep["w"] * value, "v": mask.keep["v"] * -value, "b": torch.ones(2)}
    return encode_upload(Upload(1, 5, 0.25, packing.pack(weights), packing, mask=mask), ORDER)


def read(buffer: bytes) -> Upload:
    return decode_upload(buffer, ORDER, PACKING, 1, 100)


def test_a_moved_mask_comes_back_with_the_weights_under_it() -> None:
    upload = read(sent())
    assert upload.mask is not None
    assert upload.mask.equals(MOVED)
    assert upload.weights is not None
    assert upload.weights["w"].equal(MOVED.keep["w"] * 1.5)
    assert upload.weights["v"].equal(MOVED.keep["v"] * -1.5)
    assert upload.packing.places["v"].tolist() == [0, 9]
    # 9 bits name one of 300 places: six flips are 7 bytes, and 5 before them. The small layer is a bitmap of 2 bytes.
    assert len(sent()) == upload.sent_bytes == 12 + (1 + 4 + 7) + (1 + 2) + 4 * (30 + 2 + 2)
    assert upload_bytes(ORDER, PACKING) == len(sent())


def test_who_exchanges_less_sends_less_and_is_read_too() -> None:
    less = Mask({"w": swapped(W, [10], [299]), "v": V})
    assert len(sent(less)) < upload_bytes(ORDER, PACKING)
    upload = read(sent(less))
    assert upload.mask is not None
    assert upload.mask.equals(less)


def with_masks(*parts: bytes, values: int = 34) -> bytes:
    return HEAD.pack(5, 0.25, values) + b"".join(parts) + b"\0" * (4 * values)


def flips(*places: int, claimed: int | None = None) -> bytes:
    bits = "".join(f"{place:09b}"[::-1] for place in places)
    packed = bytes(int(bits[i : i + 8].ljust(8, "0"), 2) for i in range(0, len(bits), 8))
    return b"\1" + struct.pack("<I", len(places) if claimed is None else claimed) + packed


STILL = pack_mask(V, V)


@pytest.mark.parametrize(
    ("buffer", "reason"),
    [
        (with_masks(flips(10), STILL), "the mask of w must keep 30 weights as before, got 29"),
        (with_masks(flips(1, 2), STILL), "the mask of w must keep 30 weights as before, got 32"),
        (with_masks(flips(0, 1, 2, 3, 4, 10, 20, 30), STILL), "the mask of w must exchange at most 3 weights, got 4"),
        (with_masks(flips(10, 10), STILL), "the mask of w must name ascending places below 300"),
        (with_masks(flips(10, 1), STILL), "the mask of w must name ascending places below 300"),
        (with_masks(flips(10, 300), STILL), "the mask of w must name ascending places below 300"),
        (with_masks(flips(10, 1, claimed=2**32 - 1), STILL), r"the mask of w must be at least \d+ bytes, got 1"),
        (with_masks(b"\7", STILL), "the mask of w must begin with 0 or 1, got 7"),
        (with_masks(b"\0" + b"\xff" * 38, STILL), "the mask of w must keep 30 weights as before, got 300"),
        (with_masks(flips(), pack_mask(~V, V)), "the mask of v must keep 2 weights as before, got 8"),
        (with_masks(flips(), pack_mask(torch.arange(10) < 2, V))[:-1], "must be 156 bytes, got 155"),
        (sent() + b"\0", "must be 163 bytes, got 164"),
        (sent()[:-4], "must be 163 bytes, got 159"),
        (sent()[:20], "the mask of w must be at least 24 bytes, got 20"),
        (sent()[:12], "the mask of w must be at least 13 bytes, got 12"),
        (with_masks(flips(), STILL, values=33), "weights of other names or shapes: must send 34 numbers, got 33"),
        (with_masks(flips(), STILL, values=312), "values at pruned places: must send 34 numbers, got 312"),
        (sent(value=float("nan")), "w is not finite: it diverged"),
        (sent(value=2e8), r"w must lie within 1e\+08"),
    ],
)  # fmt: skip
def test_a_lie_is_refused_with_its_reason(buffer: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        read(buffer)


def harmless(buffer: bytes) -> None:
    """It is refused, or it is an upload that an honest client could have sent."""
    try:
        upload = read(buffer)
    except ValueError:
        return
    assert upload.mask is not None
    assert upload.values is not None
    assert upload.weights is not None
    assert upload.values.abs().max() <= LARGEST
    for name, count in ADJUST.count.items():
        keep, before = upload.mask.keep[name], MASK.keep[name]
        assert keep.shape == before.shape
        assert keep.sum() == before.sum()
        assert int((keep & ~before).sum()) <= count
        assert not upload.weights[name][~keep].any()


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_noise_does_no_harm(noise: bytes) -> None:
    harmless(noise)
    harmless(sent()[:12] + noise)


@settings(max_examples=500, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 162), st.integers(1, 255)), min_size=1, max_size=3), st.integers(0, 163))
def test_changed_bytes_and_torn_messages_do_no_harm(changes: list[tuple[int, int]], end: int) -> None:
    buffer = bytearray(sent())
    for place, change in changes:
        buffer[place] ^= change
    harmless(bytes(buffer))
    harmless(bytes(buffer)[:end])


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 3000), st.integers(0, 60), st.integers(0, 99))
def test_the_bytes_of_a_mask_are_known_by_its_flips(size: int, count: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    before = torch.rand(size, generator=generator) < 0.3
    chosen = torch.randperm(size, generator=generator)[:count]
    after = before.clone()
    after[chosen] = ~after[chosen]
    assert len(pack_mask(after, before)) == mask_bytes(size, len(chosen)) <= mask_bytes(size, len(chosen) + 1)


def test_signs_by_hand() -> None:
    keep = torch.arange(100) % 10 == 0
    signs = torch.zeros(100, dtype=torch.int8)
    signs[keep] = tensor([1, 1, 1, 1, 1, 1, 1, -1, -1, 1], dtype=torch.int8)
    # No place differs from the kept ones: five bytes say so. Ten bits are two more.
    packed = pack_signs(signs, keep)
    assert packed == b"\1\0\0\0\0" + bytes([0b11111110, 0b01000000])
    back, end = unpack_signs(memoryview(packed), 0, keep)
    assert back.equal(signs)
    assert back.dtype is torch.int8
    assert end == len(packed)


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 3000), st.floats(0, 1), st.floats(0, 1), st.integers(0, 99))
def test_signs_take_two_bits_a_weight_at_most(size: int, density: float, signed: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    keep = torch.rand(size, generator=generator) < density
    signs = (torch.rand(size, generator=generator) < signed) * (
        1 - 2 * torch.randint(0, 2, (size,), generator=generator)
    )
    packed = pack_signs(signs.to(torch.int8), keep)
    back, end = unpack_signs(memoryview(packed), 0, keep)
    assert back.equal(signs.to(torch.int8))
    assert end == len(packed) <= 3 + 2 * size / 8


def test_orders_with_an_adjustment_and_signs_survive_the_wire() -> None:
    signs = {"w": torch.zeros(20, 15, dtype=torch.int8), "v": torch.zeros(10, dtype=torch.int8)}
    signs["w"][3, 4], signs["w"][0, 0], signs["v"][9] = -1, 1, 1
    guided = ADJUST.model_copy(update={"guided": 0.3})
    held = NOTHING
    for order in (
        ORDER,
        Order(1, WEIGHTS, MOVED, Training(epochs=2), adjust=guided, signs=signs),
        Order(2, WEIGHTS, MOVED, Training(epochs=2)),
    ):
        back = decode_order(encode_order(order, held), LAYOUT, held)
        assert back.adjust == order.adjust
        assert (back.signs is None) == (order.signs is None)
        for name, x in (order.signs or {}).items():
            assert back.signs is not None
            assert back.signs[name].equal(x)
        assert back.mask is not None
        assert back.mask.equals(order.mask)
        held = held_after(order, held)
    plain = Order(0, WEIGHTS, MASK, Training(epochs=2))
    assert b"adjust" not in encode_order(plain, NOTHING)
    assert b"signed" not in encode_order(ORDER, NOTHING)


def test_what_an_adjustment_demands() -> None:
    sizes = LAYOUT.sizes
    (demand,) = ORDER.demands(sizes)
    assert (demand.dense, demand.every_step, demand.held_bytes) == (("w", "v"), False, 8 * 4)
    guided = Order(0, WEIGHTS, MASK, Training(), adjust=ADJUST.model_copy(update={"guided": 0.5}), signs={})
    (demand,) = guided.demands(sizes)
    # Two more entries of w and one of v; signs of 310 weights; the 32 kept weights as they were.
    assert demand.held_bytes == 8 * (4 + 3) + (75 + 3) + 4 * 32


@pytest.mark.parametrize(
    ("guided", "count", "first"), [(0.0, 9, 0), (0.01, 9, 1), (0.1, 30, 3), (0.5, 3, 2), (1.0, 7, 7)]
)
def test_the_guided_share_is_rounded_up(guided: float, count: int, first: int) -> None:
    assert Adjustment(after_epochs=1, count={}, guided=guided).first(count) == first


def test_training_is_split_around_the_move() -> None:
    before, after = Adjustment(after_epochs=3, count={}).split(Training(epochs=5, lr=0.3))
    assert before == Training(epochs=3, lr=0.3)
    assert after == Training(epochs=2, lr=0.3)
    assert Adjustment(after_epochs=5, count={}).split(Training(epochs=5))[1] is None
