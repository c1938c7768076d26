"""The FLOPs of a FedTiny order and of dense gradients in every step, against what the abstract reports."""

from dataclasses import replace

import numpy as np
import pytest

from fedtiny.methods import FedTiny
from fedtiny.models.zoo import ResNet18
from fedtiny.payload.messages import Order
from fedtiny.payload.probes import Demand, Sizes, TopGradients
from fedtiny.payload.training import Training
from fedtiny.server.effort import Effort
from fedtiny.sparse.network import Network, Prunable

TRAINING = Training(epochs=5, batch=64)
EXAMPLES = 5_000  # of each of ten clients


@pytest.fixture(scope="module")
def resnet18() -> Network:
    return Network.of(ResNet18().build(3, 10, 0), (3, 32, 32), Prunable(last_layer=True))


class EveryStep(TopGradients):
    """As PruneFL asks: dense gradients of all layers in every step."""

    def demand(self, sizes: Sizes) -> Demand:
        return Demand(tuple(self.count), every_step=True)


def orders(network: Network, scope: str) -> tuple[Order, Order]:
    """FedTiny's at rest, and in its first adjusting round."""
    method = FedTiny.model_validate({"density": 0.01, "scope": scope})
    state = method.sketch(network, np.random.default_rng(0))
    rests, adjusts = (method.order(network, replace(state, round=r), TRAINING) for r in (9, 10))
    assert (len(rests.probes), len(adjusts.probes)) == (0, 1)
    return rests, adjusts


def share(network: Network, order: Order, accounting: str = "rigl") -> float:
    """FLOPs / those of the dense network."""
    effort = Effort.of(network, order)
    return effort.flops(EXAMPLES)[accounting] / effort.dense_flops(EXAMPLES)


def test_the_papers_saving_of_95_91_percent(resnet18: Network) -> None:
    """What this proves, and what not: docs/costs.md."""
    rests, adjusts = orders(resnet18, "network")
    assert Effort.of(resnet18, adjusts).dense_flops(EXAMPLES) == pytest.approx(8.33e13, rel=1e-3)
    assert share(resnet18, rests) == pytest.approx(0.01315, abs=1e-5)
    fedtiny = share(resnet18, adjusts)
    assert fedtiny == pytest.approx(0.01399, abs=1e-5)
    everything = EveryStep(count=dict.fromkeys(resnet18.prunable, 0))
    prunefl = share(resnet18, replace(rests, probes=(everything,)))
    assert prunefl == pytest.approx(0.342, abs=5e-4)
    assert prunefl == pytest.approx((2 * share(resnet18, rests) + 1) / 3, rel=1e-9)
    assert 1 - fedtiny / prunefl == pytest.approx(0.9591, abs=5e-5)


def test_other_readings_do_not_give_it(resnet18: Network) -> None:
    rests, adjusts = orders(resnet18, "network")
    everything = EveryStep(count=dict.fromkeys(resnet18.prunable, 0))
    prunefl = {x: share(resnet18, replace(rests, probes=(everything,)), x) for x in ("rigl", "fedrts")}
    _, block = orders(resnet18, "block")
    saved = [
        1 - share(resnet18, block) / prunefl["rigl"],
        1 - share(resnet18, rests) / prunefl["rigl"],
        1 - share(resnet18, adjusts, "fedrts") / prunefl["fedrts"],
    ]
    assert [round(100 * x, 1) for x in saved] == [96.1, 96.2, 97.8]
    assert prunefl["fedrts"] == pytest.approx(0.671, abs=5e-4)
