import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from fedtiny.client.world import World
from fedtiny.data.datasets import Synthetic
from fedtiny.data.examples import Examples
from fedtiny.payload.codec import NOTHING, encode_order, held_after
from fedtiny.payload.messages import SERVER, Order
from fedtiny.payload.packing import Layout
from fedtiny.payload.probes import LocalLoss
from fedtiny.payload.training import Training
from fedtiny.server.cohort import cohort
from fedtiny.server.evaluate import Examiner
from fedtiny.server.fingerprint import fingerprint
from fedtiny.server.loop import pretrain
from fedtiny.server.models import density_all
from fedtiny.sparse.cost import forward_flops
from fedtiny.sparse.engine.choose import Engine
from fedtiny.sparse.engine.resident import Resident
from fedtiny.sparse.network import Network
from fedtiny.track.results import number
from tests.client.test_keep_mask import magnitude_mask
from tests.conftest import Runner, federation


def test_a_cohort_is_drawn_anew_each_round_and_is_the_same_for_the_same_seed() -> None:
    assert cohort(4, None, seed=0, round=3) == [0, 1, 2, 3]
    drawn = [cohort(20, 5, seed=0, round=r) for r in range(10)]
    assert all(len(set(c)) == 5 and c == sorted(c) for c in drawn)
    assert len({tuple(c) for c in drawn}) > 5
    assert drawn == [cohort(20, 5, seed=0, round=r) for r in range(10)]
    assert drawn != [cohort(20, 5, seed=1, round=r) for r in range(10)]


def test_the_ledger_counts_what_each_client_would_be_sent(network: Network, layout: Layout, world: World) -> None:
    ledger = federation(world, network)
    mask = magnitude_mask(network, 0.1)
    weights = dict(network.weights)
    mask.apply_(weights)
    train = Order(0, weights, mask, Training(epochs=1, batch=16))
    whole = len(encode_order(train, NOTHING))
    known = len(encode_order(train, held_after(train, NOTHING)))
    uploads = list(ledger.ask(train, [0, 1]))
    first = ledger.take()
    assert first.download_bytes == 2 * whole
    assert first.upload_bytes == sum(upload.sent_bytes for upload in uploads)
    # Clients 0 and 1 know the mask and the settings by now; client 2 was never asked.
    list(ledger.ask(train, [0, 1, 2]))
    assert ledger.take().download_bytes == 2 * known + whole
    assert ledger.take().download_bytes == 0


def test_what_the_server_asks_of_itself_crosses_no_network(network: Network, layout: Layout, world: World) -> None:
    ledger = federation(world, network)
    trained = pretrain(network.weights, ledger, Training(epochs=1, batch=8))
    assert not trained["stem.0.weight"].equal(network.weights["stem.0.weight"])
    traffic = ledger.take()
    assert (traffic.upload_bytes, traffic.download_bytes, traffic.measuring_flops) == (0, 0, {})
    assert SERVER not in range(ledger.size)


def test_the_ledger_counts_the_flops_of_measuring(network: Network, layout: Layout, world: World) -> None:
    ledger = federation(world, network)
    order = Order(-1, network.weights, None, None, (LocalLoss(),), 0.5)
    list(ledger.ask(order, range(3)))
    assert ledger.take().measuring_flops_max == forward_flops(network, None) * 0.5 * 40


def test_evaluation_by_hand(network: Network) -> None:
    images = np.random.default_rng(0).integers(0, 255, (10, 1, 8, 8), dtype=np.uint8)
    labels = np.array([1] * 7 + [3] * 3)
    weights = dict(network.weights)
    weights["head.weight"] = torch.zeros_like(weights["head.weight"])
    weights["head.bias"] = torch.tensor([0.0, 2.0, 0.0, 0.0])  # says 1, whatever it sees
    resident = Resident(network.module, Engine(name="dense"))
    evaluation = Examiner(resident, images, labels, Synthetic(), 4).examine(weights, None)
    assert evaluation is not None
    assert evaluation.accuracy == pytest.approx(0.7)
    total = 3 + float(np.exp(2))
    assert evaluation.loss == pytest.approx(np.log(total) - 0.7 * 2, rel=1e-5)
    assert evaluation.confusion.tolist() == [[0, 0, 0, 0], [0, 7, 0, 0], [0, 0, 0, 0], [0, 3, 0, 0]]
    nothing = Examiner(resident, images[:0], labels[:0], Synthetic(), 4)
    assert nothing.examine(weights, None) is None


def test_the_fingerprint_sees_every_bit_of_weights_and_mask(network: Network) -> None:
    mask, weights = magnitude_mask(network, 0.1), network.weights
    one = fingerprint(weights, mask)
    assert one == fingerprint({name: weights[name] for name in reversed(list(weights))}, mask)
    assert one != fingerprint(weights, None)
    nudged = dict(weights) | {"head.bias": weights["head.bias"] + 1e-7}
    assert one != fingerprint(nudged, mask)


def test_density_over_all_parameters(network: Network) -> None:
    mask = magnitude_mask(network, 0.1)
    assert density_all(network, None, network) == 1.0
    assert density_all(network, mask, network) == pytest.approx(1 - (mask.size - mask.kept) / network.parameters)


def test_nothing_is_chosen_by_test_data(make_run: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same weights come out, to the bit, when every test label is another."""
    honest = make_run()
    read = Synthetic.load

    def mislabelled(self: Synthetic) -> Examples:
        examples = read(self)
        examples.test_labels[:] = (examples.test_labels + 1) % 4
        return examples

    monkeypatch.setattr(Synthetic, "load", mislabelled)
    misled = make_run(folder="misled")
    assert honest.summary["weights_sha256"] == misled.summary["weights_sha256"]
    assert honest.summary["test_accuracy"] != misled.summary["test_accuracy"]


def test_pretraining_sees_public_examples_only(network: Network, layout: Layout, world: World) -> None:
    """It stays the same to the bit when all that clients hold is noise."""
    results = []
    for spoilt in (False, True):
        images = world.images.copy()
        if spoilt:
            for client in range(3):
                images[world.shares[client]] = 0
        other = replace(world, images=images)
        ledger = federation(other, network)
        results.append(pretrain(network.weights, ledger, Training(epochs=2, batch=8)))
    assert all(x.equal(results[1][name]) for name, x in results[0].items())


def test_records_add_up_to_the_summary(make_run: Runner) -> None:
    result = make_run()
    summary = result.summary
    assert json.loads(json.dumps(summary)) == summary
    moved = sum(x.upload_bytes + x.download_bytes for x in result.records)
    total = number(summary, "upload_bytes") + number(summary, "download_bytes")
    assert total == moved + number(summary, "selection_bytes")
    assert summary["weights_sha256"] == result.records[-1].weights_sha256
    assert summary["density"] == result.records[-1].density
    assert any(x.exchanged for x in result.records)
