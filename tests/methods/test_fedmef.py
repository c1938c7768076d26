"""FedMef: what its orders ask for, what it drops and grows, and whole runs with and without its parts."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import yaml

from fedtiny.client.world import World
from fedtiny.config.load import ConfigError, load
from fedtiny.methods.aggregation import Mean
from fedtiny.methods.fedmef import FedMef
from fedtiny.methods.progressive import average_gradients
from fedtiny.models.zoo import ResNet8
from fedtiny.payload.probes import Gradients, TopGradients
from fedtiny.payload.training import Training
from fedtiny.prepare import prepare
from fedtiny.server.effort import Effort
from fedtiny.sparse.network import Network
from fedtiny.sparse.select import smallest_kept
from tests.conftest import SMOKE, Runner, federation

METHOD = FedMef(density=0.2, adjust_every=2, stop_round=8)
RUN = "method={name: fedmef, density: 0.05, adjust_every: 1, stop_round: 4, normalised: %s}"


def test_an_order_names_theta_low_and_the_share_of_activations(network: Network) -> None:
    state = METHOD.sketch(network, np.random.default_rng(0))
    training = Training(lr=0.2, lr_schedule="cosine").at(2, 8)
    plain = METHOD.order(network, replace(state, round=3), training)
    assert plain.probes == ()
    assert plain.training is not None
    assert (plain.training.activation_density, plain.training.extrusion) == (0.3, None)
    order = METHOD.order(network, replace(state, round=2), training)
    assert state.mask is not None
    # 0.2 (1 + cos(pi 2 / 8)) = 0.3414 of the kept weights of each layer.
    kept = {name: int(keep.sum()) for name, keep in state.mask.keep.items()}
    sizes = {name: keep.numel() for name, keep in state.mask.keep.items()}
    counts = {name: min(int(0.34142 * n), sizes[name] - n, n - 1) for name, n in kept.items()}
    counts = {name: count for name, count in counts.items() if count}
    assert len(counts) > 4
    assert order.training is not None
    assert order.training.extrusion is not None
    assert order.training.extrusion.counts == counts
    assert order.training.extrusion.lr == 0.2  # the first round's, not this one's
    assert order.probes == (TopGradients(count=counts),)
    # A device remembers theta_low and the top gradients.
    more = Effort.of(network, order).memory_bytes - Effort.of(network, plain).memory_bytes
    assert more >= (4 + 8) * sum(counts.values())
    assert (
        Effort.of(network, order).activation_bytes
        < Effort.of(network, replace(plain, training=training)).activation_bytes
    )


def test_a_configuration_that_prunes_more_activations_is_obeyed(network: Network) -> None:
    state = METHOD.sketch(network, np.random.default_rng(0))
    for asked, given in ((0.1, 0.1), (0.6, 0.3)):
        training = METHOD.order(network, state, Training(activation_density=asked)).training
        assert training is not None
        assert training.activation_density == given


def test_theta_low_is_dropped_and_the_largest_gradients_grow(network: Network, world: World) -> None:
    fleet = federation(world, network)
    state = replace(METHOD.begin(network, fleet, np.random.default_rng(0)), round=2)
    order = METHOD.order(network, state, Training(epochs=2, batch=16))
    uploads = list(fleet.ask(order, range(3)))
    after = METHOD.absorb(network, state, uploads, Mean().fold())
    assert state.mask is not None
    assert after.mask is not None
    assert order.training is not None
    assert order.training.extrusion is not None
    told = [(x.examples, answer) for x in uploads for answer in x.answers if isinstance(answer, Gradients)]
    counts = order.training.extrusion.counts
    gradients = average_gradients(told, {name: network.prunable[name] for name in counts})
    changed = 0
    for name, keep in state.mask.keep.items():
        new = after.mask.keep[name]
        exchanged = int((keep & ~new).sum())
        assert (
            int((new & ~keep).sum())
            == exchanged
            == min(counts.get(name, 0), int((gradients[name][~keep] != 0).sum()) if name in counts else 0)
        )
        # Chosen by what the round started from: those are the weights that were emptied.
        assert (keep & ~new).equal(smallest_kept(keep, state.weights[name], exchanged))
        if exchanged:
            grown = gradients[name].abs()[new & ~keep]
            assert float(grown.min()) >= float(gradients[name].abs()[~keep & ~new].max())
        assert not after.weights[name][~new].any()
        assert not after.weights[name][new & ~keep].any()
        changed += exchanged
    assert changed > 20


def test_it_trains_a_network_of_normalised_weights_unless_told_otherwise() -> None:
    def never(model: object) -> Network:
        raise AssertionError(model)

    assert METHOD.network(ResNet8(width=4), never) == ResNet8(width=4, normalisation="weight")
    plain = FedMef(normalised=False)
    assert plain.network(ResNet8(width=4), never) == ResNet8(width=4)
    assert plain.network(ResNet8(normalisation="weight"), never).normalisation == "weight"


def test_random_masks_are_random_and_keep_as_many(network: Network) -> None:
    ours, theirs = (
        FedMef(density=0.1, score=score).sketch(network, np.random.default_rng(0)) for score in ("magnitude", "random")
    )
    assert ours.mask is not None
    assert theirs.mask is not None
    assert ours.mask.kept == theirs.mask.kept
    assert not ours.mask.equals(theirs.mask)


@pytest.mark.parametrize(("normalised", "engine"), [("true", "auto"), ("false", "dense"), ("false", "sparse")])
def test_whole_runs(make_run: Runner, normalised: str, engine: str) -> None:
    result = make_run(RUN % normalised, f"engine={engine}", "training.lr_schedule=cosine")
    assert any(record.exchanged for record in result.records)
    assert result.state.mask is not None
    assert result.state.mask.density <= 0.05
    assert all(np.isfinite(record.train_loss) for record in result.records)
    normed = [name for name in result.state.weights if "running" in name]
    assert bool(normed) == (normalised == "false")
    assert any(name.endswith(".gain") for name in result.state.weights) == (normalised == "true")
    told = result.summary["engine"]
    assert isinstance(told, dict)
    if normalised == "true":
        assert told["name"] == "dense"
        assert "no kernels for what can be pruned here (NormalisedConv2d)" in told["reason"]


def test_the_sparse_engine_is_refused_where_it_has_nothing_to_do() -> None:
    with pytest.raises(ConfigError, match=r"no kernels for what can be pruned.*; set engine=auto or engine=dense"):
        prepare(load([SMOKE], [RUN % "true", "engine=sparse"]))


def test_extrusion_is_not_for_a_configuration() -> None:
    extrusion = yaml.safe_dump({"counts": {}, "penalty": 0.1, "lr": 0.1}, default_flow_style=True).strip()
    for key in ("training", "pretraining"):
        with pytest.raises(ConfigError, match=rf"{key}.extrusion: is for the method to order, so it must be none"):
            prepare(load([SMOKE], [f"{key}.extrusion={extrusion}"]))


def test_a_mask_that_never_moves_is_remarked_on() -> None:
    assert "never moves" in FedMef(adjust_every=50).remarks(20)[0]
    assert FedMef(fraction=0).remarks(20) == ()


def test_fedtiny_selects_and_trains_without_batch_norm(make_run: Runner) -> None:
    """No statistics to adapt; all else as ever. And activations can be pruned under any method."""
    result = make_run("model.normalisation=weight", "training.activation_density=0.5")
    assert len(result.records) == 4
    assert any(record.exchanged for record in result.records)
    assert torch.isfinite(torch.tensor([record.train_loss for record in result.records])).all()
