"""What no honest client could have sent is refused, with its reason."""

import struct

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedtiny.payload.messages import Order, Upload
from fedtiny.payload.packing import Layout, Packing
from fedtiny.payload.probes import (
    Accuracy,
    BatchNormStatistics,
    Gradients,
    LocalAccuracy,
    LocalLoss,
    Loss,
    Moments,
    Probe,
    Statistics,
    TopGradients,
)
from fedtiny.payload.training import Training
from fedtiny.payload.upload import LARGEST, decode_upload, encode_upload
from fedtiny.sparse.mask import Mask

# A layer of eight weights, of which 1, 4 and 6 are kept; a batch norm of two channels.
LAYOUT = Layout(
    {"w": torch.Size([2, 4]), "n.running_mean": torch.Size([2]), "n.running_var": torch.Size([2])},
    frozenset({"w"}),
    positions=16,
)
KEEP = torch.tensor([[0, 1, 0, 0], [1, 0, 1, 0]], dtype=torch.bool)
PACKING = Packing.of(LAYOUT, Mask({"w": KEEP}))
WEIGHTS = {
    "w": torch.tensor([[0.0, 1.0, 0.0, 0.0], [2.0, 0.0, 3.0, 0.0]]),
    "n.running_mean": torch.tensor([0.5, -0.5]),
    "n.running_var": torch.tensor([1.0, 2.0]),
}
TOP = TopGradients(count={"w": 2})


def order(*probes: Probe, trains: bool = True) -> Order:
    return Order(0, WEIGHTS, Mask({"w": KEEP}), Training() if trains else None, probes)


def sent(values: list[float] | None = None, places: tuple[int, int] = (0, 7), gradient: float = 1.0) -> bytes:
    """An upload of a client with 5 examples, and the two top gradients of its layer."""
    packed = PACKING.pack(WEIGHTS) if values is None else torch.tensor(values)
    top = Gradients({"w": (torch.tensor(places), torch.tensor([gradient, 0.5]))})
    return encode_upload(Upload(1, 5, 0.25, packed, PACKING, (top,)))


def read(buffer: bytes) -> Upload:
    return decode_upload(buffer, order(TOP), PACKING, 1, 100)


def test_packing_by_hand() -> None:
    packed = PACKING.pack(WEIGHTS)
    assert packed.tolist() == [1, 2, 3, 0.5, -0.5, 1, 2]
    back = PACKING.unpack(packed)
    assert list(back) == list(WEIGHTS)
    assert all(x.equal(back[name]) for name, x in WEIGHTS.items())


def test_an_honest_upload_is_read() -> None:
    upload = read(sent())
    assert (upload.examples, upload.loss) == (5, 0.25)
    assert upload.weights is not None
    assert upload.weights["w"].equal(WEIGHTS["w"])


HEAD = struct.Struct("<IfI")


def with_head(examples: int, loss: float, count: int = 7) -> bytes:
    return HEAD.pack(examples, loss, count) + sent()[HEAD.size :]


