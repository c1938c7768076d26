import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedtiny.payload.bits import index_bits, pack_bits, pack_mask, unpack_bits, unpack_mask
from fedtiny.payload.codec import (
    NOTHING,
    Held,
    decode_order,
    encode_order,
    held_after,
)
from fedtiny.payload.messages import Order, Upload
from fedtiny.payload.packing import Layout, Packing
from fedtiny.payload.probes import (
    BatchNormStatistics,
    GradientFlow,
    Gradients,
    LocalAccuracy,
    LocalLoss,
    Loss,
    Moments,
    Saliency,
    Scores,
    Statistics,
    TopGradients,
)
from fedtiny.payload.training import Training
from fedtiny.payload.upload import decode_upload, encode_upload, upload_bytes
from fedtiny.payload.values import Quantised
from fedtiny.sparse.mask import Mask
from fedtiny.sparse.network import Network, Weights


def random_mask(network: Network, density: float, seed: int) -> Mask:
    generator = torch.Generator().manual_seed(seed)
    return Mask({name: torch.rand(shape, generator=generator) < density for name, shape in network.prunable.items()})


def masked(network: Network, mask: Mask | None) -> Weights:
    weights = dict(network.weights)
    if mask:
        mask.apply_(weights)
    return weights


def assert_same_order(a: Order, b: Order) -> None:
    assert (a.round, a.training, a.probes) == (b.round, b.training, b.probes)
    assert (a.holdout, a.codec, a.limit) == (b.holdout, b.codec, b.limit)
    assert a.development == pytest.approx(b.development)
    assert list(a.weights) == list(b.weights)
    assert all(x.equal(b.weights[name]) for name, x in a.weights.items())
    assert (a.mask is None and b.mask is None) or (a.mask is not None and a.mask.equals(b.mask))


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 3000), st.floats(0, 1), st.floats(0, 1), st.integers(0, 99), st.booleans())
def test_masks_survive_the_wire(size: int, density: float, other: float, seed: int, known: bool) -> None:
    generator = torch.Generator().manual_seed(seed)
    keep = torch.rand(size, generator=generator) < density
    before = torch.rand(size, generator=generator) < other if known else None
    packed = pack_mask(keep, before)
    back, end = unpack_mask(memoryview(packed), 0, keep.shape, before)
    assert back.equal(keep)
    assert end == len(packed) <= 1 + (size + 7) // 8


@given(st.integers(2, 10_000_000), st.integers(0, 50), st.integers(0, 99))
def test_indices_take_ceil_log2_bits(size: int, count: int, seed: int) -> None:
    indices = np.random.default_rng(seed).integers(0, size, count)
    width = index_bits(size)
    assert 2 ** (width - 1) < size <= 2**width
    packed = pack_bits(indices, width)
    assert len(packed) == (count * width + 7) // 8
    back, end = unpack_bits(memoryview(packed), 0, count, width)
    assert np.array_equal(back, indices)
    assert end == len(packed)


def test_a_conversation_is_decoded_to_the_bit_and_costs_only_what_is_new(network: Network, layout: Layout) -> None:
    first, second = random_mask(network, 0.05, 0), random_mask(network, 0.05, 1)
    one_layer = dict(first.keep)
    one_layer["stages.2.0.conv2.weight"] = second.keep["stages.2.0.conv2.weight"]
    third = Mask(one_layer)
    asked = masked(network, first)
    with_statistics = dict(asked) | {"stem.1.running_mean": torch.full((4,), 0.5)}
    train, slower = Training(epochs=2), Training(epochs=2, lr=0.01)
    probe = TopGradients(count={"stages.0.0.conv1.weight": 3})
    rest = sum(4 * x.numel() for name, x in network.weights.items() if name not in network.prunable)
    sizes = {}
    held = NOTHING
    for name, order in {
        "candidate": Order(-1, asked, first, None, (BatchNormStatistics(),), 0.25),
        "statistics": Order(-1, with_statistics, first, None, (LocalLoss(),), 0.25),
        "train": Order(0, asked, first, train),
        "again": Order(1, asked, first, train),
        "one layer moved": Order(2, masked(network, third), third, slower, (probe,)),
        "dense": Order(3, masked(network, None), None, slower),
        "a limit": Order(4, masked(network, None), None, slower, limit=0.5),
        "codec": Order(5, masked(network, None), None, slower, codec=Quantised(bits=4), limit=0.5),
        "holdout": Order(6, masked(network, None), None, slower, (LocalAccuracy(),), holdout=0.2),
    }.items():
        buffer = encode_order(order, held)
        assert_same_order(decode_order(buffer, layout, held), order)
        held = held_after(order, held)
        sizes[name] = len(buffer)
    assert sizes["statistics"] < 100  # four changed floats, and the small print
    head = 12 + 1 + (len(layout.shapes) + 7) // 8
    assert sizes["again"] == head + len('{"trains":true}') + 4 * first.kept + rest
    assert sizes["train"] < 250  # it holds these weights already: four floats, and the training settings
    # The layer that moved takes a bitmap at most, the others a byte each; then there are settings and a probe.
    kept = 4 * (third.kept - first.kept)
    bitmap = 1 + (layout.sizes["stages.2.0.conv2.weight"] + 7) // 8
    assert kept < sizes["one layer moved"] - sizes["again"] <= kept + bitmap + len(layout.prunable) + 250
    assert sizes["dense"] > 4 * sum(layout.sizes.values())
    assert sizes["a limit"] == len(encode_order(Order(4, masked(network, None), None, slower), held)) + 4
    assert sizes["codec"] == sizes["a limit"] + len(',"codec":{"name":"quantised","bits":4}')
    assert sizes["holdout"] == sizes["a limit"] - 4 + len(',"holdout":0.2,"probes":[{"kind":"local_accuracy"}]')


