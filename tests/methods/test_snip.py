"""SNIP and GraSP as methods: what they keep of given scores, who is asked, and what crosses the network."""

from collections.abc import Iterator, Sequence

import numpy as np
import pytest
import torch
from torch import Tensor, tensor

from fedtiny.client.world import World
from fedtiny.config.load import ConfigError, load
from fedtiny.methods import Grasp, Snip
from fedtiny.payload.codec import NOTHING, encode_order
from fedtiny.payload.messages import SERVER, Order, Upload
from fedtiny.payload.packing import Layout, Packing
from fedtiny.payload.probes import GradientFlow, Saliency, Scores
from fedtiny.prepare import prepare
from fedtiny.sparse.network import Network
from tests.conftest import SMOKE, Runner, federation


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


class Given:
    """A federation that answers with scores given for each client."""

    def __init__(self, network: Network, answers: dict[int, tuple[int, dict[str, Tensor]]]) -> None:
        layout = Layout({name: x.shape for name, x in network.weights.items()}, frozenset(network.prunable))
        self.packing, self.answers = Packing.of(layout, None), answers
        self.size = len(answers)
        self.asked: list[Order] = []

    def ask(self, order: Order, clients: Sequence[int]) -> Iterator[Upload]:
        self.asked.append(order)
        for client in clients:
            examples, scores = self.answers[client]
            yield Upload(client, examples, float("nan"), None, self.packing, (Scores(scores),))


def ramp(network: Network) -> dict[str, Tensor]:
    """Scores from -1 to 1, ascending through all layers."""
    sizes = [torch.Size(shape).numel() for shape in network.prunable.values()]
    return dict(zip(network.prunable, torch.linspace(-1, 1, sum(sizes)).split(sizes), strict=True))


def test_snip_keeps_the_highest_scores_of_all_layers_and_one_of_each(network: Network) -> None:
    state = Snip(density=0.05).begin(network, Given(network, {SERVER: (16, ramp(network))}), rng())
    assert state.mask is not None
    kept, size = [int(keep.sum()) for keep in state.mask.keep.values()], state.mask.size
    assert sum(kept) == int(0.05 * size)
    last = state.mask.keep[list(network.prunable)[-1]].numel()
    assert kept == [*[1] * (len(kept) - 2), sum(kept) - last - (len(kept) - 2), last]  # the end of the ramp is whole
    for keep in state.mask.keep.values():
        flat = keep.flatten()
        assert flat[-int(keep.sum()) :].all()


def test_grasp_drops_the_highest_scores(network: Network) -> None:
    state = Grasp(density=0.05).begin(network, Given(network, {SERVER: (16, ramp(network))}), rng())
    assert state.mask is not None
    kept = [int(keep.sum()) for keep in state.mask.keep.values()]
    first = state.mask.keep[next(iter(network.prunable))].numel()
    assert kept == [first, sum(kept) - first - (len(kept) - 2), *[1] * (len(kept) - 2)]  # the beginning of the ramp
    for keep in state.mask.keep.values():
        assert keep.flatten()[: int(keep.sum())].all()


@pytest.mark.parametrize("method", [Snip(density=0.25, scope="layer"), Grasp(density=0.25, scope="layer")])
def test_within_layers_all_are_equally_dense(network: Network, method: Snip | Grasp) -> None:
    state = method.begin(network, Given(network, {SERVER: (16, ramp(network))}), rng())
    assert state.mask is not None
    assert set(state.mask.densities().values()) == {0.25}