@pytest.mark.parametrize(
    ("buffer", "reason"),
    [
        (b"", "must be at least 12 bytes, got 0"),
        (sent()[:-1], "must be 49 bytes, got 48"),
        (sent() + b"\0", "must be 49 bytes, got 50"),
        (sent([0.0] * 12), "values at pruned places: must send 7 numbers, got 12"),
        (sent([0.0] * 3), "weights of other names or shapes: must send 7 numbers, got 3"),
        (sent([1, 2, float("nan"), 0, 0, 1, 1]), "w is not finite: it diverged; lower training.lr"),
        (sent([1, 2, 3, 0, float("inf"), 1, 1]), "n.running_mean is not finite"),
        (sent([1, 2e8, 3, 0, 0, 1, 1]), r"w must lie within 1e\+08, got 2e\+08"),
        (sent([1, 2, 3, 0, 0, 1, -0.5]), "n.running_var must not be negative, got -0.5"),
        (with_head(0, 0.25), "examples must be from 1 to 100, got 0"),
        (with_head(101, 0.25), "examples must be from 1 to 100, got 101"),
        (with_head(5, float("nan")), "the training loss is not finite, got nan"),
        (sent(places=(7, 0)), "gradients of w must be of ascending places below 8"),
        (sent(places=(2, 2)), "gradients of w must be of ascending places below 8"),
        (sent(places=(0, 4)), "gradients of w must be of pruned places, got some of kept ones"),
        (sent(gradient=float("nan")), "gradients of w are not finite"),
        (sent(gradient=-3e38), r"gradients of w must lie within 1e\+08, got 3e\+38"),
    ],
)
def test_a_lie_is_refused_with_its_reason(buffer: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        read(buffer)


def test_places_beyond_a_layer_whose_size_is_no_power_of_two_are_refused() -> None:
    layout = Layout({"w": torch.Size([5])}, frozenset({"w"}))
    mask = Mask({"w": torch.tensor([True, False, False, False, False])})
    packing = Packing.of(layout, mask)
    top = Gradients({"w": (torch.tensor([1, 7]), torch.tensor([1.0, 2.0]))})  # three bits hold 7
    buffer = encode_upload(Upload(0, 5, 0.0, torch.tensor([1.0]), packing, (top,)))
    asked = Order(0, {"w": torch.zeros(5)}, mask, Training(), (TOP,))
    with pytest.raises(ValueError, match="ascending places below 5"):
        decode_upload(buffer, asked, packing, 0, 9)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (Statistics({"n": Moments(torch.tensor([0.0, float("nan")]), torch.ones(2), 4)}), "statistics of n must be"),
        (Statistics({"n": Moments(torch.zeros(2), torch.tensor([1.0, -1.0]), 4)}), "no variance below 0"),
        (Statistics({"n": Moments(torch.zeros(2), torch.ones(2), 0)}), "of some values"),
        (Statistics({"n": Moments(torch.zeros(2), torch.tensor([1.0, 3e38]), 4)}), r"within 1e\+08, got 3e\+38"),
        (Statistics({"n": Moments(torch.tensor([0.0, -2e8]), torch.ones(2), 4)}), r"within 1e\+08, got 2e\+08"),
        (Statistics({"n": Moments(torch.zeros(2), torch.ones(2), 81)}), "of n must be of at most 80 values, got 81"),
        (Statistics({"n": Moments(torch.zeros(2), torch.ones(2), 4_000_000_000)}), "at most 80 values, got 4000000000"),
        (Accuracy(5, 6), "accuracy must be of at most 5 examples, got 6"),
        (Loss(1.0, 4_000_000_000), "the loss must be of at most 5 examples, got 4000000000"),
        (Accuracy(5, 4), "correct must be at most the examples, got 5 of 4"),
        (Loss(-1.0, 4), "must be at least 0, got -1.0 of 4"),
        (Loss(1.0, 0), "must be at least 0, got 1.0 of 0"),
    ],
)
def test_measurements_that_cannot_be_are_refused(answer: Statistics | Loss | Accuracy, reason: str) -> None:
    probes: dict[type, Probe] = {Statistics: BatchNormStatistics(), Loss: LocalLoss(), Accuracy: LocalAccuracy()}
    asked = order(probes[type(answer)], trains=False)
    buffer = encode_upload(Upload(1, 5, float("nan"), None, PACKING, (answer,)))
    with pytest.raises(ValueError, match=reason):
        decode_upload(buffer, asked, PACKING, 1, 100)


@pytest.mark.parametrize("total", [float("nan"), float("inf"), 1e39, 3e38])
def test_the_loss_of_a_hopeless_candidate_is_no_lie(total: float) -> None:
    buffer = encode_upload(Upload(1, 5, float("nan"), None, PACKING, (Loss(total, 5),)))
    (answer,) = decode_upload(buffer, order(LocalLoss(), trains=False), PACKING, 1, 100).answers
    assert isinstance(answer, Loss)
    assert answer.hopeless


@pytest.mark.parametrize("holdout", [0.0, 0.01, 0.1, 0.2, 0.5, 0.9])
@pytest.mark.parametrize("examples", [2, 3, 4, 5, 10, 11, 99, 1000])
def test_an_honest_client_never_measures_on_more_than_it_may(holdout: float, examples: int) -> None:
    asked = Order(0, WEIGHTS, None, None, (), holdout=holdout)
    aside = asked.held_out(examples)
    trained = examples - aside
    seen = aside if holdout else trained
    assert seen <= asked.seen_most(trained) <= (trained + 2) / (1 - holdout)


def harmless(buffer: bytes) -> None:
    """It is refused, or it holds nothing that could harm the aggregate."""
    try:
        upload = read(buffer)
    except ValueError:
        return
    assert upload.values is not None
    assert upload.values.abs().max() <= LARGEST
    assert upload.weights is not None
    assert not upload.weights["w"][~KEEP].any()
    assert 1 <= upload.examples <= 100


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=80))
def test_noise_does_no_harm(buffer: bytes) -> None:
    harmless(buffer)


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 48), st.integers(1, 255))
def test_any_byte_that_was_changed_does_no_harm(place: int, change: int) -> None:
    buffer = bytearray(sent())
    buffer[place] ^= change
    harmless(bytes(buffer))