@settings(max_examples=20, deadline=None)
@given(st.floats(0, 1), st.integers(0, 99))
def test_uploads_survive_the_wire(density: float, seed: int) -> None:
    from fedtiny.models.zoo import ResNet8
    from fedtiny.sparse.network import Prunable

    network = Network.of(ResNet8(width=2).build(1, 4, 0), (1, 8, 8), Prunable())
    layout = Layout({name: x.shape for name, x in network.weights.items()}, frozenset(network.prunable))
    mask = random_mask(network, density, seed)
    layer = "stages.1.0.conv1.weight"
    top = Gradients({layer: (torch.tensor([1, 5, 70]), torch.tensor([0.5, -1.0, 2.0]))})
    mask.keep[layer].view(-1)[[1, 5, 70]] = False  # gradients are of pruned places
    packing = Packing.of(layout, mask)
    weights = masked(network, mask)
    upload = Upload(3, 40, 1.25, packing.pack(weights), packing, (top,))
    order = Order(0, weights, mask, Training(), (TopGradients(count={layer: 3}),))
    buffer = encode_upload(upload)
    back = decode_upload(buffer, order, packing, 3, 40)
    assert (back.client, back.examples, back.loss, back.sent_bytes) == (3, 40, 1.25, len(buffer))
    assert back.weights is not None
    assert all(x.equal(back.weights[name]) for name, x in weights.items())
    (answer,) = back.answers
    assert isinstance(answer, Gradients)
    assert all(x.equal(y) for x, y in zip(answer.layers[layer], top.layers[layer], strict=True))
    # Nothing but kept values, dense tensors, and the top-k pairs; the mask is known and costs nothing.
    rest = sum(4 * x.numel() for name, x in network.weights.items() if name not in network.prunable)
    size = layout.sizes[layer]
    pairs = (3 * index_bits(size) + 7) // 8 + 3 * 4
    assert len(buffer) == upload_bytes(order, packing) == 12 + 4 * mask.kept + rest + pairs


def test_statistics_and_losses_survive_the_wire(network: Network, layout: Layout) -> None:
    layers = {
        name.removesuffix(".running_mean"): Moments(torch.rand(shape), torch.rand(shape), 123)
        for name, shape in layout.shapes.items()
        if name.endswith(".running_mean")
    }
    order = Order(-1, network.weights, None, None, (BatchNormStatistics(), LocalLoss()))
    # A client may have met its layers in another order.
    answer = Statistics({name: layers[name] for name in reversed(list(layers))})
    packing = Packing.of(layout, None)
    upload = Upload(0, 7, float("nan"), None, packing, (answer, Loss(2.5, 7)))
    buffer = encode_upload(upload)
    assert len(buffer) == upload_bytes(order, packing) == 12 + sum(4 + 8 * len(x.mean) for x in layers.values()) + 8
    statistics, loss = decode_upload(buffer, order, packing, 0, 7).answers
    assert loss == Loss(2.5, 7)
    assert isinstance(statistics, Statistics)
    assert list(statistics.layers) == list(layers)
    for name, x in statistics.layers.items():
        assert (x.count, x.mean.equal(layers[name].mean), x.var.equal(layers[name].var)) == (123, True, True)


@pytest.mark.parametrize("flow", [False, True])
def test_scores_survive_the_wire_at_four_bytes_each(network: Network, layout: Layout, flow: bool) -> None:
    names = tuple(network.prunable)[::2]
    probe = (
        GradientFlow(layers=names, batches=2, batch=8, temperature=200)
        if flow
        else Saliency(layers=names, batches=2, batch=8)
    )
    order = Order(-1, network.weights, None, None, (probe,))
    assert_same_order(decode_order(encode_order(order, NOTHING), layout, NOTHING), order)
    scores = Scores({name: torch.randn(layout.sizes[name]) for name in names})
    packing = Packing.of(layout, None)
    buffer = encode_upload(Upload(0, 7, float("nan"), None, packing, (scores,)))
    assert len(buffer) == upload_bytes(order, packing) == 12 + 4 * sum(layout.sizes[name] for name in names)
    (back,) = decode_upload(buffer, order, packing, 0, 7).answers
    assert isinstance(back, Scores)
    assert list(back.layers) == list(names)
    assert all(x.equal(back.layers[name]) for name, x in scores.layers.items())
    for number, complaint in ((float("nan"), "not finite"), (3e8, "must lie within 1e\\+08, got 3e\\+08")):
        scores.layers[names[0]][0] = number
        buffer = encode_upload(Upload(0, 7, float("nan"), None, packing, (scores,)))
        with pytest.raises(ValueError, match=f"scores of {names[0]} .*{complaint}"):
            decode_upload(buffer, order, packing, 0, 7)


def test_a_client_that_trained_holds_no_weights_any_more(network: Network) -> None:
    mask = random_mask(network, 0.1, 0)
    weights = masked(network, mask)
    held = held_after(Order(0, weights, mask, Training()), NOTHING)
    assert held.weights == {}
    assert held.mask is mask
    assert isinstance(held, Held)