def test_clients_scores_are_averaged_by_examples(network: Network) -> None:
    names = list(network.prunable)
    zero = {name: torch.zeros(shape).flatten() for name, shape in network.prunable.items()}

    def one(**best: float) -> dict[str, Tensor]:
        return zero | {names[0]: zero[names[0]].index_put((tensor([5]),), tensor(best["a"])).index_put(
            (tensor([9]),), tensor(best["b"]))}  # fmt: skip

    # 1 * 0.9 + 3 * 0.1 = 1.2 for place 5, 1 * 0.1 + 3 * 0.5 = 1.6 for place 9.
    given = Given(network, {0: (1, one(a=0.9, b=0.1)), 1: (3, one(a=0.1, b=0.5))})
    method = Snip(density=len(names) / sum(x.numel() for x in zero.values()), scorer="clients")
    scores = method.scores(network, given)[names[0]].flatten()
    assert [scores[5].item(), scores[9].item()] == pytest.approx([0.3, 0.4])
    state = method.begin(network, given, rng())
    assert state.mask is not None
    assert state.mask.keep[names[0]].flatten().nonzero().tolist() == [[9]]


def test_the_question_is_the_methods_and_about_a_dense_network(network: Network) -> None:
    given = Given(network, {SERVER: (16, ramp(network))})
    Snip(batches=3, batch=16).begin(network, given, rng())
    Grasp(batches=4, batch=8, temperature=50).begin(network, given, rng())
    layers = tuple(network.prunable)
    questions = [Saliency(layers=layers, batches=3, batch=16),
                 GradientFlow(layers=layers, batches=4, batch=8, temperature=50)]  # fmt: skip
    for order, question in zip(given.asked, questions, strict=True):
        assert (order.round, order.mask, order.training, order.probes) == (-1, None, None, (question,))


@pytest.mark.parametrize("method", [Snip(density=0.05), Grasp(density=0.05, batch=8)])
def test_the_server_scores_alone_and_clients_send_a_number_a_weight_once(
    network: Network, world: World, method: Snip | Grasp
) -> None:
    fleet = federation(world, network)
    alone = method.begin(network, fleet, rng())
    assert (fleet.traffic.upload_bytes, fleet.traffic.download_bytes) == (0, 0)
    together = method.model_copy(update={"scorer": "clients"})
    state = together.begin(network, fleet, rng())
    prunable = sum(torch.Size(shape).numel() for shape in network.prunable.values())
    assert fleet.traffic.upload_bytes == 3 * (12 + 4 * prunable)
    order = Order(-1, network.weights, None, None, (together.question(tuple(network.prunable)),))
    assert fleet.traffic.download_bytes == 3 * len(encode_order(order, NOTHING))
    assert state.mask is not None
    assert not state.mask.equals(alone.mask)


def test_scoring_counts_its_passes_of_the_examples_that_are_seen(network: Network, world: World) -> None:
    fleet = federation(world, network)
    forward = sum(2 * layer.macs for layer in network.layers)
    Snip(density=0.05, scorer="clients", batch=10).begin(network, fleet, rng())
    assert fleet.take().measuring_flops == dict.fromkeys(range(3), 3 * forward * 10)
    Grasp(density=0.05, scorer="clients", batch=15).begin(network, fleet, rng())
    assert fleet.take().measuring_flops == {0: 12 * forward * 30, 1: 12 * forward * 24, 2: 12 * forward * 30}


@pytest.mark.parametrize("name", ["snip", "grasp"])
def test_a_server_without_examples_cannot_score(name: str) -> None:
    settings = ["split.public=1", "pretraining.epochs=0", f"method={{name: {name}}}", "method.density=0.05"]
    with pytest.raises(ConfigError) as caught:
        prepare(load([SMOKE], settings))
    assert list(caught.value.problems) == [
        f"split.public: must be at least 2, since {name} so set asks the server itself, got 1"
    ]
    prepare(load([SMOKE], [*settings, "method.scorer=clients", "engine=dense"]))


def test_a_run_tells_where_weights_were_kept(make_run: Runner) -> None:
    result = make_run("method={name: snip, density: 0.05}", "rounds=1", "engine=dense")
    (table,) = result.tables
    assert sum(int(row[2]) for row in table.rows) == int(0.05 * sum(int(row[1]) for row in table.rows))
    assert "Every layer keeps one at least" in table.text
    assert result.summary["selection_bytes"] == 0
    assert result.summary["density_all"] == result.records[-1].density_all
