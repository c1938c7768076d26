"""Orders that hold something for one client alone: bytes, effort, models, and what is told of them."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open

from fedtiny.client.client import Client
from fedtiny.client.world import World
from fedtiny.config.load import load
from fedtiny.data.datasets import Synthetic
from fedtiny.methods.base import ServerState
from fedtiny.payload.codec import NOTHING, encode_order, held_after
from fedtiny.payload.messages import Order, Personal
from fedtiny.payload.packing import Packing
from fedtiny.payload.training import Training
from fedtiny.payload.upload import upload_bytes
from fedtiny.prepare import Prepared, prepare
from fedtiny.run import run
from fedtiny.server.asked import Asked
from fedtiny.server.cohort import Population
from fedtiny.server.devices import DeviceClass, Devices
from fedtiny.server.effort import Effort
from fedtiny.server.evaluate import Examiner
from fedtiny.server.model_file import save_masks
from fedtiny.server.models import Models
from fedtiny.sparse.engine.choose import Engine
from fedtiny.sparse.engine.resident import Resident
from fedtiny.sparse.mask import Mask
from fedtiny.sparse.network import Network
from fedtiny.track.record import RoundRecord
from fedtiny.track.sinks import Sink
from tests.client.test_keep_mask import magnitude_mask
from tests.conftest import SMOKE, Runner, federation
from tests.server.test_checkpoint import lasting

TRAINING = Training(epochs=1, batch=16)


def order_of(network: Network) -> Order:
    """Client 0 keeps a tenth, client 1 everything, under a limit; client 2 has nothing of its own."""
    weights = network.weights
    own = {0: Personal(weights, magnitude_mask(network, 0.1)), 1: Personal(weights, None, 0.5)}
    shared = magnitude_mask(network, 0.5)
    masked = dict(network.weights)
    shared.apply_(masked)
    return Order(0, masked, shared, TRAINING, personal=own)


def test_what_each_client_gets(network: Network) -> None:
    order = order_of(network)
    first, second, third = (order.of(k) for k in range(3))
    assert not first.personal
    assert first.mask is order.personal[0].mask
    assert first.mask is not None
    assert all(not first.weights[name][~keep].any() for name, keep in first.mask.keep.items())
    assert (first.limit, second.limit, third.limit) == (None, 0.5, None)
    assert second.weights["head.bias"] is order.personal[1].weights["head.bias"]
    assert (second.mask, third.mask) == (None, order.mask)
    assert third.weights is order.weights
    assert order.to([1, 2]).personal.keys() == {1}
    plain = Order(0, network.weights, None, TRAINING)
    assert plain.of(3) is plain
    assert plain.to([3]) is plain


def test_shared_weights_are_pickled_once(network: Network) -> None:
    weights = network.weights
    own = {k: Personal(weights, None, 1.0) for k in range(50)}
    one, many = (len(pickle.dumps(Order(0, weights, None, TRAINING, personal=x))) for x in ({}, own))
    assert many < one + 50 * 100


def test_the_ledger_counts_of_each_client_its_own(network: Network, world: World) -> None:
    order, ledger = order_of(network), federation(world, network)
    uploads = {upload.client: upload for upload in ledger.ask(order, range(3))}
    traffic = ledger.take()
    assert traffic.download_bytes == sum(len(encode_order(order.of(k), NOTHING)) for k in range(3))
    assert traffic.upload_bytes == sum(upload.sent_bytes for upload in uploads.values())
    plain = {k: Client(world).carry_out(order.of(k), k) for k in range(3)}
    for k, upload in uploads.items():
        assert (upload.values is None) == (plain[k].values is None) == (k == 1)  # nobody gets below 0.5 so soon
        assert upload.values is None or upload.values.equal(torch.as_tensor(plain[k].values))
        assert upload.packing.cuts == Packing.of(world.layout, order.of(k).mask).cuts
    # The second time each knows its own mask: what it holds is its own too.
    list(ledger.ask(order, range(3)))
    again = sum(len(encode_order(order.of(k), held_after(order.of(k), NOTHING))) for k in range(3))
    assert ledger.take().download_bytes == again
    assert ledger.held[0].mask is order.personal[0].mask


def test_effort_is_each_clients_own(network: Network, world: World) -> None:
    order = order_of(network)
    asked = Asked(order, network, world.layout)
    for k in range(3):
        assert asked.effort(k) == Effort.of(network, order.of(k))
        assert asked.packing(k).size == Packing.of(world.layout, order.of(k).mask).size
    devices = Devices(classes={"phone": DeviceClass()})
    people = Population(devices, ("phone",) * 3, {0: 40, 1: 24, 2: 33}, 0)
    tasks = people.tasks(asked, dict.fromkeys(range(3), 1000))
    for k, examples in people.examples.items():
        flops = asked.effort(k).flops(examples)["rigl"]
        assert tasks[k] == devices.task("phone", 1000, flops, upload_bytes(order, asked.packing(k)))


PERSONAL = "method={name: lotteryfl, density: 0.05, rate: 0.9, accuracy: 0.0, holdout: 0.3}"
KEEPING = "method={name: fl_pqsu, density: 0.05}"


def test_a_round_tells_the_most_that_a_client_had_to_do(make_run: Runner) -> None:
    result = make_run(PERSONAL, "rounds=4", "evaluate_every=2")
    first, last = result.records[0], result.records[-1]
    assert all(x.personal for x in result.records)
    assert first.memory_bytes > last.memory_bytes  # in the last all are pruned
    assert first.dense_flops < last.dense_flops  # nothing is held out any more
    assert last.flops["rigl"] < 0.5 * first.flops["rigl"]
    assert last.upload_bytes < 0.5 * first.upload_bytes
    assert 0.04 < last.density < 0.2
    assert last.density == pytest.approx(np.mean([x.mask.density for x in own(result.state) if x.mask]))
    assert result.summary["personal"] is True
    assert result.summary["density"] == last.density
    assert [x.test_accuracy is None for x in result.records] == [True, False, True, False]


def own(state: ServerState) -> list[Personal]:
    config = load([SMOKE], [PERSONAL])
    network = prepare(config).network
    return list(config.method.models(network, state).values())


def test_masks_of_clients_are_on_disk_beside_the_servers_model(make_run: Runner, tmp_path: Path) -> None:
    result = make_run(PERSONAL)
    with safe_open(tmp_path / "run" / "personal.safetensors", framework="pt") as file:
        for client, personal in enumerate(own(result.state)):
            assert personal.mask is not None
            for name, keep in personal.mask.keep.items():
                assert file.get_tensor(f"{client}/{name}").equal(keep)
    make_run(KEEPING, folder="other")
    assert not (tmp_path / "other" / "personal.safetensors").exists()


def test_masks_that_clients_share_are_written_of_each(tmp_path: Path) -> None:
    shared = Mask({"weight": torch.tensor([True, False])})
    save_masks(tmp_path / "personal.safetensors", {0: shared, 1: shared, 2: None})
    with safe_open(tmp_path / "personal.safetensors", framework="pt") as file:
        assert [file.get_tensor(f"{client}/weight").tolist() for client in (0, 1)] == [[True, False]] * 2


class Cut(Exception):
    """Somebody pulled the plug."""


class PullsThePlug(Sink):
    """Breaks a run off in the middle of a round: it is not on disk yet."""

    def round(self, record: RoundRecord) -> None:
        if record.round == 3:
            raise Cut


SHARED = "method={name: lotteryfl, density: 0.05, personal: false, adjust_every: 2, stop_round: 4, rewind: true}"


@pytest.mark.parametrize("method", [PERSONAL, KEEPING, SHARED])
def test_a_run_that_was_broken_off_goes_on_to_the_same_result(tmp_path: Path, method: str) -> None:
    """Cohorts, so that clients hold different things."""
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    whole.mkdir()
    broken.mkdir()

    def prepared() -> Prepared:
        return prepare(load([SMOKE], [method, "rounds=6", "clients=4", "cohort=3"]))

    run(prepared(), whole)
    with pytest.raises(Cut):
        run(prepared(), broken, [PullsThePlug()])
    run(prepared(), broken, resume=True)
    assert lasting(broken) == lasting(whole)


def test_personal_accuracy_by_hand(network: Network) -> None:
    """Seven examples of class 1 and three of class 3; one client's model always says 1, the others' always 3."""
    images = np.random.default_rng(0).integers(0, 255, (10, 1, 8, 8), dtype=np.uint8)
    examiner = Examiner(
        Resident(network.module, Engine(name="dense")), images, np.array([1] * 7 + [3] * 3), Synthetic(), 4
    )

    def says(label: int) -> dict[str, torch.Tensor]:
        bias = torch.zeros(4)
        bias[label] = 2.0
        return dict(network.weights) | {"head.weight": torch.zeros(4, 16), "head.bias": bias}

    three = says(3)
    models = {0: Personal(says(1), None), 1: Personal(three, None), 2: Personal(three, None)}
    # Client 0 meets 1 and 3 as 3 to 1; 1 meets 3 alone; 2 meets 1 alone, and 0, which there is no example of.
    counts = [(0, 3, 0, 1), (0, 0, 0, 2), (5, 2, 0, 0)]
    state = ServerState(1, network.weights, None)
    told = Models(network, state, network, models).examine(examiner, counts)
    assert told is not None
    assert told.confusion.tolist() == [[0, 0, 0, 0], [0, 3, 0, 2], [0, 0, 0, 0], [0, 1, 0, 2]]
    assert told.accuracy == pytest.approx((3 + 2) / 8)
    right, wrong = (float(np.log(3 + np.exp(2))) - x for x in (2, 0))
    assert told.loss == pytest.approx((5 * right + 3 * wrong) / 8, rel=1e-5)
    nobody = Examiner(examiner.resident, images[:0], examiner.labels[:0], Synthetic(), 4)
    assert Models(network, state, network, models).examine(nobody, counts) is None


def test_without_models_of_clients_the_servers_is_examined_as_ever(network: Network) -> None:
    images = np.random.default_rng(0).integers(0, 255, (10, 1, 8, 8), dtype=np.uint8)
    examiner = Examiner(Resident(network.module, Engine(name="dense")), images, np.arange(10) % 4, Synthetic(), 4)
    mask = magnitude_mask(network, 0.1)
    weights = dict(network.weights)
    mask.apply_(weights)
    models = Models(network, ServerState(0, weights, mask), network)
    one, other = models.examine(examiner, ()), examiner.examine(weights, mask)
    assert one is not None
    assert other is not None
    assert (one.loss, one.accuracy) == (other.loss, other.accuracy)
    assert (models.density, models.layer_densities) == (mask.density, mask.densities())
