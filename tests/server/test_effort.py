"""What a round costs a client: FedTiny's table, worked out for its ResNet-18 at 1 % and ten clients of 5,000 images."""

from dataclasses import replace

import numpy as np
import pytest

from fedtiny.methods import FedTiny, Method, PruneFL, Static
from fedtiny.models.zoo import ResNet18
from fedtiny.payload.training import Training
from fedtiny.server.effort import Effort
from fedtiny.sparse.allocate import Uniform
from fedtiny.sparse.network import Network, Prunable

TRAINING = Training(epochs=5, batch=64)
EXAMPLES = 5_000
SEEN = 25_000  # five epochs


@pytest.fixture(scope="module")
def resnet18() -> Network:
    return Network.of(ResNet18().build(channels=3, classes=10, seed=0), (3, 32, 32), Prunable())


def effort(method: Method, network: Network, round: int) -> Effort:
    state = method.sketch(network, np.random.default_rng(0))
    return Effort.of(network, method.order(network, replace(state, round=round), TRAINING))


def test_prunefl_takes_0_342_of_dense_training_in_an_adjusting_round(resnet18: Network) -> None:
    method = PruneFL(density=0.01, allocation=Uniform(), adjust_every=10)
    plain, adjusting = effort(method, resnet18, 9), effort(method, resnet18, 10)
    # Multiply-adds of one image: stem 1.77 M, four stages 151.0, 134.2, 134.2 and 134.2 M, output layer 5,120.
    macs = 1_769_472 + 150_994_944 + 3 * 134_217_728 + 5_120
    assert macs == pytest.approx(555.42e6, rel=1e-5)
    dense = 2 * macs
    assert adjusting.dense_forward == dense
    # Stem and output layer stay dense, of the stages a hundredth is left: F_s = 0.01316 F_d.
    sparse = 2 * (1_769_472 + 5_120 + 0.01 * (150_994_944 + 3 * 134_217_728))
    assert sparse / dense == pytest.approx(0.01316, abs=1e-5)
    assert adjusting.forward == pytest.approx(sparse, rel=1e-3)  # whole weights
    # Dense training takes 3 F_d an image: 3 * 1.1108 GFLOP * 25,000 = 8.33e13.
    assert adjusting.dense_flops(EXAMPLES) == pytest.approx(3 * dense * SEEN)
    assert adjusting.dense_flops(EXAMPLES) == pytest.approx(8.33e13, rel=1e-3)
    # An adjusting round takes a dense weight gradient in every step: 2 F_s + F_d, (2 * 0.01316 + 1) / 3 = 0.3421.
    flops = adjusting.flops(EXAMPLES)
    assert flops["rigl"] == pytest.approx((2 * sparse + dense) * SEEN, rel=1e-3)
    assert flops["rigl"] == pytest.approx(2.850e13, rel=1e-3)
    assert flops["rigl"] / adjusting.dense_flops(EXAMPLES) == pytest.approx(0.342, abs=5e-4)
    # By FedRTS's accounting it is F_s + 2 F_d, (0.01316 + 2) / 3 = 0.671.
    assert flops["fedrts"] / adjusting.dense_flops(EXAMPLES) == pytest.approx(0.671, abs=5e-4)
    # All other rounds are those of a static mask: 3 F_s.
    assert plain == effort(Static(density=0.01), resnet18, 9)
    assert plain.flops(EXAMPLES)["rigl"] / plain.dense_flops(EXAMPLES) == pytest.approx(0.01316, abs=1e-5)


def test_it_holds_a_number_for_every_prunable_weight(resnet18: Network) -> None:
    method = PruneFL(density=0.01, allocation=Uniform())
    plain, adjusting = effort(method, resnet18, 9), effort(method, resnet18, 10)
    prunable = 147_456 + 524_288 + 2_097_152 + 8_388_608
    # Beside the sums, one output channel of the largest layer's gradient: 512 * 3 * 3 weights.
    assert adjusting.memory_bytes - plain.memory_bytes == 4 * prunable + 4 * 512 * 9


def test_fedtiny_saves_95_91_percent_of_it(resnet18: Network) -> None:
    """With dense gradients of the whole network in one step of 395: methods of counting differ in the last digit."""
    fedtiny = effort(FedTiny(density=0.01, scope="network"), resnet18, 10)
    prunefl = effort(PruneFL(density=0.01, allocation=Uniform()), resnet18, 10)
    # 0.01316 + (1 - 0.01316) / 3 * 64 / 25,000 = 0.01400; a mean step of 25,000 / 395 images would make it 0.01399.
    share = fedtiny.flops(EXAMPLES)["rigl"] / fedtiny.dense_flops(EXAMPLES)
    assert share == pytest.approx(0.01399, abs=2e-5)
    assert 1 - fedtiny.flops(EXAMPLES)["rigl"] / prunefl.flops(EXAMPLES)["rigl"] == pytest.approx(0.9591, abs=1e-4)
