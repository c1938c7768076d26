"""A client that moves its own mask between two epochs."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, tensor
from torch.nn import functional

from fedtiny import seeds
from fedtiny.client.adjusting import CollectGrowth, exchanged
from fedtiny.client.client import Client
from fedtiny.client.world import World
from fedtiny.data.loaders import Batches
from fedtiny.payload.adjustment import Adjustment
from fedtiny.payload.messages import Order, Upload
from fedtiny.payload.packing import Packing
from fedtiny.payload.probes import Gradients, TopGradients
from fedtiny.payload.training import Training
from fedtiny.payload.upload import decode_upload, encode_upload, upload_bytes
from fedtiny.sparse.mask import Mask
from fedtiny.sparse.network import Network, load_, weights_of
from fedtiny.sparse.select import drop_then_grow
from tests.client.test_keep_mask import magnitude_mask

#                 0     1     2     3     4     5     6     7     8     9
BEGAN = tensor([0.50, 0.10, 0.30, 0.90, 0.20, 0.00, 0.00, 0.00, 0.00, 0.00])
ENDED = tensor([0.40, 0.15, 0.25, 0.95, 0.20, 0.00, 0.00, 0.00, 0.00, 0.00])
GRADS = tensor([9.00, 9.00, 9.00, 9.00, 9.00, 3.00, -2.0, 1.00, -0.5, 0.25])
SIGNS = tensor([1, -1, 1, -1, 1, 1, 1, 0, 1, -1], dtype=torch.int8)
KEEP = tensor([True] * 5 + [False] * 5)


def collected(
    count: int,
    guided: float = 0.0,
    signs: Tensor | None = SIGNS,
    began: Tensor = BEGAN,
    grads: Tensor = GRADS,
    keep: Tensor = KEEP,
    pieces: int = 1,
) -> CollectGrowth:
    adjust = Adjustment(after_epochs=1, count={"w": count}, guided=guided)
    given_signs = None if signs is None or not guided else {"w": signs}
    order = Order(0, {"w": began}, Mask({"w": keep}), Training(), adjust=adjust, signs=given_signs)
    growth = CollectGrowth(order)
    start = 0
    for piece in grads.flatten().tensor_split(pieces):
        growth._take("w", piece, start)
        start += len(piece)
    return growth


def kept_after(growth: CollectGrowth, ended: Tensor = ENDED) -> list[int]:
    places: list[int] = growth.moved({"w": ended}).keep["w"].flatten().nonzero().flatten().tolist()
    return places


def test_without_signs_the_smallest_give_way_to_the_largest_gradients() -> None:
    # Smallest: 1 (0.15), 4 (0.20). Largest gradients among the pruned: 5 (3), 6 (-2).
    assert kept_after(collected(2)) == [0, 2, 3, 5, 6]


def test_the_sign_rule_by_hand() -> None:
    # Trained against the federation: 0 (it fell, d is +), 1 (it rose, d is -), 2 (fell, +), 3 (rose, -). 4 stayed.
    # Going along, delta = -sign(g): 6 (g < 0, d is +), 8 (the same), 9 (g > 0, d is -). 5 goes against; 7 has no d.
    # All guided: of three, the smallest opposed are 1, 2, 0; the largest along are 6, 8, 9.
    assert kept_after(collected(3, guided=1.0)) == [3, 4, 6, 8, 9]
    # One of three guided: drop 1 (opposed, 0.15), then the smallest of what is left, 4 and 2; grow 6, then 5 and 7.
    assert kept_after(collected(3, guided=0.3)) == [0, 3, 5, 6, 7]
    # Two of four: drop 1 and 2, then 4 and 0; grow 6 and 8, then 5 and 7.
    assert kept_after(collected(4, guided=0.5)) == [3, 5, 6, 7, 8]


def test_where_too_few_qualify_the_rest_is_by_magnitude() -> None:
    signs = tensor([-1, 0, 0, 0, 0, 0, 0, 0, 1, 0], dtype=torch.int8)  # 0 fell as it should: nobody is opposed
    assert kept_after(collected(2, guided=1.0, signs=signs)) == [0, 2, 3, 5, 8]
    nothing = torch.zeros(10, dtype=torch.int8)
    assert kept_after(collected(2, guided=1.0, signs=nothing)) == kept_after(collected(2))


def test_a_weight_without_gradient_does_not_grow_and_one_kept_weight_stays() -> None:
    grads = tensor([9.0] * 5 + [0.0, 0.0, 0.0, 1.0, 0.0])
    assert kept_after(collected(3, grads=grads)) == [0, 2, 3, 4, 8]
    lonely = tensor([True] + [False] * 9)
    assert kept_after(collected(3, keep=lonely)) == [0]


def test_a_client_that_diverged_leaves_its_mask_alone() -> None:
    assert kept_after(collected(2), tensor([float("nan")] * 5 + [0.0] * 5)) == [0, 1, 2, 3, 4]
    grads = tensor([9.0] * 5 + [float("nan"), 1.0, 2.0, 0.0, 0.0])
    assert len(kept_after(collected(2, grads=grads))) == 5


values = st.lists(st.sampled_from([-2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0]), min_size=24, max_size=24)


@settings(max_examples=300, deadline=None)
@given(values, values, st.lists(st.booleans(), min_size=24, max_size=24), st.integers(1, 24), st.integers(1, 5))
def test_a_top_buffer_gives_the_mask_that_the_dense_gradient_would(
    ended: list[float], grads: list[float], keep: list[bool], count: int, pieces: int
) -> None:
    kept = tensor(keep).view(4, 6)
    weight, gradient = tensor(ended).view(4, 6) * kept, tensor(grads).view(4, 6)
    growth = collected(count, grads=gradient, keep=kept, began=weight, pieces=pieces)
    assert growth.moved({"w": weight}).keep["w"].equal(drop_then_grow(kept, weight, gradient, count))


@settings(max_examples=300, deadline=None)
@given(
    values,
    values,
    values,
    st.lists(st.sampled_from([-1, 0, 1]), min_size=24, max_size=24),
    st.integers(1, 23),
    st.floats(0.01, 1),
    st.integers(1, 5),
)
def test_the_sign_rule_is_that_of_a_naive_loop(
    began: list[float], ended: list[float], grads: list[float], d: list[int], count: int, guided: float, pieces: int
) -> None:
    keep = [j % 3 == 0 for j in range(24)]
    start, end = ([x if keep[j] else 0.0 for j, x in enumerate(w)] for w in (began, ended))
    growth = collected(count, guided, tensor(d, dtype=torch.int8), tensor(start), tensor(grads), tensor(keep), pieces)
    count = min(count, sum(not keep[j] and grads[j] != 0 for j in range(24)), 7)
    first = growth._adjust.first(count)

    def sign(x: float) -> int:
        return (x > 0) - (x < 0)

    drop = [j for j in range(24) if keep[j] and d[j] * sign(end[j] - start[j]) < 0]
    drop = sorted(drop, key=lambda j: (abs(end[j]), -j))[:first]
    left = sorted((j for j in range(24) if keep[j] and j not in drop), key=lambda j: (abs(end[j]), -j))
    drop += left[: count - len(drop)]
    grow = [j for j in range(24) if not keep[j] and d[j] * -sign(grads[j]) > 0]
    grow = sorted(grow, key=lambda j: (-abs(grads[j]), j))[:first]
    left = sorted((j for j in range(24) if not keep[j] and j not in grow), key=lambda j: (-abs(grads[j]), j))
    grow += left[: count - len(grow)]
    expected = sorted({j for j in range(24) if keep[j]} - set(drop) | set(grow))
    assert kept_after(growth, tensor(end)) == expected


def test_exchanged_leaves_its_arguments_alone() -> None:
    keep = KEEP.clone()
    exchanged(keep, ENDED, KEEP, tensor([7]), 1)
    assert keep.equal(KEEP)


def test_buffers_hold_no_more_than_what_can_grow() -> None:
    growth = collected(3, guided=0.5, grads=torch.arange(1.0, 11.0))
    assert [len(growth.buffers["w"].indices), len(growth._along["w"].indices)] == [3, 1]


# On real clients, on both engines.

TRAINING = Training(epochs=3, batch=16, weight_decay=0.01)


def adjusting(network: Network, after: int = 2, count: int = 4, density: float = 0.2) -> Order:
    mask, weights = magnitude_mask(network, density), dict(network.weights)
    mask.apply_(weights)
    counts = dict.fromkeys(network.prunable, count)
    return Order(3, weights, mask, TRAINING, adjust=Adjustment(after_epochs=after, count=counts))


def mask_of(upload: Upload) -> Mask:
    assert upload.mask is not None
    return upload.mask


@pytest.mark.parametrize("after", [1, 2, 3])
def test_the_mask_is_that_of_the_dense_gradient_in_the_last_step_before(
    network: Network, world: World, after: int
) -> None:
    order = adjusting(network, after)
    assert order.mask is not None
    mask = mask_of(Client(world).carry_out(order, 0))
    # The same client, up to the move, and all its gradients at pruned places.
    pruned = {name: int((~keep).sum()) for name, keep in order.mask.keep.items()}
    until = replace(
        order, adjust=None, training=replace_epochs(after), probes=(TopGradients(count=pruned),)
    )  # fmt: skip
    upload = Client(world).carry_out(until, 0)
    (answer,) = upload.answers
    assert isinstance(answer, Gradients)
    assert upload.weights is not None
    for name, keep in order.mask.keep.items():
        dense = torch.zeros(keep.numel())
        indices, gradients = answer.layers[name]
        dense[indices] = gradients
        expected = drop_then_grow(keep, upload.weights[name], dense.view(keep.shape), 4)
        assert mask.keep[name].equal(expected)
        assert int((expected & ~keep).sum()) == 4


def replace_epochs(epochs: int) -> Training:
    return TRAINING.model_copy(update={"epochs": epochs})


def test_it_trains_on_under_the_new_mask_as_plain_sgd_would(network: Network, world: World) -> None:
    """The reference: dense SGD whose gradients are multiplied by the mask, begun anew for the last epoch."""
    order = adjusting(network, after=2)
    upload = Client(world).carry_out(order, 0)
    mask = mask_of(upload)
    start = Client(world).carry_out(replace(order, adjust=None, training=replace_epochs(2)), 0).weights
    assert start is not None
    weights = {name: x.clone() for name, x in start.items()}
    mask.apply_(weights)
    load_(network.module, weights)
    net = network.module.train()
    optimizer = torch.optim.SGD(net.parameters(), lr=TRAINING.lr, momentum=0.9, weight_decay=0.01)
    stream = seeds.stream(world.seed, "client", 0, "round", 3)
    batches = Batches(world.images, world.labels, world.shares[0], 16, world.data, stream)
    assert len([batch for _ in range(2) for batch in batches]) == 2 * len(batches)  # the two epochs before
    losses = []
    for images, labels in batches:
        optimizer.zero_grad()
        loss = functional.cross_entropy(net(images), labels)
        loss.backward()
        losses.append((float(loss.detach()), len(labels)))
        for name, parameter in net.named_parameters():
            if name in mask.keep:
                assert parameter.grad is not None
                parameter.grad *= mask.keep[name]
        optimizer.step()
    assert upload.weights is not None
    for name, expected in weights_of(net).items():
        if world.engine.name == "dense":
            assert upload.weights[name].equal(expected), name
        else:
            torch.testing.assert_close(upload.weights[name], expected, rtol=1e-3, atol=1e-4)
    mean = sum(loss * examples for loss, examples in losses) / sum(examples for _, examples in losses)
    assert upload.loss == pytest.approx(mean, rel=1e-4)


def test_grown_weights_learn_and_dropped_ones_are_0(network: Network, world: World) -> None:
    order = adjusting(network, after=2)
    upload = Client(world).carry_out(order, 1)
    mask = mask_of(upload)
    assert order.mask is not None
    assert upload.weights is not None
    grown_moved = 0
    for name, keep in order.mask.keep.items():
        grown, dropped = mask.keep[name] & ~keep, keep & ~mask.keep[name]
        assert int(grown.sum()) == int(dropped.sum()) == 4
        assert not upload.weights[name][~mask.keep[name]].any()
        grown_moved += int((upload.weights[name][grown] != 0).sum())
    assert grown_moved > 0
    # With no epoch left, what has just grown is still 0.
    last = Client(world).carry_out(adjusting(network, after=3), 1)
    assert last.weights is not None
    for name, keep in order.mask.keep.items():
        assert not last.weights[name][mask_of(last).keep[name] & ~keep].any()


def test_it_does_not_matter_who_played_before_nor_what_they_did_to_their_masks(network: Network, world: World) -> None:
    order = adjusting(network)
    plain = replace(order, adjust=None)
    fresh, used = Client(world), Client(world)
    for other in (1, 2):
        used.carry_out(order, other)
        used.carry_out(plain, other)
    used.carry_out(replace(plain, mask=None), 1)
    for what in (order, plain):
        first, second = fresh.carry_out(what, 0), used.carry_out(what, 0)
        assert first.values is not None
        assert second.values is not None
        assert np.array_equal(first.values.numpy(), second.values.numpy())
        assert first.loss == second.loss
    assert fresh.carry_out(plain, 0).mask is None


def test_what_it_sends_is_read_and_as_long_as_foretold(network: Network, world: World) -> None:
    order = adjusting(network)
    signs = {name: torch.ones(shape, dtype=torch.int8) for name, shape in network.prunable.items()}
    assert order.adjust is not None
    guided = replace(order, adjust=order.adjust.model_copy(update={"guided": 0.5}), signs=signs)
    packing = Packing.of(world.layout, order.mask)
    for asked in (order, guided):
        upload = Client(world).carry_out(asked, 2)
        buffer = encode_upload(upload, asked)
        assert len(buffer) == upload_bytes(asked, packing)
        back = decode_upload(buffer, asked, packing, 2, 40)
        assert mask_of(back).equals(upload.mask)
        assert back.values is not None
        assert upload.values is not None
        assert back.values.equal(upload.values)


def test_signs_change_the_mask_on_a_real_client(network: Network, world: World) -> None:
    order = adjusting(network)
    assert order.adjust is not None
    assert order.mask is not None
    signs = {name: torch.ones(shape, dtype=torch.int8) for name, shape in network.prunable.items()}
    guided = replace(order, adjust=order.adjust.model_copy(update={"guided": 1.0}), signs=signs)
    plain, went = (Client(world).carry_out(asked, 0) for asked in (order, guided))
    assert not mask_of(plain).equals(mask_of(went))
    # The weights up to the move, and what was dropped then: all of it had trained downwards.
    until = Client(world).carry_out(replace(order, adjust=None, training=replace_epochs(2)), 0).weights
    assert until is not None
    for name, keep in order.mask.keep.items():
        fell = until[name] < order.weights[name]
        gone = keep & ~mask_of(went).keep[name]
        assert int(gone.sum()) == 4
        assert fell[gone].all() or int((keep & fell).sum()) < 4


def test_a_client_whose_move_raises_leaves_nothing_behind(
    network: Network, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    order, client = adjusting(network), Client(world)
    fine = client.carry_out(order, 0)

    def fails(self: CollectGrowth, weights: object) -> Mask:
        raise RuntimeError("no memory")

    with monkeypatch.context() as patch:
        patch.setattr(CollectGrowth, "moved", fails)
        assert client.send(order, 1).failure == "raised RuntimeError: no memory"
    again = client.carry_out(order, 0)
    assert fine.values is not None
    assert again.values is not None
    assert fine.values.equal(again.values)
