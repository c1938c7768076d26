"""PruneFL's squares and FedRTS's places on the wire, and what of them no honest client could have sent."""

import numpy as np
import pytest
import torch

from fedtiny.payload.codec import NOTHING, decode_order, encode_order
from fedtiny.payload.messages import Order, Upload
from fedtiny.payload.packing import Layout, Packing
from fedtiny.payload.probes import Demand, Indices, SquaredGradients, Squares, TopIndices
from fedtiny.payload.training import Training
from fedtiny.payload.upload import decode_upload, encode_upload, upload_bytes
from fedtiny.sparse.mask import Mask
from fedtiny.sparse.network import Network

# A layer of nine weights, of which 1, 4 and 6 are kept, and one of four without a mask.
LAYOUT = Layout({"w": torch.Size([3, 3]), "v": torch.Size([4])}, frozenset({"w"}))
KEEP = torch.tensor([[0, 1, 0], [0, 1, 0], [1, 0, 0]], dtype=torch.bool)
PACKING = Packing.of(LAYOUT, Mask({"w": KEEP}))
WEIGHTS = {"w": torch.where(KEEP, 2.0, 0.0), "v": torch.ones(4)}
SQUARED, TOP = SquaredGradients(layers=("w",)), TopIndices(count={"w": 3})


def order(*probes: SquaredGradients | TopIndices) -> Order:
    return Order(0, WEIGHTS, Mask({"w": KEEP}), Training(), probes)


def crossed(*answers: Squares | Indices) -> tuple[object, ...]:
    probes = [SQUARED if isinstance(answer, Squares) else TOP for answer in answers]
    buffer = encode_upload(Upload(1, 5, 0.25, PACKING.pack(WEIGHTS), PACKING, answers))
    assert len(buffer) == upload_bytes(order(*probes), PACKING)
    return decode_upload(buffer, order(*probes), PACKING, 1, 5).answers


def test_squares_and_places_survive_the_wire() -> None:
    squares = Squares({"w": torch.tensor([0.0, 1.0, 0.5, 2.0, 1e-12, 3e38, 7.0, 0.0, 9.0])})
    places = Indices({"w": torch.tensor([0, 5, 8])})
    one, other = crossed(squares, places)
    assert isinstance(one, Squares)
    assert isinstance(other, Indices)
    assert one.layers["w"].equal(squares.layers["w"])
    assert other.layers["w"].tolist() == [0, 5, 8]
    # Four bytes a weight; four bits an index below 9, in whole bytes: no value of a gradient crosses.
    assert len(squares.encode(LAYOUT.sizes)) == SQUARED.answer_bytes(LAYOUT.sizes) == 36
    assert len(places.encode(LAYOUT.sizes)) == TOP.answer_bytes(LAYOUT.sizes) == 2


def test_what_they_ask_of_a_device() -> None:
    assert SQUARED.demand({"w": 9, "v": 4}) == Demand(("w",), every_step=True, held_bytes=36)
    assert TOP.demand({"w": 9, "v": 4}) == Demand(("w",), every_step=False, held_bytes=24)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (Squares({"w": torch.tensor([1.0] * 8 + [-0.5])}), "squares of w must not be negative, got -0.5"),
        (Squares({"w": torch.tensor([1.0] * 8 + [float("inf")])}), "squares of w are not finite: it diverged"),
        (Squares({"w": torch.tensor([1.0] * 8 + [float("nan")])}), "squares of w are not finite: it diverged"),
        (Indices({"w": torch.tensor([0, 5, 5])}), "indices of w must ascend, all below 9"),
        (Indices({"w": torch.tensor([8, 5, 0])}), "indices of w must ascend, all below 9"),
        (Indices({"w": torch.tensor([0, 5, 9])}), "indices of w must ascend, all below 9"),
        (Indices({"w": torch.tensor([0, 4, 5])}), "indices of w must be of pruned places, got some of kept ones"),
    ],
)
def test_a_lie_is_refused_with_its_reason(answer: Squares | Indices, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        crossed(answer)


def test_the_questions_survive_the_wire(network: Network, layout: Layout) -> None:
    names = tuple(network.prunable)
    probes = (SquaredGradients(layers=names), TopIndices(count=dict.fromkeys(names, 2)))
    asked = Order(0, network.weights, None, Training(), probes)
    assert decode_order(encode_order(asked, NOTHING), layout, NOTHING).probes == probes


def test_made_up_answers_are_as_long_as_real_ones_and_are_believed() -> None:
    for probe in (SQUARED, TOP):
        answer = probe.blank(LAYOUT.sizes, PACKING.places, np.random.default_rng(0))
        assert len(answer.encode(LAYOUT.sizes)) == probe.answer_bytes(LAYOUT.sizes)
        crossed(answer)
